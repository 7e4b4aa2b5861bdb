"""`verl report`: what the curves of training runs look like, whether they are healthy, and whether this is JustRL."""

import time
import webbrowser
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe.terminal import say, warn

EXAMPLE = "Example: verl report runs/justrl_tiny-20260101-120000 runs/justrl_tiny-20260101-130000 --out report"
POLL = 3  # seconds between looks at growing metrics


class GroupBy(str, Enum):
    ARM = "arm"
    NAME = "name"
    RUN = "run"


def report(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or veRL's file, console or TensorBoard logs.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write it; default the one run folder, or report."),
    ] = None,
    group_by: Annotated[
        GroupBy | None,
        typer.Option(
            help="One curve per arm (mean and band over seeds), per name of an arm (its runs may have other values), "
            "or per run; default arm if one has several."
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Rewrite it until the runs end.")] = False,
) -> None:
    """Draw and assess the dynamics of training runs, as one HTML page, PNGs and PDFs."""
    folder = out or (paths[0] if len(paths) == 1 and paths[0].is_dir() else Path("report"))
    try:
        if watch:
            follow(paths, folder, group_by, open_it)
        else:
            page, _ = write_report(paths, folder, group_by, None)
            say(f"{page}, and {page.with_suffix('')}/*.png and *.pdf")
            if open_it:
                open_in_browser(page)
    except KeyboardInterrupt as interrupt:
        warn("interrupted")
        raise typer.Exit(130) from interrupt


def write_report(
    paths: Sequence[Path], out: Path, group_by: GroupBy | None, refresh: int | None
) -> tuple[Path, list[int]]:
    """Read the runs and write their report; the page, and the last step of each run."""
    from justrl_recipe.report import runs

    loaded = [runs.load(path) for path in paths]
    found = runs.with_labels(runs.joined_by_name(loaded) if group_by == GroupBy.NAME else loaded)
    from justrl_recipe.report.page import write  # matplotlib takes a second: after what may be wrong

    by_arm = group_by != GroupBy.RUN if group_by else None
    return write(found, out, refresh, by_arm), [run.last_step for run in found]


def follow(paths: Sequence[Path], out: Path, group_by: GroupBy | None, open_it: bool) -> None:
    """Write the report whenever a run has grown, until all of them have ended."""
    from justrl_recipe.report.logs import NoStepYet, growing
    from justrl_recipe.report.runs import ended

    seen = None
    while True:
        running = not all(map(ended, paths))  # of a process that died no file changes
        about = [file.stat() for path in paths for file in growing(path)]
        now = running, [(file.st_size, file.st_mtime_ns) for file in about]
        if now != seen:
            seen = now
            try:
                page, steps = write_report(paths, out, group_by, POLL if running else None)
            except NoStepYet as waiting:
                if not running:
                    raise
                say(f"{waiting}: waiting for it")
            else:
                say(f"{page}: step {', '.join(f'{step:,}' for step in steps)}")
                if open_it:
                    open_in_browser(page)
                    open_it = False
                if not running:
                    return
        time.sleep(POLL)


def open_in_browser(page: Path) -> None:
    if not webbrowser.open(page.absolute().as_uri()):
        warn(f"no browser found: open {page} in one")
