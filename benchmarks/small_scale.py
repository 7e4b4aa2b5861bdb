"""The paper's ablation at small scale: docs/small_scale_ablation.md.

    python benchmarks/small_scale.py run ARM SEED      # SmolLM2 on a GPU; ARM: base, overlong, verifier or both
    python benchmarks/small_scale.py before            # evaluates the model that every arm of SmolLM2 starts from

The runs on sums of several steps have their commands in the document; benchmarks/results/several_steps has what they
left, metrics.jsonl and manifest.json. SmolLM2 is run where data/words is (examples/smollm2/README.md), and leaves the
same in benchmarks/results/smollm2/arms, with the results of `verl eval` on the validation problems by the robust
verifier and, of the same responses, by exact match (`rule_based`).
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from justrl_recipe.report import accuracy, logs, runs
from justrl_recipe.report.arms import Group, arms

RESULTS = Path(__file__).parent / "results"
SMOLLM2, SEVERAL_STEPS = RESULTS / "smollm2" / "arms", RESULTS / "several_steps"
WARMED_UP = "data/words/warmup/global_step_200/huggingface"
VALIDATION = "data/words/validation.parquet"
ARMS = {
    "base": (),
    "overlong": ("overlong_penalty",),
    "verifier": ("robust_verifier",),
    "both": ("overlong_penalty", "robust_verifier"),
}
SHOWN = {
    "reward/acc": ".2f",
    "critic/score/mean": "+.2f",
    "actor/entropy": ".3f",
    "response_length/mean": ".0f",
    "reward/overlong": ".1%",
}


def verl(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("verl")), *arguments]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"failed: {' '.join(command)}")


def train(arm: str, seed: str, *overrides: str) -> None:
    name = f"{arm}_{seed}"
    ablations = [word for ablation in ARMS[arm] for word in ("--ablation", ablation)]
    verl("run", "justrl_smollm2", "--out", f"runs/{name}", *ablations, f"seed={seed}", *overrides)
    kept = SMOLLM2 / name
    kept.mkdir(parents=True)
    for file in ("metrics.jsonl", "manifest.json"):
        shutil.copy(Path("runs", name, file), kept / file)


def evaluate(model: str, name: str) -> None:
    """Sample each validation problem four times, and score the responses in both ways."""
    out = f"evals/{name}"
    verl("eval", model, "--benchmark", VALIDATION, "--n", "4", "--max-tokens", "96", "--out", out)
    verl("eval", "--grade-only", f"{out}/samples.jsonl", "--verifier", "rule_based", "--out", f"{out}_exact_match")
    kept = SMOLLM2 / name
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(out, "results.json"), kept / "robust_verifier.json")
    shutil.copy(Path(f"{out}_exact_match", "results.json"), kept / "rule_based.json")


def folders(results: Path, file: str) -> list[Path]:
    """The folders of results that have the file, `before` first."""
    found = (path.parent for path in results.glob(f"*/{file}"))
    return sorted(found, key=lambda folder: (folder.name != "before", folder.name))


def evaluations() -> str:
    rows = ["| arm, seed | accuracy, % | exact match, % |", "|---|---:|---:|"]
    for folder in folders(SMOLLM2, "rule_based.json"):
        scores = [score(folder / f"{verifier}.json") for verifier in ("robust_verifier", "rule_based")]
        rows.append(f"| {folder.name.replace('_', ', ')} | {' | '.join(scores)} |")
    return "\n".join(rows)


def outcome(arm: str) -> tuple[float, float, float]:
    """Of a run of SmolLM2: accuracy before and after training, and its seconds."""
    before, after = (
        json.loads((SMOLLM2 / name / "robust_verifier.json").read_text())["average"]["rule"]["avg"]
        for name in ("before", arm)
    )
    return before, after, seconds(SMOLLM2 / arm)


def several_steps_outcome(arm: str) -> tuple[float, float, float]:
    """The same of a run on sums of several steps, by its own validation."""
    run = runs.load(SEVERAL_STEPS / arm)
    [(metric, _)] = accuracy.validations([run])
    before, after = run.metrics[metric].values
    return float(before), float(after), seconds(SEVERAL_STEPS / arm)


def seconds(folder: Path) -> float:
    """From the start of a run to its end."""
    manifest = json.loads((folder / "manifest.json").read_text())
    started, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "ended"))
    return (ended - started).total_seconds()


def trained(results: Path) -> list[runs.Run]:
    """The runs of an experiment; on sums of several steps the seeds of an arm start from two models."""
    found = runs.joined_by_name(runs.load(folder) for folder in folders(results, "metrics.jsonl"))
    return runs.with_labels(found)


def final(results: Path) -> str:
    """The last validation in training by arm, and the difference to the base arm by seed, as in `verl report`."""
    [table] = accuracy.tables(arms(trained(results)))
    lines = ["| arm | seeds | accuracy, % (95% interval) | minus base (95% interval) | p | verdict |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    for row in table.rows:
        compared = ["", "", "base arm"]
        if row.difference:
            difference = accuracy.shown(row.difference.mean, True, signed=True)
            compared = [difference, f"{row.difference.corrected:.2g}", row.difference.verdict]
        cells = [f"`{row.arm.name}`", str(row.mean.seeds), accuracy.shown(row.mean, True), *compared]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def score(results: Path) -> str:
    """Mean over four samples of each validation problem, with its interval, in percent."""
    [found] = json.loads(results.read_text())["benchmarks"].values()
    low, high = found["rule"]["interval"]
    return f"{100 * found['rule']['avg']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def by_seed() -> Iterator[str]:
    """Accuracy at the last step of each run on sums of several steps, in percent."""
    groups = arms(trained(SEVERAL_STEPS))
    seeds = sorted({run.seed for group in groups for run in group.runs})
    yield f"| arm | {' | '.join(f'seed {seed}' for seed in seeds)} |"
    yield f"|---|{'---:|' * len(seeds)}"
    for group in groups:
        [(metric, _)] = accuracy.validations(group.runs)
        last = {run.seed: run.metrics[metric].values[-1] for run in group.runs}
        yield f"| `{group.name}` | {' | '.join(f'{100 * last[seed]:.1f}' for seed in seeds)} |"


def secondary() -> Iterator[str]:
    """What the arms on sums of several steps differ in besides, means over seeds with 95% intervals by t."""
    yield "| arm | entropy, nats | length, tokens | at the limit, % | one of four right, % |"
    yield "|---|---:|---:|---:|---:|"
    for group in arms(trained(SEVERAL_STEPS)):
        [(metric, _)] = accuracy.validations(group.runs)
        best = metric.replace("mean@4", "best@4/mean")
        cells = [
            interval(group, "actor/entropy", ".3f"),
            interval(group, "response_length/mean", ".1f"),
            interval(group, "response_length/clip_ratio", ".1f", 100),
            interval(group, best, ".1f", 100, steps=1),
        ]
        yield f"| `{group.name}` | {' | '.join(cells)} |"


def interval(group: Group, metric: str, style: str, scale: float = 1, steps: int | None = None) -> str:
    """The mean of a metric over the last steps, a tenth of them where not said how many, and then over the seeds."""
    values = [run.metrics[metric].values for run in group.runs]
    mean = accuracy.mean_of([scale * float(one[-(steps or len(one) // 10) :].mean()) for one in values])
    low, high = mean.interval or (mean.value, mean.value)
    return f"{mean.value:{style}} ({low:{style}} to {high:{style}})"


def training() -> str:
    """First and last three steps of each run of SmolLM2."""
    rows = ["| run | steps | accepted | reward | entropy | length | penalised |", "|---|---:|" + "---:|" * 5]
    for folder in folders(SMOLLM2, "metrics.jsonl"):
        metrics = logs.read(folder / "metrics.jsonl")
        steps = len(metrics["critic/score/mean"].values)
        cells = [ends(metrics[name], style) if name in metrics else "" for name, style in SHOWN.items()]
        rows.append(f"| {folder.name.replace('_', ', ')} | {steps} | {' | '.join(cells)} |")
    return "\n".join(rows)


def ends(series: logs.Series, style: str) -> str:
    """Means of the first and of the last three steps."""
    first, last = series.values[:3].mean(), series.values[-3:].mean()
    return f"{first:{style}} to {last:{style}}"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", arm_asked, seed_asked, *overrides_asked] if arm_asked in ARMS:
            train(arm_asked, seed_asked, *overrides_asked)
            evaluate(f"runs/{arm_asked}_{seed_asked}", f"{arm_asked}_{seed_asked}")
        case ["before"]:
            evaluate(WARMED_UP, "before")
        case _:
            sys.exit(__doc__)
