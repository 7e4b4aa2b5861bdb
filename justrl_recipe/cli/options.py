"""What names a run on the command line: the same for every verb that takes a recipe."""

import re
from typing import Annotated

import typer

from justrl_recipe.checks import CHECKS
from justrl_recipe.config import Request, nearest
from justrl_recipe.errors import UserError

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe by path or bare name; `verl ls` lists them.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Hydra overrides of single keys.")]
Ablation = Annotated[
    list[str] | None,
    typer.Option("--ablation", metavar="NAME|FILE", help="An ablation by name or path; may be given several times."),
]
System = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Where the run happens, by name or path; never what it learns."),
]

Address = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="The Ray cluster to join, HOST:PORT or `auto`; default RAY_ADDRESS."),
]

Time = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Save, stop and exit with 75 after e.g. 23h50m, as on SIGTERM."),
]
TIME = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,9})s?)?")


def known_checks(names: list[str] | None) -> list[str] | None:
    """The names as they are.

    Raises:
        UserError: no check has such a name.
    """
    for name in names or []:
        if name not in CHECKS:
            raise UserError(f"--skip-check: no check {name!r}: {nearest(name, list(CHECKS))}")
    return names


SkipCheck = Annotated[
    list[str] | None,
    typer.Option(
        "--skip-check",
        metavar="NAME",
        callback=known_checks,
        help="A check to skip, by the name in brackets; repeatable.",
    ),
]


def request(recipe: str, overrides: list[str] | None, ablation: list[str] | None, system: str | None) -> Request:
    """The request that the arguments make.

    Raises:
        UserError: an override is not KEY=VALUE.
    """
    for override in overrides or []:
        if "=" not in override and not override.startswith("~"):
            raise UserError(f"{override!r} is not KEY=VALUE: overrides look like trainer.total_training_steps=10")
    return Request(recipe, system, tuple(ablation or ()), tuple(overrides or ()))


def seconds(time: str | None) -> float | None:
    """The seconds of a time such as 23h50m, 90m or 2d.

    Raises:
        UserError: it is not a time.
    """
    if time is None:
        return None
    match = TIME.fullmatch(time)
    if not match or not any(match.groups()):
        raise UserError(f"--stop-after {time}: it is not a time such as 23h50m, 90m or 45s")
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
