"""`verl responses`: what a model wrote, of the responses that a run has kept."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from justrl_recipe.errors import UserError
from justrl_recipe.responses import reading
from justrl_recipe.responses.reading import Group, Response
from justrl_recipe.responses.text import last_box
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.terminal import Console, one_line, plain, warn

EXAMPLE = "Example: verl responses runs/justrl_tiny-20260101-120000 --step 24 --wrong"
MOST = 40  # responses that are printed
INDENT = "    "
STYLES = {"right": "green", "wrong": "red", "unjudged": ""}


def responses(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    step: Annotated[int | None, typer.Option(metavar="N", min=0, help="A step; default the latest.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only responses that are wrong.")] = False,
    cut: Annotated[bool, typer.Option("--cut", help="Only responses that were cut off at the limit.")] = False,
) -> None:
    """Print responses that a run has kept, with reward, length, and why they are right or wrong."""
    file = RunFolder(run).responses
    if not os.path.lexists(file):
        raise UserError(f"no {file}: give the folder of a run that has kept responses (keep_responses above 0)")
    found = Found()
    for group in reading.read(file):
        found.look(group, step, wrong, cut)
    if found.broken:
        warn(f"{file}: {found.broken:,} lines are not readable and left out")
    if not found.steps:
        raise UserError(f"{file} holds no responses")
    if step is not None and step not in found.steps:
        near = sorted(sorted(found.steps, key=lambda other: abs(other - step))[:5])
        raise UserError(f"{file} has no responses of step {step}: give another, such as {', '.join(map(str, near))}")
    console = Console(soft_wrap=True)
    left = MOST
    for group in found.groups:
        show(console, group._replace(responses=group.responses[:left]))
        left -= min(left, len(group.responses))
        if not left:
            break
    count = sum(len(group.responses) for group in found.groups)
    more = f", {MOST} of which are printed" if count > MOST else ""
    warn(f"{count:,} responses selected{more}; steps kept: {', '.join(map(str, few(sorted(found.steps))))}")


class Found:
    """What is selected of a file: at one step, of each prompt the responses that are asked for."""

    def __init__(self) -> None:
        self.steps: set[int] = set()
        self.groups: list[Group] = []
        self.broken = 0

    def look(self, group: Group | None, step: int | None, wrong: bool, cut: bool) -> None:
        """Take a group; without a step, the latest one that has any response that is asked for."""
        if group is None:
            self.broken += 1
            return
        self.steps.add(group.step)
        asked = tuple(
            one for one in group.responses if (one.verdict == "wrong" or not wrong) and (one.cut or not cut)
        )
        latest = self.groups[0].step if self.groups else -1
        if not asked or (step is None and group.step < latest) or (step is not None and group.step != step):
            return
        if group.step > latest:
            self.groups = []
        self.groups.append(group._replace(responses=asked))


def few(steps: list[int]) -> list[int | str]:
    """The steps, without the middle of many."""
    return list(steps) if len(steps) <= 12 else [*steps[:6], "...", *steps[-6:]]


def show(console: Console, group: Group) -> None:
    """Print a prompt and its responses."""
    console.print(Text(f"step {group.step}, {group.batch}, {one_line(group.data_source)}", "bold"))
    console.print(indented(Text(plain(group.prompt))))
    console.print(f"ground truth: {one_line(group.ground_truth)}\n")
    for response in group.responses:
        console.print(heading(response))
        text = Text(plain(response.text))
        text.stylize("bold reverse", *last_box(text.plain))
        console.print(indented(text))
        console.print()


def heading(response: Response) -> Text:
    """A response in a line: the verdict, why, and what was measured."""
    parts = [" ".join(filter(None, (response.verdict, response.reason and f"({one_line(response.reason)})")))]
    parts += [] if response.reward is None else [f"reward {response.reward:+.3g}"]
    parts += [] if response.tokens is None else [f"{response.tokens:,} tokens"]
    parts += [] if response.entropy is None else [f"entropy {response.entropy:.2f}"]
    parts += ["cut off"] if response.cut else []
    return Text(", ".join(parts), STYLES[response.verdict])


def indented(text: Text) -> Text:
    return Text("\n").join(Text(INDENT) + line for line in text.split("\n", allow_blank=True))
