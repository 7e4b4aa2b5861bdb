"""How responses are sampled, in `verl eval` and by the generation config of an exported model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """vLLM's sampling parameters; `max_tokens` of a response."""

    temperature: float
    top_p: float
    max_tokens: int


PAPER = Sampling(temperature=0.7, top_p=0.9, max_tokens=31_744)
