"""`verl report` on runs of the paper's length: 4,380 steps with 100 metrics each.

    .venv/bin/python benchmarks/report.py

Makes eight such runs in a temporary folder, four arms at two seeds (curves like the paper's, with noise, spikes and a
few nulls, and the responses that such a run keeps). Reports one, one seed of three arms, and all; prints seconds, CPU
seconds and the size of the page.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from justrl_recipe.metrics import RESPONSES_FILE
from justrl_recipe.responses.reading import TRAINING, VALIDATION
from justrl_recipe.responses.selection import RESPONSES, Selection
from justrl_recipe.responses.text import boxes, kept, non_english, repeated

STEPS, METRICS = 4_380, 100
BATCH = 256 * 8
ARMS = [(), ("overlong_penalty",), ("overlong_penalty", "robust_verifier"), ("robust_verifier",)]
PHASES = {"gen": 210.0, "old_log_prob": 22.0, "adv": 0.4, "update_actor": 70.0, "update_weights": 2.5}
DATASET, PROMPTS_KEPT = 17_398, 2
WORDS = 'so we have $a<b$ and $x^2 & y$ then \\frac{1}{2} thus let\'s wait, check that "n" > 3 因此 hence the sum'


def write_run(folder: Path, seed: int, ablations: tuple[str, ...] = ()) -> Path:
    """A run folder of the full recipe as `verl run` leaves it; the arms differ as the paper's do."""
    folder.mkdir()
    about = {"recipe": "justrl_deepseek", "system": "a800x32", "ablations": ablations, "overrides": [], "scaled": []}
    changed = [{"key": f"reward.{name}", "recipe": False, "yours": True} for name in ablations]
    about |= {"deviations": changed, "is_justrl": not changed, "seed": seed, "command": "verl run justrl_deepseek"}
    about |= {"versions": {"verl": "0.9.1"}, "host": "node17", "started": "2026-01-01T00:00:00+00:00"}
    about |= {"ended": "2026-01-16T00:00:00+00:00", "status": "finished"}
    (folder / "manifest.json").write_text(json.dumps(about))
    (folder / "config.yaml").write_text(
        "data: {max_response_length: 15360}\ntrainer: {nnodes: 4, n_gpus_per_node: 8}\n"
    )
    columns = metrics(np.random.default_rng([seed, len("".join(ablations))]), len(ablations))
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, STEPS + 1):
            data = {
                name: values[step - 1] for name, values in columns.items() if step % 50 == 0 or "val-" not in name
            }
            file.write(json.dumps({"step": step, "data": data}) + "\n")
    write_responses(folder / RESPONSES_FILE, np.random.default_rng(seed))
    return folder


def write_responses(file: Path, chance: np.random.Generator) -> None:
    """What a run on 17,398 prompts keeps, with responses of up to 4,000 words."""
    selection = Selection(PROMPTS_KEPT, STEPS)
    hashes, of_validation = chance.random(DATASET), chance.random(100)
    with file.open("w") as lines:
        for step in range(STEPS + 1):
            position = max(step - 1, 0) % (DATASET // 256) * 256
            if position == 0:
                order = chance.permutation(DATASET)
            batch = {str(prompt): hashes[prompt] for prompt in order[position : position + 256]}
            groups = [(TRAINING, uid) for uid in (selection.of_batch(step, batch) if step else [])]
            if step % 50 == 0 and selection.keeps_validation(step):
                selection.validated = step
                of_set = {f"validation {number}": value for number, value in enumerate(of_validation)}
                groups += [(VALIDATION, uid) for uid in selection.of_validation(of_set)]
            for kind, uid in groups:
                line = {"step": step, "batch": kind, "data_source": "math_dapo", "ground_truth": "34"}
                line |= {"prompt": f"Problem {uid}. {words(np.random.default_rng(len(uid)), 60)}"}
                line |= {"responses": [response(chance) for _ in range(RESPONSES)]}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def words(chance: np.random.Generator, count: int) -> str:
    return " ".join(chance.choice(WORDS.split(), count))


def response(chance: np.random.Generator) -> dict[str, object]:
    right = bool(chance.random() < 0.5)
    text = f"{words(chance, int(chance.integers(200, 4_000)))} \\boxed{{{34 if right else 35}}}."
    shown, left_out = kept(text)
    return {
        **{"text": shown, "left_out": left_out, "tokens": len(text) // 3, "cut": False, "reward": 2.0 * right - 1},
        **{"acc": float(right), "reason": "exact match" if right else "other answer", "entropy": 1.2},
        **{"boxes": boxes(text), "repeated": repeated(text), "non_english": non_english(text)},
    }


def metrics(chance: np.random.Generator, arm: int) -> dict[str, list[float | None]]:
    """100 metrics, [STEPS] each."""
    at = np.arange(STEPS)

    def noisy(values: np.ndarray, noise: float) -> np.ndarray:
        return values + noise * chance.standard_normal(STEPS)

    rise = 1 - np.exp(-at / 900)
    end, entropy = (0.40, 0.30, 0.22)[arm], (1.3, 0.55, 0.5)[arm]
    length = 4_400 + 3_600 * np.exp(-at / 300)
    spikes = np.where(chance.random(STEPS) < 0.002, 8.0, 1.0)
    found = {
        "critic/score/mean": noisy(-0.6 + (end + 0.6) * rise, 0.05),
        "reward/acc": noisy(0.2 + (end + 0.6) / 2 * rise, 0.025),
        "reward/all_right": np.clip(noisy(0.08 + 0.3 * rise, 0.03), 0, 1),
        "reward/all_wrong": np.clip(noisy(0.45 - 0.25 * rise, 0.03), 0, 1),
        "actor/entropy": noisy(entropy + (1.25 - entropy) * np.exp(-at / 500) + 0.08 * np.sin(at / 400), 0.03),
        "actor/grad_norm": np.abs(noisy(np.full(STEPS, 0.12), 0.02)) * spikes,
        "actor/pg_clipfrac": np.abs(noisy(np.full(STEPS, 0.004), 0.0008)),
        "actor/pg_clipfrac_lower": np.abs(noisy(np.zeros(STEPS), 1e-6)),
        "actor/ppo_kl": noisy(np.full(STEPS, 2e-4), 3e-4),
        "rollout_corr/kl": np.abs(noisy(np.full(STEPS, 8e-4), 1e-4)),
        "training/rollout_probs_diff_mean": np.abs(noisy(np.full(STEPS, 3e-3), 2e-4)),
        "training/rollout_actor_probs_pearson_corr": 0.999 - np.abs(noisy(np.zeros(STEPS), 2e-4)),
        "response_length/mean": noisy(length, 150),
        "response_length/max": np.full(STEPS, 15_360.0),
        "response_length/clip_ratio": np.clip(np.round(BATCH * noisy(length / 60_000, 0.01)) / BATCH, 0, 1),
        "perf/throughput": np.abs(noisy(np.full(STEPS, 1_150.0), 60)),
        "perf/mfu/actor": np.abs(noisy(np.full(STEPS, 0.31), 0.01)),
    }
    for source, start, gain in (("AIME24", 0.29, 0.27), ("AIME25", 0.23, 0.14), ("AMC23", 0.64, 0.24)):
        found[f"val-core/{source}/acc/mean@32"] = noisy(start + gain * rise * (1, 0.8, 0.6)[arm], 0.012)
    for phase, seconds in PHASES.items():
        found[f"timing_s/{phase}"] = np.abs(noisy(seconds * length / 6_000, 0.05 * seconds))
    found["timing_s/step"] = sum(found[f"timing_s/{phase}"] for phase in PHASES)
    for number in range(METRICS - len(found)):
        found[f"other/metric_{number}"] = noisy(np.full(STEPS, 1.0), 0.1)
    columns: dict[str, list[float | None]] = {name: values.tolist() for name, values in found.items()}
    columns["other/metric_0"][2_000] = None
    return columns


def measure(verl: Path, runs: list[Path], out: Path) -> None:
    started, before = time.monotonic(), os.times()
    subprocess.run([verl, "report", *runs, "--out", out], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.monotonic() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    size = (out / "report.html").stat().st_size / 2**20
    print(f"runs: {len(runs)}  time: {seconds:.1f} s  CPU: {cpu:.1f} s  page: {size:.2f} MiB")


def main() -> None:
    verl = Path(sys.executable).with_name("verl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = [
            [write_run(folder / f"{seed}_{number}", seed, arm) for number, arm in enumerate(ARMS)] for seed in (1, 2)
        ]
        runs = seeds[0]
        lines = (runs[0] / "metrics.jsonl").read_text().splitlines()
        print(f"{len(lines):,} steps, {len(json.loads(lines[49])['data'])} metrics a run", end=", ")
        print(f"responses.jsonl: {(runs[0] / RESPONSES_FILE).stat().st_size / 2**20:.1f} MiB")
        measure(verl, runs[:1], folder / "one")
        measure(verl, runs[:3], folder / "three")
        measure(verl, runs + seeds[1], folder / "eight")


if __name__ == "__main__":
    main()
