"""What an engine is asked for and what it answers, as it goes between the processes."""

from dataclasses import dataclass, field

from justrl_recipe.evaluation.trained import Template


@dataclass(frozen=True)
class Prompt:
    """What the user says to the model, before the chat template; `name` is for error messages."""

    name: str
    text: str


@dataclass(frozen=True)
class Request:
    """One response wanted: to the Job's prompt number `prompt`, drawn with this seed."""

    prompt: int
    seed: int


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn; `max_tokens` of a response."""

    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True)
class Resources:
    """What an engine runs on: `tensor_parallel` GPUs, `max_num_seqs` sequences at a time (None: vLLM's default)."""

    tensor_parallel: int = 1
    max_num_seqs: int | None = None


@dataclass(frozen=True)
class Job:
    """What one engine has to do.

    Attributes:
        model: a Hugging Face folder.
        prompts: also those that no request asks for: the engine's context is made for the longest.
        template: how they become tokens.
        trust: run the Python code that the model brings.
    """

    model: str
    prompts: list[Prompt]
    requests: list[Request]
    sampling: Sampling
    resources: Resources
    template: Template = field(default_factory=Template)
    trust: bool = False


@dataclass(frozen=True)
class Generated:
    """The response to the Job's request number `index`."""

    index: int
    text: str
    tokens: int
    finish_reason: str


@dataclass(frozen=True)
class Refused:
    """Why the job cannot be done: one line that the user can act on."""

    why: str
