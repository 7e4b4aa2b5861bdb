"""What a check of a data file found: how many rows, which, and whether that is an error."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from justrl_recipe.data import rl_dataset
from justrl_recipe.data.rl_dataset import Batch

EXAMPLES = 3
# All responses to a row that cannot be rewarded get the same reward, so the row has no advantage and only takes its
# place in the batch. Up to this share that is a batch some rows smaller; beyond it, the file is in another format.
SHARE = 0.1
NEVER, ALWAYS = 1.0, 0.0


@dataclass
class Finding:
    """One question to every row.

    Attributes:
        ask: of a batch, an array of shape (rows,): is it true of the row?
        share: it is an error in more than this share of the rows, and a warning below.
        count: how many rows it is true of; None where it could not be asked.
        rows: the first few of them, counted from 1.
    """

    name: str
    ask: Callable[[Batch], numpy.ndarray] = field(repr=False)
    share: float = SHARE
    note: str = ""
    count: int | None = 0
    rows: list[int] = field(default_factory=list)

    @classmethod
    def unasked(cls, name: str, note: str) -> "Finding":
        return cls(name, lambda batch: numpy.zeros(batch.rows, bool), note=note, count=None)

    def look(self, batch: Batch) -> None:
        if self.count is not None:
            found = numpy.flatnonzero(self.ask(batch))
            self.count += len(found)
            self.rows = [*self.rows, *(batch.start + found[:EXAMPLES] + 1).tolist()][:EXAMPLES]

    def spoils(self, rows: int) -> bool:
        return (self.count or 0) > self.share * rows

    def where(self, rows: int) -> str:
        """The share of the rows that it is true of, and the first of them."""
        named = ", ".join(map(str, self.rows)) + ", ..." * (self.count != len(self.rows))
        return f"{(self.count or 0) / rows:.1%}, row{'s' * (len(self.rows) > 1)} {named}"

    def said(self, rows: int) -> str:
        """One line: of how many rows it is true, of which, and what that means."""
        note = f": {self.note}" if self.note else ""
        return f"{self.name}: {self.count:,} of {rows:,} rows ({self.where(rows)}){note}"


@dataclass
class Report:
    file: str
    rows: int
    findings: list[Finding]

    @property
    def spoiled(self) -> bool:
        return any(finding.spoils(self.rows) for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        findings = [
            {
                "name": finding.name,
                "count": finding.count,
                "spoils": finding.spoils(self.rows),
                "note": finding.note,
                "rows": finding.rows,
            }
            for finding in self.findings
        ]
        return {"file": self.file, "rows": self.rows, "spoiled": self.spoiled, "findings": findings}

    def as_lines(self) -> list[str]:
        width = max(len(finding.name) for finding in self.findings)
        lines = [f"{self.file}: {self.rows:,} rows"]
        for finding in self.findings:
            mark = {None: "?", 0: "ok"}.get(finding.count, "x" if finding.spoils(self.rows) else "-")
            count = "" if finding.count is None else f"{finding.count:,}"
            where = [finding.where(self.rows)] if finding.rows else []
            why = "; ".join(where + [finding.note] * (finding.count != 0 and finding.note != ""))
            lines.append(f"{mark:>3} {finding.name:<{width}}{count:>9}  {why}".rstrip())
        return lines


def ask(file: Path, findings: list[Finding], prompt_key: str = "prompt") -> Report:
    """Put the questions to all rows of a file; errors as in `rl_dataset.read`."""
    rows = 0
    for batch in rl_dataset.read(file, prompt_key):
        rows += batch.rows
        for finding in findings:
            finding.look(batch)
    return Report(str(file), rows, findings)
