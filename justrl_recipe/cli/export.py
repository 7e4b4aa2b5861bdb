"""`verl export`: a checkpoint of a run as a model folder in Hugging Face's format, with a model card."""

from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe import hub, processes
from justrl_recipe.terminal import say, warn

EXAMPLE = "Example: verl export runs/justrl_tiny-20260101-120000 my-model --step best"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The model folder to write: new or empty.")],
    step: Annotated[
        str, typer.Option(metavar="N|best|last", help="The checkpoint; best: by validation accuracy.")
    ] = "last",
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Keep a LoRA adapter as one, instead of merging it.")
    ] = False,
    evaluation: Annotated[
        Path | None,
        typer.Option("--eval", metavar="FOLDER", help="Results of verl eval for the model card; default in evals/."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload OUT to the hub; a new repository is private.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code in the files of RUN: Python, pickled weights.")
    ] = False,
) -> None:
    """Export a checkpoint as a Hugging Face model folder with a model card."""
    from justrl_recipe.export import folder

    try:
        if push is not None:
            hub.require_login(push)
        with processes.stoppable():
            request = folder.Request(run, out, push or out.absolute().name, step, adapter, evaluation, trust)
            exported = folder.export(request)
            say(f"step {exported} of {run} is written to {out}")
            if push:
                say(f"uploaded to {hub.upload(out, push)}")
    except KeyboardInterrupt as interrupt:
        warn("interrupted")
        raise typer.Exit(130) from interrupt
