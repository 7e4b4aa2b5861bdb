"""What is counted over the responses that a run keeps: at each step, of each prompt, and how they begin and end."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from justrl_recipe.responses.reading import VALIDATION, Group, Response
from justrl_recipe.responses.text import shortened

WORDS = 5  # of an opening and an ending
PHRASE = 80  # characters of them
DIGITS = re.compile(r"\d+")
FREQUENT = 10

Moment = tuple[int, str]  # step and batch, in the order of a run: the validation of a step comes after its training
Prompt = tuple[str, str]  # data source and text


class Counts(NamedTuple):
    """Over the responses of one step or prompt: shares and means; None where no response has it."""

    prompts: int
    responses: int
    right: int | None
    reward: float | None
    tokens: float | None
    cut: float
    boxes: float
    repeated: float
    non_english: float


def counts(groups: Sequence[Group]) -> Counts:
    """What is counted over groups with at least one response."""
    found = [response for group in groups for response in group.responses]
    judged = any(response.acc is not None for response in found)
    return Counts(
        prompts=len({(group.data_source, group.prompt) for group in groups}),
        responses=len(found),
        right=sum(group.right for group in groups) if judged else None,
        reward=mean(response.reward for response in found),
        tokens=mean(response.tokens for response in found),
        cut=mean(response.cut for response in found) or 0.0,
        boxes=mean(response.boxes for response in found) or 0.0,
        repeated=mean(response.repeated for response in found) or 0.0,
        non_english=mean(response.non_english for response in found) or 0.0,
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Of the values that are there; None without any."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def order(moment: Moment) -> tuple[int, bool]:
    """The place of a moment in a run."""
    return moment[0], moment[1] == VALIDATION


class Phrase(NamedTuple):
    """An opening or an ending, and the share of the responses that have it, early and late in training."""

    text: str
    early: float
    late: float


@dataclass
class Summary:
    """Of all groups of a file; without their texts.

    broken: lines that are no group.
    size: bytes of all texts of a moment.
    """

    broken: int = 0
    moments: dict[Moment, list[Group]] = field(default_factory=lambda: defaultdict(list))
    prompts: dict[Prompt, list[Group]] = field(default_factory=lambda: defaultdict(list))
    size: Counter[Moment] = field(default_factory=Counter)
    openings: dict[Moment, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    endings: dict[Moment, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @classmethod
    def of(cls, groups: Iterable[Group | None]) -> "Summary":
        """Of what `reading.read` yields."""
        found = cls()
        for group in groups:
            if group is None or not group.responses:
                found.broken += 1
                continue
            moment = group.step, group.batch
            found.openings[moment].update(opening(one.text) for one in group.responses)
            found.endings[moment].update(ending(one.text) for one in group.responses)
            texts = (group.prompt, *(one.text for one in group.responses))
            found.size[moment] += sum(len(text.encode("utf-8", "replace")) for text in texts)
            slim = group._replace(responses=tuple(map(without_text, group.responses)))
            found.moments[moment].append(slim)
            found.prompts[group.data_source, group.prompt].append(slim)
        return found

    @property
    def ordered(self) -> list[Moment]:
        """The moments in the order of the run."""
        return sorted(self.moments, key=order)

    def phrases(self, kind: dict[Moment, Counter[str]]) -> list[Phrase]:
        """The most frequent openings or endings of the first and the last third of the training steps."""
        training = [moment for moment in self.ordered if moment[1] != VALIDATION] or self.ordered
        third = -(-len(training) // 3)
        early, late = Counter[str](), Counter[str]()
        for moment in training[:third]:
            early += kind[moment]
        for moment in training[-third:]:
            late += kind[moment]
        shares = [
            Phrase(text, early[text] / (early.total() or 1), late[text] / (late.total() or 1))
            for text in early.keys() | late.keys()
        ]
        return sorted(shares, key=lambda one: (-max(one.early, one.late), one.text))[:FREQUENT]


def without_text(response: Response) -> Response:
    """A response with no more than its end, which shows what it came to."""
    return response._replace(text=response.text[-2 * PHRASE :].strip())


def opening(text: str) -> str:
    """The first words of a response, with # for each number."""
    return phrase(text[: 4 * PHRASE].split()[:WORDS])


def ending(text: str) -> str:
    """The last words of a response, with # for each number."""
    return phrase(text[-4 * PHRASE :].split()[-WORDS:])


def phrase(words: Sequence[str]) -> str:
    return shortened(DIGITS.sub("#", " ".join(words)), PHRASE)
