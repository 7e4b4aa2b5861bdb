"""What veRL loads from this package in each of its processes (entry-point group `verl.plugins`).

veRL 0.9.1 loads the target while `verl` itself is still being imported (verl/__init__.py), Ray workers
included, and logs a failure at DEBUG only. So this module registers at import, imports nothing heavy, and
does something only where it is asked to: `VERL_PLATFORM=cpu`.
"""

import os

if os.environ.get("VERL_PLATFORM") == "cpu":
    from justrl_recipe.cpu import enable

    enable()
