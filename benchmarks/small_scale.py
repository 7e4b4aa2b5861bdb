"""The paper's ablation on SmolLM2 and word problems: docs/small_scale_ablation.md.

    python benchmarks/small_scale.py run ARM SEED      # on a GPU; ARM: base, overlong, verifier or both
    python benchmarks/small_scale.py before            # evaluates the model that every arm starts from
    python benchmarks/small_scale.py report            # the tables, from benchmarks/smollm2/

Run where data/words is (see the head of recipes/justrl_smollm2.yaml). What an arm leaves is put into
benchmarks/smollm2: its metrics.jsonl and manifest.json, and the results of `verl eval` on the validation problems by
the robust verifier and, of the same responses, by the letter (`rule_based`).
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean

RESULTS = Path(__file__).with_name("smollm2")
WARMED_UP = "data/words/warmup/global_step_100/huggingface"
VALIDATION = "data/words/validation.parquet"
ARMS = {
    "base": (),
    "overlong": ("overlong_penalty",),
    "verifier": ("robust_verifier",),
    "both": ("overlong_penalty", "robust_verifier"),
}


def verl(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("verl")), *arguments]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"failed: {' '.join(command)}")


def run(arm: str, seed: str, *overrides: str) -> None:
    """Train and evaluate one arm with one seed."""
    name = f"{arm}_seed{seed}"
    ablations = [word for ablation in ARMS[arm] for word in ("--ablation", ablation)]
    verl("run", "justrl_smollm2", "--out", f"runs/{name}", *ablations, f"seed={seed}", *overrides)
    kept = RESULTS / name
    kept.mkdir(parents=True)
    for file in ("metrics.jsonl", "manifest.json"):
        shutil.copy(Path("runs", name, file), kept / file)
    evaluate(f"runs/{name}", name)


def evaluate(model: str, name: str) -> None:
    out = f"evals/{name}"
    verl("eval", model, "--benchmark", VALIDATION, "--n", "4", "--max-tokens", "96", "--out", out)
    verl("eval", "--grade-only", f"{out}/samples.jsonl", "--verifier", "rule_based", "--out", f"{out}_by_the_letter")
    kept = RESULTS / name
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(out, "results.json"), kept / "robust_verifier.json")
    shutil.copy(Path(f"{out}_by_the_letter", "results.json"), kept / "rule_based.json")


def curves(name: str) -> list[dict[str, float]]:
    """The metrics of each training step."""
    lines = (RESULTS / name / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line)["data"] for line in lines]
    return [entry for entry in entries if "critic/score/mean" in entry]


def score(name: str, verifier: str) -> str:
    """Mean accuracy over four samples of each validation problem, with its interval, in percent."""
    [found] = json.loads((RESULTS / name / f"{verifier}.json").read_text())["benchmarks"].values()
    low, high = found["rule"]["interval"]
    return f"{100 * found['rule']['avg']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def evaluations() -> str:
    rows = ["| arm | seed | accuracy, % | accepted by the letter, % |", "|---|---:|---:|---:|"]
    for arm, seed, name in finished():
        rows.append(f"| {arm} | {seed} | {score(name, 'robust_verifier')} | {score(name, 'rule_based')} |")
    return "\n".join(rows)


def training() -> str:
    """First and last five steps of each run."""
    shown = {"reward/acc": ".2f", "critic/score/mean": "+.2f", "actor/entropy": ".3f", "response_length/mean": ".0f"}
    rows = ["| arm | seed | accepted | reward | entropy | length | penalised |", "|---|---:|" + "---:|" * 5]
    for arm, seed, name in finished():
        if arm == "before":
            continue
        steps = curves(name)
        first, last = steps[:5], steps[-5:]
        cells = [
            " to ".join(format(mean(step[metric] for step in part), style) for part in (first, last))
            for metric, style in shown.items()
        ]
        penalised = [mean(step.get("reward/overlong", 0) for step in part) for part in (first, last)]
        cells.append(" to ".join(f"{share:.1%}" for share in penalised) if "overlong_penalty" in ARMS[arm] else "")
        rows.append(f"| {arm} | {seed} | {' | '.join(cells)} |")
    return "\n".join(rows)


def finished() -> list[tuple[str, str, str]]:
    """Arm, seed and folder of what there is, `before` first."""
    order = ("before", *ARMS)
    names = sorted((folder.name for folder in RESULTS.iterdir()), key=lambda name: order.index(name.split("_")[0]))
    return [(name.split("_")[0], name.partition("_seed")[2], name) for name in names]


TABLES = (evaluations, training)

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", arm_asked, seed_asked, *overrides_asked] if arm_asked in ARMS:
            run(arm_asked, seed_asked, *overrides_asked)
        case ["before"]:
            evaluate(WARMED_UP, "before")
        case ["report"]:
            print(*(table() for table in TABLES), sep="\n\n")
        case _:
            sys.exit(__doc__)
