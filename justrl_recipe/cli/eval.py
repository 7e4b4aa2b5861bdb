"""`verl eval`: scores of a model on the benchmarks, with intervals, beside the paper's."""

from pathlib import Path
from typing import Annotated, Any

import typer

from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.sampling import PAPER, Sampling
from justrl_recipe.terminal import say, warn

EXAMPLE = (
    "Example: verl eval runs/justrl_tiny-20260101-120000 --benchmark data/tiny/validation.parquet --max-tokens 24"
)


def evaluate(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A model, run or checkpoint folder, or a name on the hub.")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="One of the nine, or a prepared .parquet; may be given several times; default all."
        ),
    ] = None,
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="The prepared benchmarks.")] = Path("data"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write results and resume from; default evals/MODEL."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Samples per problem; default the paper's.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first problems of each benchmark.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = PAPER.temperature,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0)] = PAPER.top_p,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest response.")] = PAPER.max_tokens,
    seed: Annotated[int, typer.Option(help="Each sample has a seed of its own, made from this one.")] = 0,
    tensor_parallel: Annotated[
        int, typer.Option(min=1, metavar="GPUS", help="GPUs of an engine; there is one engine per group of GPUs.")
    ] = 1,
    max_num_seqs: Annotated[
        int | None, typer.Option(min=1, help="Sequences that an engine runs at a time; default vLLM's.")
    ] = None,
    verifier: Annotated[
        str, typer.Option(metavar="NAME", help="robust_verifier, or rule_based for the strict score.")
    ] = "robust_verifier",
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Asked about what the rule rejects (CompassVerifier-3B).")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare with a published row, or with another results.json.")
    ] = None,
    golden: Annotated[
        bool,
        typer.Option("--golden", help="Exit 1 unless the row is reproduced (default: the one named like MODEL)."),
    ] = False,
    grade_only: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Grade these samples; may be given several times.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Run code in the files of MODEL or judge: Python, pickled weights."),
    ] = False,
    list_published: Annotated[bool, typer.Option("--list-published", help="Print the paper's table.")] = False,
) -> None:
    """Evaluate a model on the nine benchmarks."""
    from justrl_recipe.evaluation import comparison, results_output
    from justrl_recipe.evaluation.evaluation_run import EvaluationSettings
    from justrl_recipe.evaluation.evaluation_run import evaluate as evaluate_with
    from justrl_recipe.evaluation.generation import EngineFailed, EngineOptions

    if list_published:
        results_output.print_table(*results_output.published_cells())
        return
    if (model is None) == (not grade_only):
        raise UserError("give either a MODEL or --grade-only FILE")
    if grade_only:
        refuse_generation_options(context)
    settings = EvaluationSettings(
        model=model,
        grade_only=grade_only or (),
        benchmarks=benchmark or (),
        data=data,
        n=n,
        limit=limit,
        sampling=Sampling(temperature, top_p, max_tokens),
        seed=seed,
        engine=EngineOptions(tensor_parallel, max_num_seqs),
        verifier=verifier,
        judge=judge,
        trust=trust,
        against=against,
        golden=golden,
        out=out,
    )
    try:
        results, folder = evaluate_with(settings)
    except EngineFailed as failure:
        warn(f"evaluation failed: {failure}")
        raise typer.Exit(2 if golden else 1) from failure  # a golden check that failed to check has no verdict
    except KeyboardInterrupt as interrupt:
        warn("interrupted: run the same command again to resume")
        raise typer.Exit(130) from interrupt
    except OSError as error:
        raise UserError(f"cannot read or write {error.filename}: {error.strerror}") from error

    results_output.print_table(*results_output.cells(results))
    kind, compared = comparison.best(results), results.get("against")
    if compared and compared["kind"] != kind:
        say(f"{compared['row']} is a {compared['kind']} score, ours are by {kind}")
    say(f"written to {folder}: results.json, results.md, results.png, grades.jsonl")
    if golden:
        report_golden(results["golden"])
        raise typer.Exit(0 if results["golden"]["reproduces"] else 1)


def refuse_generation_options(context: typer.Context) -> None:
    """Refuse an option that has no effect when nothing is generated.

    Raises:
        UserError: one was given.
    """
    for name in ("benchmark", "data", "n", "limit", "temperature", "top_p", "max_tokens", "seed"):
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
            raise UserError(f"--{name.replace('_', '-')} is for what is generated: it does not go with --grade-only")


def report_golden(golden: dict[str, Any]) -> None:
    """Print whether the installation reproduces the row, and where not."""
    for name, check in golden["benchmarks"].items():
        if not check["reproduces"]:
            z = "no spread" if check["z"] is None else f"z {check['z']:.1f}, limit {golden['limit']:.1f}"
            say(f"{name}: {100 * check['ours']:.2f}, {golden['row']} has {100 * check['theirs']:.2f} ({z})")
    verdict = "reproduces" if golden["reproduces"] else "does not reproduce"
    say(f"this installation {verdict} {golden['row']} on {', '.join(golden['benchmarks'])}")
