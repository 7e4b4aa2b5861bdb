"""The paper's ablation on SmolLM2 and word problems: docs/small_scale_ablation.md.

    python benchmarks/small_scale.py run ARM SEED      # on a GPU; ARM: base, overlong, verifier or both
    python benchmarks/small_scale.py before            # evaluates the model that every arm starts from
    python benchmarks/small_scale.py report            # the tables, from benchmarks/results/smollm2/

Run where data/words is (see examples/smollm2/README.md). What an arm leaves is put into
benchmarks/results/smollm2/arms: its metrics.jsonl and manifest.json, and the results of `verl eval` on the validation
problems by the robust verifier and, of the same responses, by exact match (`rule_based`).
"""

import json
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from justrl_recipe.report import accuracy, logs, runs
from justrl_recipe.report.arms import arms

RESULTS = Path(__file__).parent / "results" / "smollm2"
WARMED_UP = "data/words/warmup/global_step_200/huggingface"
VALIDATION = "data/words/validation.parquet"
ARMS = {
    "base": (),
    "overlong": ("overlong_penalty",),
    "verifier": ("robust_verifier",),
    "both": ("overlong_penalty", "robust_verifier"),
}
TITLES = {"base": "base", "overlong": "overlong penalty", "verifier": "robust verifier", "both": "both"}
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
    kept = RESULTS / "arms" / name
    kept.mkdir(parents=True)
    for file in ("metrics.jsonl", "manifest.json"):
        shutil.copy(Path("runs", name, file), kept / file)


def evaluate(model: str, name: str) -> None:
    """Sample each validation problem four times, and score the responses in both ways."""
    out = f"evals/{name}"
    verl("eval", model, "--benchmark", VALIDATION, "--n", "4", "--max-tokens", "96", "--out", out)
    verl("eval", "--grade-only", f"{out}/samples.jsonl", "--verifier", "rule_based", "--out", f"{out}_exact_match")
    kept = RESULTS / "arms" / name
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(out, "results.json"), kept / "robust_verifier.json")
    shutil.copy(Path(f"{out}_exact_match", "results.json"), kept / "rule_based.json")


def folders(kind: str, file: str) -> list[Path]:
    """The folders of `arms`, `repeats` or `trials` that have the file, `before` first."""
    found = (path.parent for path in (RESULTS / kind).glob(f"*/{file}"))
    return sorted(found, key=lambda folder: (folder.name != "before", folder.name))


def evaluations(kind: str) -> str:
    rows = ["| arm, seed | accuracy, % | exact match, % |", "|---|---:|---:|"]
    for folder in folders(kind, "rule_based.json"):
        scores = [score(folder / f"{verifier}.json") for verifier in ("robust_verifier", "rule_based")]
        rows.append(f"| {folder.name.replace('_', ', ')} | {' | '.join(scores)} |")
    return "\n".join(rows)


def outcome(arm: str) -> tuple[float, float, float]:
    """Accuracy before and after training, and the seconds of the run."""
    before, after = (
        json.loads((RESULTS / "arms" / name / "robust_verifier.json").read_text())["average"]["rule"]["avg"]
        for name in ("before", arm)
    )
    manifest = json.loads((RESULTS / "arms" / arm / "manifest.json").read_text())
    started, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "ended"))
    return before, after, (ended - started).total_seconds()


def cut() -> str:
    """The validation at step 20 of the runs that were cut off, by what they printed."""
    rows = ["| arm | seed 1 | seed 2 |", "|---|---:|---:|"]
    for arm, title in TITLES.items():
        printed = [(RESULTS / "cut" / f"{arm}_{seed}.txt").read_text() for seed in (1, 2)]
        found = [re.search(r"validation at step 20: .* accuracy (\S+)", text)[1] for text in printed]
        rows.append(f"| {title} | {' | '.join(found)} |")
    return "\n".join(rows)


def final() -> str:
    """The last validation in training by arm, and the difference to the base arm by seed, as in `verl report`."""
    found = runs.with_labels([runs.load(folder) for folder in folders("arms", "metrics.jsonl")])
    [table] = accuracy.tables(arms(found))
    lines = ["| arm | seeds | accuracy, % (95% interval) | minus base (95% interval) | p | verdict |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    for row in table.rows:
        compared = ["", "", "base arm"]
        if row.difference:
            difference = accuracy.shown(row.difference.mean, True, signed=True)
            compared = [difference, f"{row.difference.corrected:.2f}", row.difference.verdict]
        cells = [f"`{row.arm.name}`", str(row.mean.seeds), accuracy.shown(row.mean, True), *compared]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def score(results: Path) -> str:
    """Mean over four samples of each validation problem, with its interval, in percent."""
    [found] = json.loads(results.read_text())["benchmarks"].values()
    low, high = found["rule"]["interval"]
    return f"{100 * found['rule']['avg']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def training(kind: str) -> str:
    """First and last three steps of each run."""
    rows = ["| run | steps | accepted | reward | entropy | length | penalised |", "|---|---:|" + "---:|" * 5]
    for folder in folders(kind, "metrics.jsonl"):
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
        case ["report"]:
            for kind in ("arms", "repeats"):
                print(evaluations(kind), training(kind), sep="\n\n", end="\n\n")
            print(training("trials"), final(), sep="\n\n")
        case _:
            sys.exit(__doc__)
