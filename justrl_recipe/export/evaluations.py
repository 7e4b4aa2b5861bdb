"""The results of `verl eval` that an export's model card shows: those of the same weights."""

from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import results_output
from justrl_recipe.evaluation.models import Model
from justrl_recipe.evaluation.results_output import RESULTS
from justrl_recipe.evaluation.sampling import Sampling

EVALS = Path("evals")  # where `verl eval` writes without --out
MOST = 1_000  # folders that are looked at


def find(model: Model, folder: Path | None) -> dict[str, Any] | None:
    """Results of these weights: in `folder`, or else in one of the folders in `evals`; None where there are none.

    Raises:
        UserError: `folder` has none, or those of other weights.
    """
    fingerprint = model.fingerprint()
    if folder is not None:
        results = read(folder / RESULTS)
        if results["fingerprint"] != fingerprint:
            raise UserError(f"{folder / RESULTS} is of other weights: evaluate the checkpoint that is exported")
        return results
    for file in sorted(EVALS.glob(f"*/{RESULTS}"))[:MOST]:
        try:
            results = read(file)
        except UserError:  # of another model or version, which nobody has named
            continue
        if results["fingerprint"] == fingerprint:
            return results
    return None


def read(file: Path) -> dict[str, Any]:
    """The results in a file, of which a table can be made.

    Raises:
        UserError: they are not those of `verl eval`.
    """
    results = files.read_json_object(file)
    try:
        results_output.cells(results)
        sampling(results)
        return {**results, "fingerprint": results["fingerprint"]}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{file} is not a {RESULTS} of `verl eval`") from error


def sampling(results: dict[str, Any]) -> Sampling:
    """How the responses of results were sampled; raises as a broken dictionary does."""
    given = results["settings"]
    return Sampling(float(given["temperature"]), float(given["top_p"]), int(given["max_tokens"]))
