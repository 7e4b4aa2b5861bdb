"""`verl report`: what the curves of training runs look like, whether they are healthy, and whether this is JustRL."""

import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from justrl_recipe.terminal import say, warn

if TYPE_CHECKING:
    from justrl_recipe.report.runs import Run

EXAMPLE = "Example: verl report runs/justrl_tiny-20260101-120000 runs/justrl_tiny-20260101-130000 --out report"
POLL = 3.0  # seconds between looks at growing metrics
Signature = tuple[bool, list[tuple[int, int]]]  # whether a run goes on, and its files


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or veRL's file, console or TensorBoard logs.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where it is written; default the one run folder, or report."),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Write it again as the runs go on, until they end.")] = False,
) -> None:
    """Draw and judge the dynamics of training runs, as one HTML page and PNGs."""
    folder = out or (runs[0] if len(runs) == 1 and runs[0].is_dir() else Path("report"))
    try:
        if watch:
            follow(runs, folder, open_it)
        else:
            page = write_report(read(runs), folder, None)
            say(f"{page}, and {page.with_suffix('')}/*.png")
            if open_it:
                show(page)
    except KeyboardInterrupt as interrupt:
        warn("interrupted")
        raise typer.Exit(130) from interrupt


def read(paths: Sequence[Path]) -> "list[Run]":
    from justrl_recipe.report import runs

    return runs.with_labels([runs.load(path) for path in paths])


def write_report(runs: "Sequence[Run]", out: Path, refresh: int | None) -> Path:
    from justrl_recipe.report.page import write  # matplotlib takes a second: after what may be wrong

    return write(runs, out, refresh)


def follow(paths: Sequence[Path], out: Path, open_it: bool) -> None:
    """Write the report whenever a run has grown, until all of them have ended."""
    from justrl_recipe.report import logs
    from justrl_recipe.report import runs as loading

    seen: Signature | None = None
    opened = False
    while True:
        running = not all(map(loading.ended, paths))  # of a process that died no file changes
        now = running, [signature(file) for path in paths for file in logs.growing(path)]
        if now != seen:
            seen = now
            try:
                found = read(paths)
            except logs.NoStepYet as waiting:
                if not running:
                    raise
                say(f"{waiting}: waiting for it")
            else:
                page = write_report(found, out, round(POLL) if running else None)
                say(f"{page}: step {', '.join(f'{run.last_step:,}' for run in found)}")
                if open_it and not opened:
                    show(page)
                    opened = True
                if not running:
                    return
        time.sleep(POLL)


def signature(file: Path) -> tuple[int, int]:
    """What changes when a file grows."""
    about = file.stat()
    return about.st_size, about.st_mtime_ns


def show(page: Path) -> None:
    if not webbrowser.open(page.absolute().as_uri()):
        warn(f"no browser found: open {page} in one")
