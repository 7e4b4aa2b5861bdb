"""What veRL loads from this package in each of its processes (entry-point group `verl.plugins`).

veRL 0.9.1 loads the target while `verl` itself is still being imported (verl/__init__.py), Ray workers included, and
logs a failure at DEBUG only. So this module acts at import, and imports nothing heavy but torch, which veRL has
imported by then, and TransferQueue with it. It registers the folders of the recipes with Hydra, for veRL's own entry
point, has torch's stores listen on loopback where their clients come by it, gives each run its own TransferQueue,
which computes with its process's threads, and registers the CPU platform where `VERL_PLATFORM=cpu` says so.
"""

import faulthandler
import os
import signal

from justrl_recipe import search_path
from justrl_recipe.verl_hooks import patches

search_path.register()
faulthandler.register(signal.SIGUSR2)  # run/watch.py has each process print its stacks when a run hangs
patches.listen_on_loopback()
patches.separate_queues()
patches.transfer_with_own_threads()

if os.environ.get("VERL_PLATFORM") == "cpu":
    from justrl_recipe.cpu import enable

    enable()
