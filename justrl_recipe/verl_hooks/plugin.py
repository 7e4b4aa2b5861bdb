"""What veRL loads from this package in each of its processes (entry-point group `verl.plugins`).

veRL 0.9.1 loads the target while `verl` itself is still being imported (verl/__init__.py), Ray workers
included, and logs a failure at DEBUG only. So this module registers at import and imports nothing heavy: the folders
of the recipes with Hydra, for veRL's own entry point, and the CPU platform where `VERL_PLATFORM=cpu` asks for it.
"""

import os

from justrl_recipe import search_path

search_path.register()

if os.environ.get("VERL_PLATFORM") == "cpu":
    from justrl_recipe.cpu import enable

    enable()
