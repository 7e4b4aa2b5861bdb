"""`verl eval`: generate responses, grade them, compute scores, compare. It starts in evaluation_run.py."""
