"""Run folders for tests of what is done with one: a manifest, a config and the metrics of a run that went well."""

import json
from pathlib import Path

import numpy as np

MANIFEST = {
    "recipe": "justrl_deepseek",
    "system": "h200x1",
    "ablations": [],
    "overrides": [],
    "is_justrl": True,
    "scaled": [],
    "deviations": [],
    "seed": 1,
    "command": "verl run justrl_deepseek",
    "versions": {"verl": "0.9.1"},
    "git_commit": "abc",
    "host": "secret-host",
    "started": "2026-01-01T00:00:00+00:00",
    "ended": "2026-01-02T00:00:00+00:00",
    "status": "finished",
}


STEPS = 40


def healthy(steps: int = STEPS) -> dict[str, np.ndarray]:
    """Metrics of a run that no rule objects to, also at the full recipe's size."""
    at = np.arange(steps)
    wave = 0.01 * np.sin(2.0 * at)
    return {
        "actor/entropy": 1.3 + wave,
        "actor/grad_norm": 0.1 + wave,
        "critic/score/mean": -0.6 + 1.0 * at / steps + wave,
        "response_length/mean": 8_000 - 3_000 * at / steps,
        "response_length/max": np.full(steps, 15_360.0),
        "response_length/clip_ratio": 0.05 + wave,
        "rollout_corr/kl": 1e-3 + 0 * wave,
        "training/rollout_probs_diff_mean": 1e-3 + 0 * wave,
        "training/rollout_actor_probs_pearson_corr": 0.999 + 0 * wave,
        "reward/all_right": 0.2 + wave,
        "reward/all_wrong": 0.3 + wave,
        "timing_s/gen": 10 + wave,
        "timing_s/step": 12 + wave,
        "perf/throughput": 1_000 + wave,
    }


def two() -> dict[str, np.ndarray]:
    """Two of them, of whose panels a page is drawn in a tenth of the time."""
    return {name: values for name, values in healthy().items() if name in ("actor/entropy", "critic/score/mean")}


def write_run(folder: Path, metrics: dict[str, np.ndarray] | None = None, **about) -> Path:
    """A run folder; NaN and infinities as veRL's file logger writes them."""
    folder.mkdir(parents=True)
    columns = healthy() if metrics is None else metrics
    (folder / "manifest.json").write_text(json.dumps(MANIFEST | about))
    (folder / "config.yaml").write_text(
        "data: {max_response_length: 15360}\ntrainer: {nnodes: 4, n_gpus_per_node: 8}\n"
    )
    steps = max(map(len, columns.values()))
    with (folder / "metrics.jsonl").open("w") as file:
        for at in range(steps):
            data = {name: float(values[at]) if np.isfinite(values[at]) else None for name, values in columns.items()}
            if at % 10 == 0:
                data["val-core/AIME24/acc/mean@32"] = 0.3 + at / 1_000
                data["val-core/AMC23/acc/mean@32"] = 0.6 + at / 1_000
            file.write(json.dumps({"step": at + 1, "data": data}) + "\n")
    return folder
