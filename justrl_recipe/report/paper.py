"""What the paper reports of its run on DeepSeek-R1-Distill-Qwen-1.5B (arXiv 2512.16649): the only place it stands.

The bands are read off the text and figures of training dynamics; they hold for the full recipe and nothing smaller.
"""

from typing import NamedTuple

SOURCE = "the paper's DeepSeek run (arXiv 2512.16649)"


class Band(NamedTuple):
    """A range that a metric moves in.

    text: the range as the paper states it.
    corners: (step, low, high); straight between two of them, level after the last.
    """

    text: str
    corners: tuple[tuple[float, float, float], ...]


ENTROPY = (1.0, 1.6)  # throughout
COLLAPSED_ENTROPY = 0.6  # where the arms with the overlong penalty end: 0.5 to 0.6

BANDS = {
    "actor/entropy": Band("1.0 to 1.6", ((0, *ENTROPY),)),
    "critic/score/mean": Band("from -0.6 to +0.4", ((0, -0.6, 0.4),)),
    "response_length/mean": Band(
        "from 8,000 to 4,000-5,000 by step 1,000", ((0, 7_500, 8_500), (1_000, 4_000, 5_000))
    ),
}
