"""responses.jsonl -> the prompts and responses that a run kept; of a foreign file, those that are right."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from justrl_recipe import files
from justrl_recipe.responses.text import PROMPT, SHORT, kept, shortened

TRAINING, VALIDATION = "training", "validation"
MOST = 100_000  # lines, and responses, that are read
MOST_OF_A_PROMPT = 64
LONGEST = 20_000  # characters of a response that are read
LARGEST = 1e15  # of a number


class Response(NamedTuple):
    """One response; None where it was not at hand.

    text: without its middle, where it is long.
    left_out: characters that are not in `text`.
    tokens: of the whole response.
    cut: whether it reached the limit of tokens.
    reward: what the run learned from, penalties included.
    acc: 1 where it is right.
    reason: why the reward function decided so.
    entropy: the policy's, mean over the response's tokens, in nats.
    boxes, repeated, non_english: of the whole response, see text.py.
    """

    text: str
    left_out: int
    tokens: int | None
    cut: bool
    reward: float | None
    acc: float | None
    reason: str
    entropy: float | None
    boxes: int
    repeated: float
    non_english: float

    @property
    def verdict(self) -> str:
        """`right`, `wrong`, or `unjudged` where the reward function gives no accuracy."""
        return "unjudged" if self.acc is None else "right" if self.acc >= 1 else "wrong"


class Group(NamedTuple):
    """A prompt at a step, with its responses.

    batch: `training` or `validation`.
    """

    step: int
    batch: str
    data_source: str
    prompt: str
    ground_truth: str
    responses: tuple[Response, ...]

    @property
    def right(self) -> int:
        """How many responses are right."""
        return sum(response.verdict == "right" for response in self.responses)


def read(file: Path) -> Iterator[Group | None]:
    """Each line of the file as a group, None where it is none; a last line that is still being written is left out.

    Raises:
        files.Unreadable: it cannot be read, or a line is too long.
    """
    responses = 0
    for line in islice(files.lines(file), MOST):
        try:
            found = parse(line)
            responses += len(found.responses)
        except ValueError:
            found = None
        if responses > MOST:
            return
        if found is not None or line.endswith(b"\n"):
            yield found


def parse(line: bytes) -> Group:
    """The group in a line; raises ValueError where it is none."""
    entry = files.parse_json(line.decode())
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    step, batch, responses = entry.get("step"), entry.get("batch"), entry.get("responses")
    if type(step) is not int or not 0 <= step < LARGEST or batch not in (TRAINING, VALIDATION):
        raise ValueError("not a step of a batch")
    if not isinstance(responses, list) or not all(isinstance(one, dict) for one in responses):
        raise ValueError("no responses")
    return Group(
        step=step,
        batch=batch,
        data_source=_text(entry, "data_source", SHORT),
        prompt=_text(entry, "prompt", PROMPT),
        ground_truth=_text(entry, "ground_truth", SHORT),
        responses=tuple(_response(one) for one in responses[:MOST_OF_A_PROMPT]),
    )


def _response(entry: dict[str, Any]) -> Response:
    tokens = _number(entry, "tokens")
    text = entry.get("text")
    return Response(
        text=kept(text if isinstance(text, str) else "", LONGEST // 2, LONGEST // 2)[0],
        left_out=int(_number(entry, "left_out") or 0),
        tokens=None if tokens is None else int(tokens),
        cut=entry.get("cut") is True,
        reward=_number(entry, "reward"),
        acc=_number(entry, "acc"),
        reason=_text(entry, "reason", SHORT),
        entropy=_number(entry, "entropy"),
        boxes=int(_number(entry, "boxes") or 0),
        repeated=_number(entry, "repeated") or 0.0,
        non_english=_number(entry, "non_english") or 0.0,
    )


def _text(entry: dict[str, Any], name: str, length: int) -> str:
    value = entry.get(name)
    return shortened(value, length) if isinstance(value, str) else ""


def _number(entry: dict[str, Any], name: str) -> float | None:
    """A number as a float; None where it is none, or too large to be one of ours."""
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST else None
