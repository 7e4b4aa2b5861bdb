"""The tiny recipe's figures: three seeds and a control with learning rate 0.

    .venv/bin/python benchmarks/tiny.py run          # trains all four, about 20 minutes on 2 cores
    .venv/bin/python benchmarks/tiny.py report       # the table and docs/tiny_curve.png, from results/tiny/

Each seed has its own model, data and training: nothing is shared between them.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from justrl_recipe import metrics
from justrl_recipe.report import logs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "tiny"
CURVE = ROOT / "docs" / "tiny_curve.png"
RUNS = {f"seed {seed}": [f"seed={seed}", f"tiny_model.seed={seed}", f"tiny_data.seed={seed}"] for seed in range(3)}
RUNS["control (lr 0)"] = [*RUNS["seed 2"], "actor_rollout_ref.actor.optim.lr=0"]
VALIDATION = "val-core/arithmetic/acc/mean@1"
PHASES = {
    "gen": "generation",
    "old_log_prob": "old log-probs",
    "update_actor": "update",
    "update_weights": "weight sync",
    "step": "whole step",
}


def file_name(name: str) -> str:
    return name.split(" (")[0].replace(" ", "")


def run(name: str, overrides: list[str]) -> None:
    """Train once from an empty folder, so model and data are made too, and keep what the table needs."""
    verl = Path(sys.executable).with_name("verl")
    with tempfile.TemporaryDirectory() as folder:
        before, peak, start = psutil.virtual_memory().used, 0, time.time()
        process = subprocess.Popen([verl, "run", "justrl_tiny", "--out", "run", *overrides], cwd=folder)
        while process.poll() is None:
            peak = max(peak, psutil.virtual_memory().used)
            time.sleep(1)
        if process.returncode != 0:
            sys.exit(f"{name} failed")
        keep(name, Path(folder, "run"), wall_s=time.time() - start, peak_gib=(peak - before) / 2**30)


def keep(name: str, run_folder: Path, wall_s: float, peak_gib: float) -> None:
    """Copy a run's metrics beside its wall time and memory (of the whole machine, above what was used before)."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{file_name(name)}.jsonl").write_bytes((run_folder / "metrics.jsonl").read_bytes())
    manifest = json.loads((run_folder / "manifest.json").read_text())
    about = {"wall_s": round(wall_s), "peak_gib": round(peak_gib, 1), "versions": manifest["versions"]}
    (RESULTS / f"{file_name(name)}.json").write_text(json.dumps(about, indent=2) + "\n")


def read(name: str) -> logs.Metrics:
    return logs.read(RESULTS / f"{file_name(name)}.jsonl")


def outcome(name: str) -> tuple[float, float, float]:
    """Validation accuracy before and after, and seconds."""
    about = json.loads((RESULTS / f"{file_name(name)}.json").read_text())
    validation = read(name)[VALIDATION].values
    return validation[0], validation[-1], about["wall_s"]


def table() -> str:
    """The runs as a Markdown table."""
    head = "| run | reward, first 3 steps | reward, last 3 | validation before | after | optimizer steps "
    head += "| rollout/trainer probability difference | wall time | memory |"
    rows = [head, "|---|" + "---:|" * 8]
    for name in RUNS:
        about = json.loads((RESULTS / f"{file_name(name)}.json").read_text())
        logged = read(name)
        rewards, (before, after, _) = logged[metrics.REWARD].values, outcome(name)
        difference = logged[metrics.PROBS_DIFF].values.max()
        cells = [
            name,
            f"{rewards[:3].mean():+.2f}",
            f"{rewards[-3:].mean():+.2f}",
            f"{before:.3f}",
            f"{after:.3f}",
            str(4 * len(rewards)),
            f"{difference:.1e}",
            f"{about['wall_s']} s",
            f"{about['peak_gib']} GiB" if "peak_gib" in about else "not measured",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def phases() -> str:
    """Where a step's time goes: medians over the steps of the three seeds, as a Markdown table."""
    seeds = [read(name) for name in RUNS if name.startswith("seed")]
    rows = ["| phase of a step | median, seconds |", "|---|---:|"]
    for phase, title in PHASES.items():
        seconds = np.concatenate([seed[f"{metrics.TIMING}{phase}"].values for seed in seeds])
        rows.append(f"| {title} | {np.median(seconds):.2f} |")
    return "\n".join(rows)


def plot() -> None:
    """Mean reward per step of every run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name in RUNS:
        rewards = read(name)[metrics.REWARD].values
        control = name.startswith("control")
        style = {"color": "0.5", "linestyle": "--"} if control else {}
        axes.plot(range(1, len(rewards) + 1), rewards, label=name, **style)
    axes.set(xlabel="step", ylabel="mean reward", ylim=(-1, 1), title="justrl_tiny on 2 CPU cores")
    axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    CURVE.parent.mkdir(exist_ok=True)
    figure.savefig(CURVE, dpi=150)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run"]:
            for run_name, run_overrides in RUNS.items():
                run(run_name, run_overrides)
        case ["report"]:
            plot()
            print(table(), phases(), sep="\n\n")
        case _:
            sys.exit(__doc__)
