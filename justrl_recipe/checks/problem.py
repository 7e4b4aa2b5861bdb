"""What a check finds, and the names of the checks."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["error", "warning", "unchecked"]

CHECKS = {
    "missing-value": "keys that a run cannot do without",
    "removed-key": "keys and sections that were removed, set to null or replaced",
    "type": "values of another type than the default's",
    "choice": "values that are not in veRL's list",
    "unknown-key": "keys that neither veRL nor this package knows",
    "legacy-key": "sections that veRL 0.9.1 replaced by `reward`",
    "unused-key": "keys that veRL does not read on the recipe's path",
    "no-effect": "switches whose coefficient is zero",
    "validation-length": "a separate length for in-training validation",
    "model-override": "changes to the model's config.json",
    "count": "sizes that are not above 0",
    "batch-size": "batches that do not divide",
    "parallelism": "parallel sizes that do not divide the GPUs or the model's heads",
    "token-budget": "token budgets and windows that a full sequence exceeds",
    "context": "sequences longer than the model's context",
    "kernel": "kernels that do not take the model, or are slow",
    "weight-bucket": "a bucket that does not hold the largest matrix",
    "architecture": "models that the recipe's path does not run",
    "overlong-penalty": "a penalty without what it needs",
    "group-filter": "dynamic sampling beside the recipe's sampler",
    "log-probs": "log-probs of vLLM that a correction needs in every step",
    "critic-warmup": "steps without an update of the actor",
    "trainer": "another trainer than the recipe's",
    "launcher": "settings that starting the run would replace, that Ray would refuse, or with which it would hang",
    "logger": "trackers that veRL does not know or that are not installed",
    "accelerators": "GPUs of this machine, where the run joins no Ray cluster",
    "host-memory": "memory of this machine for the state that is not on its GPUs",
    "cluster": "nodes of a Ray cluster that lack something, differ, or have no room (run/cluster.py)",
    "resume": "a checkpoint to resume from, and a reward function that is not what the run started with",
    "hang": "a run that hangs, or a process of it that died, while it trains (run/watch.py)",
    "checkpoint": "checkpoints that could be lost or not be resumed from",
    "disk": "space for the checkpoints",
    "import-path": "modules and files of code that are not there",
    "reward-import": "a reward function that cannot be imported",
    "model": "the model's files",
    "data-file": "data files that are missing or cannot be read",
    "data-schema": "columns that veRL reads",
    "data-content": "ground truths and prompts",
    "data-rows": "rows for a batch",
    "data-steps": "rows and epochs for the steps",
    "prompt-length": "prompts longer than the limit",
    "chat-template": "a model without a chat template",
    "stock-scorer": "data that veRL's scorer does not accept",
}


@dataclass(frozen=True)
class Problem:
    """What a check found.

    Attributes:
        check: its name, one of `CHECKS`, which `--skip-check` takes.
        key: the config key or the file that it is about.
        why: what is wrong with it.
        fix: what to do.
        level: an `error` would crash the run, lose data or make it learn something else than was asked; the run
            starts in spite of a `warning`; `unchecked` is what could not be checked.
    """

    check: str
    key: str
    why: str
    fix: str
    level: Level = "error"

    as_dict = asdict

    def __post_init__(self) -> None:
        if self.check not in CHECKS:
            raise ValueError(f"no check is called {self.check}")

    def __str__(self) -> str:
        return f"{self.key}: {self.why}: {self.fix}"
