"""The tables of README.md and docs/ that are computed from raw results, between their markers.

    .venv/bin/python benchmarks/docs.py            # `make docs`: writes them
    .venv/bin/python benchmarks/docs.py --check    # exit code 1 where one is not up to date

A table NAME stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`, each on a line of its own.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import performance
import planning
import small_scale
import tiny
import yaml

from justrl_recipe.report.health import CEILING, ERRORS, LIMITS, PLATEAU_STEPS

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "justrl_recipe" / "evaluation" / "published.yaml"
MODELS = ("DeepSeek-R1-Distill-1.5B", "JustRL-DeepSeek-1.5B", "OpenMath-Nemotron-1.5B", "JustRL-Nemotron-1.5B")
MARKER = re.compile(r"^<!-- (begin|end): (.*) -->$", re.MULTILINE)
BLOCK = re.compile(r"^<!-- begin: (.+) -->\n(.*?)^<!-- end: \1 -->$", re.MULTILINE | re.DOTALL)


def published() -> Iterator[str]:
    """What the paper reports of the models before and after its two runs."""
    content = yaml.safe_load(PUBLISHED.read_text())
    yield f"| model | {' | '.join(content['columns'])} |"
    yield "|---|" + "---:|" * len(content["columns"])
    for model in MODELS:
        yield f"| {model} | {' | '.join(f'{score:.2f}' for score in content['rows'][model])} |"


def trained() -> Iterator[str]:
    """The runs of this repository: validation accuracy before and after, and how long they took."""
    yield "| run | machine | before, % | after, % | wall time | command and details |"
    yield "|---|---|---:|---:|---:|---|"
    seeds = [tiny.outcome(f"seed {seed}") for seed in range(3)]
    arms = [small_scale.outcome(f"base_{seed}") for seed in (1, 2)]
    where = "`benchmarks/tiny.py`, [tutorial](docs/tutorial.md#results)"
    yield f"| `justrl_tiny`, 3 seeds | 2 cores | {_listed(seeds)} | {where} |"
    steps = [small_scale.several_steps_outcome(f"base_{seed}") for seed in range(1, 7)]
    where = "`examples/several_steps`, [ablation](docs/small_scale_ablation.md)"
    yield f"| sums of several steps, 6 seeds | 2 cores | {_listed(steps)} | {where} |"
    where = "`benchmarks/small_scale.py`, [ablation](docs/small_scale_ablation.md#word-problems-smollm2)"
    yield f"| `justrl_smollm2`, 2 seeds | one H200 | {_listed(arms)} | {where} |"


def _listed(runs: list[tuple[float, float, float]]) -> str:
    """Cells of runs: accuracies before and after, and the seconds that they took."""
    before, after, seconds = zip(*runs, strict=True)
    starts = before if len(set(before)) > 1 else before[:1]  # runs that start from one model have one
    cells = [", ".join(f"{100 * value:.1f}" for value in values) for values in (starts, after)]
    times = dict.fromkeys(f"{value:.0f}" for value in (min(seconds), max(seconds)))
    return " | ".join([*cells, f"{' to '.join(times)} s"])


def health() -> Iterator[str]:
    """The limits of `verl report`'s health table."""
    yield "| rule | mean | warning | error |"
    yield "|---|---|---|---|"
    for name, limits in LIMITS.items():
        for limit in limits:
            yield f"| {name} | {limit.what} | {limit.bound(limit.warning)} | {limit.bound(limit.error)} |"
    rise = f"last fifth not above the first by {ERRORS:g} standard errors"
    still = f"of {PLATEAU_STEPS} steps or more, last quarter not above the one before it"
    yield f"| Reward plateau | reward, unless late at {CEILING:+g} of a reward up to 1 | {still} | {rise} |"
    yield "| Values that are not finite | any | in another metric | in a metric of the actor or the rewards |"


TABLES: dict[str, Callable[[], str | Iterable[str]]] = {
    "published": published,
    "trained": trained,
    "health": health,
    "tiny": tiny.table,
    "tiny-phases": tiny.phases,
    "planning-systems": planning.of_systems,
    "planning-cards": planning.of_cards,
    "planning-measured": planning.beside_measurements,
    "several-steps-final": partial(small_scale.final, small_scale.SEVERAL_STEPS),
    "several-steps-seeds": small_scale.by_seed,
    "several-steps-secondary": small_scale.secondary,
    "smollm2-final": partial(small_scale.final, small_scale.SMOLLM2),
    "smollm2-evaluated": small_scale.evaluations,
    "smollm2-steps": small_scale.training,
}
TABLES |= {f"performance-{table.__name__.replace('_', '-')}": table for table in performance.TABLES}


def filled(text: str) -> str:
    """A document with its tables computed anew."""

    def block(match: re.Match) -> str:
        table = TABLES[match[1]]()
        lines = table if isinstance(table, str) else "\n".join(table)
        return f"<!-- begin: {match[1]} -->\n{lines}\n<!-- end: {match[1]} -->"

    return BLOCK.sub(block, text)


def main(check: bool) -> int:
    stale, names = [], set()
    for file in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        text = file.read_text()
        blocks = [match[1] for match in BLOCK.finditer(text)]
        if unpaired := [f"{file.name}: {name}" for _, name in MARKER.findall(text) if name not in blocks]:
            sys.exit(f"markers without a partner: {', '.join(unpaired)}")
        if unknown := [f"{file.name}: {name}" for name in blocks if name not in TABLES]:
            sys.exit(f"markers without a table: {', '.join(unknown)}")
        names |= set(blocks)
        if (new := filled(text)) != text:
            stale.append(str(file.relative_to(ROOT)))
            if not check:
                file.write_text(new)
    if missing := TABLES.keys() - names:
        sys.exit(f"tables without markers: {', '.join(sorted(missing))}")
    print(f"{'not up to date' if check else 'written'}: {', '.join(stale) or 'nothing'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
