"""An evaluation from end to end: samples, a verdict on each, the results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.evaluation import judge, results
from justrl_recipe.evaluation.checkpoint import Checkpoint
from justrl_recipe.evaluation.folder import EvaluationFolder
from justrl_recipe.evaluation.grade import Grade, grade
from justrl_recipe.evaluation.job import Resources
from justrl_recipe.evaluation.judge import Verdict
from justrl_recipe.evaluation.samples import Key, Sample
from justrl_recipe.evaluation.sources import Source


def evaluate(
    source: Source, out: Path | None, verifier: str, judging: Checkpoint | None, resources: Resources
) -> tuple[dict[str, Any], EvaluationFolder]:
    """Get the samples, grade them, ask the judge if there is one; return the results and where they are kept."""
    folder = EvaluationFolder(out or Path("evals") / source.about["model"])
    with folder.claim(source.about):
        found = source.read(folder)
        grades = grade(found, verifier)
        rejected = [sample for sample, verdict in zip(found, grades, strict=True) if not verdict.correct]
        verdicts = judge.ask(judging, rejected, folder, resources) if judging else None
        _write_grades(folder, found, grades, verdicts)
        about = {**source.about, "verifier": verifier, "judge": judging.name if judging else None}
        return {**about, **results.summarise(found, grades, verdicts)}, folder


def _write_grades(
    folder: EvaluationFolder,
    found: Sequence[Sample],
    grades: Sequence[Grade],
    verdicts: dict[Key, Verdict] | None,
) -> None:
    """One JSON line per sample: the answer found in it, the rule's verdict and the judge's."""
    lines = []
    for sample, graded in zip(found, grades, strict=True):
        entry = {**sample.identity, "gold": sample.gold, "pred": graded.pred, "rule": graded.correct}
        if verdicts is not None:
            entry["judge"] = verdicts[sample.key].value if sample.key in verdicts else None
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    files.write_text(folder.grades, "".join(lines))
