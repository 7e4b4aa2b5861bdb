"""`verl doctor`: can this installation train, and if not, which commands fix it?"""

import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from justrl_recipe.cli import options
from justrl_recipe.doctor import cluster
from justrl_recipe.doctor.checks import Check, run_checks
from justrl_recipe.errors import UserError
from justrl_recipe.terminal import Console, say_json, warn

EXAMPLE = "Example: verl doctor --json"
MARKS = {"ok": ("ok", "green"), "problem": ("xx", "red"), "unknown": ("?", "yellow")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    of_cluster: Annotated[bool, typer.Option("--cluster", help="Ask the nodes of a Ray cluster instead.")] = False,
    address: options.Address = None,
) -> None:
    """Tell whether this installation can train, and how to fix it (exit code 1: problems, 2: could not check).

    On a machine with GPUs it checks training on them; with CUDA_VISIBLE_DEVICES= training on the CPU.
    """
    console = Console(stderr=True)
    try:
        with console.status("looking at the GPUs") as status:
            if of_cluster or address:
                status.update("asking the nodes")
                checks = cluster.run_checks(address)
            else:
                checks = run_checks(lambda running: status.update(f"waiting for {', '.join(running)}"))
    except KeyboardInterrupt as interrupt:
        warn("interrupted")
        raise typer.Exit(130) from interrupt
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"cannot check: {error}") from error
    found = {check.status for check in checks}
    if as_json:
        say_json({"ok": found == {"ok"}, "checks": list(map(asdict, checks))})
    else:
        show(checks)
    raise typer.Exit(1 if "problem" in found else 2 if "unknown" in found else 0)


def show(checks: Sequence[Check]) -> None:
    """One line per question, and under a problem what fixes it."""
    console = Console(soft_wrap=True)
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark, colour = MARKS[check.status]
        console.print(Text.assemble((f"{mark:>3}", colour), f" {check.name:<{width}}  {check.says}"))
        if check.fix:
            console.print(Text(f"{'':>{width + 4}}  fix: {check.fix}"))
