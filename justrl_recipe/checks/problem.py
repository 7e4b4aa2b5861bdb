"""What a check finds."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Problem:
    """Something that would spoil a run: the key or file that it is about, why, and how to mend it."""

    key: str
    why: str
    mend: str

    as_dict = asdict

    def __str__(self) -> str:
        return f"{self.key}: {self.why}: {self.mend}"
