"""The responses that a run keeps, in its folder's responses.jsonl: a line for each prompt at each step.

`selection.py` says which, `text.py` how much of each, `reading.py` reads them back, `summary.py` counts over them.
verl_hooks/responses.py writes them.
"""
