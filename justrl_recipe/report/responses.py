"""The responses that runs have kept, as the page shows them: which of them, and their text as safe HTML."""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

from markupsafe import Markup, escape

from justrl_recipe.report.runs import Run
from justrl_recipe.responses import reading
from justrl_recipe.responses.reading import TRAINING, VALIDATION, Group, Response
from justrl_recipe.responses.summary import Counts, Moment, Phrase, Prompt, Summary, counts, order
from justrl_recipe.responses.text import last_box
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.terminal import plain

PAGE_BYTES = 9 << 19  # of the responses on a page, over all runs
CARD_BYTES = 700  # of a response without its text
ROWS = 60  # of a table of steps
PROMPTS = 8  # that are shown over the steps
FOLDED = 900  # characters of a text beyond which its middle is folded
BEGINNING, END = 250, 450  # characters that are shown before and after the fold
LEFT_OUT = re.compile(r"\[\.\.\. [\d,]+ characters left out \.\.\.\]")


class Card(NamedTuple):
    """A response: the text before the fold, in it, and after it; `folded` characters are in it."""

    about: Response
    folded: int
    beginning: Markup
    middle: Markup
    end: Markup


class Shown(NamedTuple):
    """A prompt at a step; `anchor` is unlike that of every other on the page."""

    anchor: str
    group: Group
    prompt: Markup
    truth: Markup
    cards: list[Card]


class Visit(NamedTuple):
    """A step at which a prompt was kept; `anchor` is empty where its responses are not shown."""

    moment: Moment
    counts: Counts
    anchor: str
    end: Markup


class Section(NamedTuple):
    """The responses of one run.

    kept: over all of them.
    steps: what is counted at each step, or at most at `ROWS` of them.
    shown: by batch, then by step.
    """

    label: str
    kept: Counts
    broken: int
    moments: int
    steps: list[tuple[Moment, Counts, str]]
    openings: list[Phrase]
    endings: list[Phrase]
    shown: list[tuple[str, list[tuple[int, Counts, list[Shown]]]]]
    prompts: list[tuple[Markup, Markup, list[Visit]]]

    @property
    def shown_moments(self) -> int:
        return sum(len(moments) for _, moments in self.shown)


def sections(runs: Sequence[Run]) -> list[Section]:
    """The responses of the runs that have kept any.

    Raises:
        UserError: a file of responses cannot be read.
    """
    with_responses = [run for run in runs if run.path.is_dir() and os.path.lexists(RunFolder(run.path).responses)]
    made = [
        section(run, f"r{number}", PAGE_BYTES // len(with_responses)) for number, run in enumerate(with_responses)
    ]
    return [one for one in made if one.moments or one.broken]


def section(run: Run, name: str, most: int) -> Section:
    """Read a run's responses twice: once to count, once for the texts that are shown, in at most `most` bytes."""
    file = RunFolder(run.path).responses
    summary = Summary.of(reading.read(file))
    moments = summary.ordered
    chosen = {moment for kind in (TRAINING, VALIDATION) for moment in choose(summary, kind, most // 2)}
    shown: dict[Moment, list[Shown]] = {}
    left = most
    for group in reading.read(file):
        if group is None or not group.responses or (moment := (group.step, group.batch)) not in chosen:
            continue
        anchor = f"{name}-{group.batch}-{group.step}-{len(shown.get(moment, []))}"
        one = shown_group(anchor, group)
        left -= size(one)
        if left >= 0:
            shown.setdefault(moment, []).append(one)
    anchors = {
        (moment, (one.group.data_source, one.group.prompt)): one.anchor for moment in shown for one in shown[moment]
    }
    by_moment = {moment: counts(groups) for moment, groups in summary.moments.items()}
    return Section(
        label=run.label,
        kept=counts([group for groups in summary.moments.values() for group in groups]),
        broken=summary.broken,
        moments=len(moments),
        steps=[
            (moment, by_moment[moment], shown[moment][0].anchor if moment in shown else "")
            for moment in spread(moments, ROWS)
        ],
        openings=summary.phrases(summary.openings),
        endings=summary.phrases(summary.endings),
        shown=[
            (batch, [(step, by_moment[step, of], shown[step, of]) for step, of in sorted(shown) if of == batch])
            for batch in sorted({batch for _, batch in shown})
        ],
        prompts=[
            (safe(prompt), safe(groups[0].ground_truth), visits(groups, anchors))
            for (_, prompt), groups in followed(summary)
        ],
    )


def choose(summary: Summary, batch: str, most: int) -> list[Moment]:
    """The moments whose responses fit into `most` bytes: all, or as many as fit at equal distances."""
    moments = [moment for moment in summary.ordered if moment[1] == batch]
    taken = {moment: summary.size[moment] + CARD_BYTES * counted(summary, moment) for moment in moments}
    chosen = moments
    while len(chosen) > 2 and sum(taken[moment] for moment in chosen) > most:
        chosen = spread(moments, max(2, len(chosen) * 9 // 10))
    return chosen


def counted(summary: Summary, moment: Moment) -> int:
    return sum(len(group.responses) for group in summary.moments[moment])


def spread(moments: Sequence[Moment], most: int) -> list[Moment]:
    """At most `most` moments, at equal distances, with the first and the last."""
    if len(moments) <= most:
        return list(moments)
    return [moments[round(at * (len(moments) - 1) / (most - 1))] for at in range(most)]


def followed(summary: Summary) -> list[tuple[Prompt, list[Group]]]:
    """The prompts that were kept at most moments, of those at two or more."""
    often = [(prompt, groups) for prompt, groups in summary.prompts.items() if len(groups) > 1]
    return sorted(often, key=lambda one: -len(one[1]))[:PROMPTS]


def visits(groups: Sequence[Group], anchors: Mapping[tuple[Moment, Prompt], str]) -> list[Visit]:
    """A prompt over the steps: of two groups at one moment, the first."""
    by_moment: dict[Moment, Group] = {}
    for group in groups:
        by_moment.setdefault((group.step, group.batch), group)
    found = []
    for moment in spread(sorted(by_moment, key=order), ROWS):
        group = by_moment[moment]
        anchor = anchors.get((moment, (group.data_source, group.prompt)), "")
        found.append(Visit(moment, counts([group]), anchor, safe(group.responses[0].text)))
    return found


def shown_group(anchor: str, group: Group) -> Shown:
    cards = [card(response) for response in group.responses]
    return Shown(anchor, group, safe(group.prompt), safe(group.ground_truth), cards)


def size(one: Shown) -> int:
    """About how many bytes of the page it takes."""
    texts = [one.prompt, one.truth, *(text for card in one.cards for text in (card.beginning, card.middle, card.end))]
    return sum(len(text.encode()) for text in texts) + CARD_BYTES * len(one.cards)


def card(response: Response) -> Card:
    """A response with its last box marked, which is the answer, and the middle of a long one apart."""
    text = plain(response.text)
    first, last = (BEGINNING, len(text) - END) if len(text) > FOLDED else (len(text), len(text))
    box = last_box(text)
    parts = [marked(text, start, end, box) for start, end in pairwise((0, first, last, len(text)))]
    return Card(response, last - first, *parts)


def marked(text: str, start: int, end: int, box: tuple[int, int]) -> Markup:
    """A part of a text as HTML, with what of the box lies in it marked."""
    first, last = (min(max(edge, start), end) for edge in box)
    before, inside, after = (noted(text[a:b]) for a, b in pairwise((start, first, last, end)))
    return before + Markup("<mark>{}</mark>").format(inside) + after if inside else before + after


def noted(text: str) -> Markup:
    """A text as HTML, with the note of what was left out set apart."""
    parts = LEFT_OUT.split(text)
    notes = [Markup('<span class="note">{}</span>').format(note) for note in LEFT_OUT.findall(text)]
    return Markup("").join(piece for pair in zip_longest(map(escape, parts), notes, fillvalue="") for piece in pair)


def safe(text: str) -> Markup:
    """A text as HTML, without control characters and marks that change the direction of text."""
    return escape(plain(text))
