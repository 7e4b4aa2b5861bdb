"""The robust verifier's parts, in the order in which an answer passes them.

| module | in | out |
|---|---|---|
| brackets | a response | the content of its last box |
| spelling, with units, words | that text | one spelling for all ways to write it |
| literals | a spelled text | the exact fraction that it is, if it is a plain number |
| workers, worker_pool | two spelled texts | a verdict, from a process that is killed at a limit |

What the worker process does:

| module | in | out |
|---|---|---|
| reading | a spelled text | what kind of answer it is, an `Answer` |
| equality, with equations, real_sets | two such answers | whether they are the same |
| parsing | the text of an expression | sympy's expression |
| exact, with exact_numbers | two expressions | whether they are equal |
"""
