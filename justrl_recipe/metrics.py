"""The names of metrics as veRL 0.9.1 logs them, and of those that this package adds; the files that they are in.

Both sides of the process boundary import this: `verl_hooks/` writes, `run/` and `report/` read.
"""

import re
from collections.abc import Mapping
from typing import Any

METRICS_FILE = "metrics.jsonl"  # of a run folder: veRL's `file` logger, a line {"step": ..., "data": {...}} a step
STOP_FILE = "stop"  # run/stop.py: while it is there, the training process stops after its step
LOST_FILE = "lost_responses.jsonl"  # verl_hooks/reward_metrics.py: a line for each batch of which responses were lost
RESPONSES_FILE = "responses.jsonl"  # verl_hooks/responses.py: a line for each prompt whose responses are kept
MANIFEST_FILE = "manifest.json"  # run/manifest.py: what the run is
TRACKERS_FILE = "trackers.json"  # verl_hooks/trackers.py: the ids under which a resumed run goes on
TRACKER_FAILURES_FILE = "tracker_failures.jsonl"  # verl_hooks/trackers.py: a line for each tracker that failed

# veRL's
REWARD, HIGHEST_REWARD = "critic/score/mean", "critic/score/max"
LENGTH, LONGEST, CLIP_RATIO = "response_length/mean", "response_length/max", "response_length/clip_ratio"
ENTROPY, GRAD_NORM = "actor/entropy", "actor/grad_norm"
PG_CLIPFRAC, PG_CLIPFRAC_LOWER, PPO_KL = "actor/pg_clipfrac", "actor/pg_clipfrac_lower", "actor/ppo_kl"
PROBS_DIFF = "training/rollout_probs_diff_mean"
PROBS_DIFF_ERROR = 0.05  # beyond it, trainer and rollout are not the same model
PROBS_CORRELATION = "training/rollout_actor_probs_pearson_corr"
ROLLOUT_KL = "rollout_corr/kl"
THROUGHPUT, MFU = "perf/throughput", "perf/mfu/actor"  # the first in tokens per second and GPU
TIMING = "timing_s/"  # seconds of a phase, whose name comes after it
STEP_SECONDS = f"{TIMING}step"
VALIDATION_PREFIX = "val-"
VALIDATION = re.compile(r"^val-core/(?P<source>.+)/(?P<name>acc|reward)/mean@(?P<n>\d{1,9})$")

# This package's (verl_hooks/reward_metrics.py)
ACCURACY, OVERLONG = "reward/acc", "reward/overlong"
ALL_RIGHT, ALL_WRONG = "reward/all_right", "reward/all_wrong"  # shares of groups, whose advantages are then 0
LOST = "rollout/lost_responses"
UNKEPT = "rollout/unkept_prompts"  # whose responses could not be written; logged only then (verl_hooks/trainer.py)


def validation_accuracy(data: Mapping[str, Any]) -> float | None:
    """The mean accuracy of a step over its validation sets, None where it has none."""
    found = [
        value
        for name, value in data.items()
        if (match := VALIDATION.match(name)) and match["name"] == "acc" and isinstance(value, float | int)
    ]
    return sum(found) / len(found) if found else None


def best_first(accuracies: Mapping[int, float]) -> list[int]:
    """Steps by their validation accuracy, the highest first, of equal ones the latest."""
    return sorted(accuracies, key=lambda step: (accuracies[step], step), reverse=True)
