"""Every command and file that the documentation names exists, with options, recipes, ablations, systems and keys."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import typer
from documents import FILES, LANGUAGES, ROOT, blocks, commands, mentions

from justrl_recipe import config
from justrl_recipe.cli import app
from justrl_recipe.cli.cat import find

PLACEHOLDER = re.compile(r"[A-Z_]+(\.yaml|\.\.\.)?")  # RECIPE, KEY=VALUE, FILE.yaml, RUN...
GROUP = typer.main.get_command(app)
FOLDERS = (
    "ablations",
    "benchmarks",
    "docker",
    "examples",
    "justrl_recipe",
    "recipes",
    "requirements",
    "reward_fns",
    "tests",
)
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@functools.cache
def keys(recipe: str) -> set[str]:
    """Every key of a recipe, sections included."""
    file = str(ROOT / recipe) if recipe.endswith(".yaml") else recipe
    leaves = config.load(config.Request(file)).raw
    return {key.rsplit(".", up)[0] for key in leaves for up in range(key.count(".") + 1)}


def of_a_reader(name: str) -> bool:
    """Whether a name stands for something that a reader has or writes: RECIPE, mine.yaml."""
    return bool(PLACEHOLDER.fullmatch(name)) or (name.endswith(".yaml") and "/" not in name)


def words(command: str) -> list[list[str]]:
    """The words of each simple command of a line, without comments, variables set before it, and redirections."""
    found: list[list[str]] = [[]]
    lexer = shlex.shlex(command, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    for word in lexer:
        if word[0] in ";|&()":
            found.append([])
        elif found[-1] or not re.match(r"[A-Z_]+=", word):
            found[-1].append(word)
    return [simple for simple in found if simple]


def check_verl(arguments: list[str]) -> None:
    """Parse the arguments as the command line does, and look up the names among them."""
    command, context = GROUP, GROUP.make_context("verl", list(arguments), resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    given = context.params
    if name in ("cat", "cp"):
        assert PLACEHOLDER.fullmatch(given["name"]) or given["name"] == config.THIS_MACHINE or find(given["name"])
        return
    if "recipe" not in given:
        return
    parts = [(part, config.ABLATIONS) for part in given["ablation"] or ()]
    parts += [(part, config.SYSTEMS) for part in (given["system"],) if part and part != config.THIS_MACHINE]
    for part, folder in parts:
        assert of_a_reader(part) or (ROOT / part).is_file() or part in config.names(folder), f"{part} does not exist"
    recipe = "justrl_tiny" if of_a_reader(given["recipe"]) else given["recipe"]
    assert "/" in recipe or recipe in config.recipe_names(), f"{recipe} does not exist"
    for override in given["overrides"] or ():
        key, equals, _ = override.partition("=")
        assert equals, f"{override} is not KEY=VALUE"
        assert key[0] == "+" or PLACEHOLDER.fullmatch(key) or key in keys(recipe), f"{key} is not a key of {recipe}"


def check(simple: list[str]) -> None:
    """Check a simple command: programs of this repository, and paths in it. A command with a variable is skipped."""
    program, *arguments = simple
    if "$" in " ".join(simple):
        return
    if program.endswith(("verl", "justrl")) and arguments and not arguments[0][0].isupper():
        check_verl(arguments)
    elif program == "make":
        assert {target for target in arguments if "=" not in target} <= set(TARGETS), "not a target of the Makefile"
    for word in simple:
        path = word.rpartition("=")[2].partition("::")[0]
        if path.split("/")[0] in FOLDERS and "*" not in path:
            assert (ROOT / path).exists(), f"{path} does not exist"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_exists(file: Path):
    for command in commands(file):
        for simple in words(without_optional(command)):
            try:
                check(simple)
            except Exception as error:
                pytest.fail(f"{command}: {error}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_mentioned_command_exists(file: Path):
    for command in mentions(file):
        if not re.match(r"(\S*/)?(verl|justrl|make|python|pytest) ", command):
            continue
        for simple in words(without_optional(command)):
            try:
                check(simple)
            except Exception as error:
                if not str(error).startswith("Missing parameter"):  # `verl plan` names the command
                    pytest.fail(f"{command}: {error}")


def without_optional(command: str) -> str:
    """Without what stands in brackets, `[KEY=VALUE ...]` or `[--fork-loss]`."""
    return re.sub(r"\[(-|[A-Z])[^]]*\]( \.\.\.)?", "", command)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_mentioned_file_exists(file: Path):
    """`benchmarks/tiny.py`, and `tests/unit/test_run.py::test_name` with the test in it."""
    missing = []
    for mention in mentions(file):
        path, _, test = mention.partition("::")
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]+", path):
            found = (ROOT / path).exists() and (not test or f"def {test}(" in (ROOT / path).read_text())
            missing += [] if found else [mention]
    assert missing == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_block_has_a_language(file: Path):
    assert [block.line for block in blocks(file) if not block.info or block.info[0] not in LANGUAGES] == []
