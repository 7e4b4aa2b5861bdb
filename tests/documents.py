"""The commands of the documentation: blocks of README.md, CONTRIBUTING.md, docs/ and examples/, and inline code.

A block is ```sh (commands) or ```console (`$ command`, then what it prints). With the word `runnable` behind that, it
is run as it stands by e2e/test_runnable_blocks.py, and has to end with the exit code that `exit=N` gives, or 0.
Of all others unit/test_documented_commands.py checks that the commands exist.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
FILES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
LANGUAGES = ("sh", "console", "yaml", "python", "text")


@dataclass(frozen=True)
class Block:
    """A fenced block: the words of its info string, its text, and its first line in the file."""

    info: tuple[str, ...]
    text: str
    line: int

    @property
    def runnable(self) -> bool:
        return "runnable" in self.info

    @property
    def exit_code(self) -> int:
        return next((int(word.removeprefix("exit=")) for word in self.info if word.startswith("exit=")), 0)

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Each command, continued lines joined, with what it prints ("" in a block without output)."""
        text = self.text.replace("\\\n", " ")
        if self.info[0] == "sh":
            return [(line.strip(), "") for line in text.splitlines() if line.strip()]
        parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def blocks(file: Path) -> list[Block]:
    """The fenced blocks of a Markdown file, in its order."""
    tokens = MarkdownIt().parse(file.read_text())
    return [
        Block(tuple(token.info.split()), token.content, token.map[0] + 1)
        for token in tokens
        if token.type == "fence" and token.map
    ]


def commands(file: Path) -> Iterator[str]:
    """Every command in the blocks of a file."""
    for block in blocks(file):
        if block.info[:1] in (("sh",), ("console",)):
            yield from (command for command, _ in block.steps)


def mentions(file: Path) -> Iterator[str]:
    """Every inline code of a file."""
    for token in MarkdownIt().enable("table").parse(file.read_text()):
        for child in token.children or ():
            if child.type == "code_inline":
                yield " ".join(child.content.replace("\\|", "|").split())
