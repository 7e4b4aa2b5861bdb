"""`verl eval`: a model's scores on the benchmarks, with their error bars, beside the paper's."""

from pathlib import Path
from typing import Annotated, Any

import typer

from justrl_recipe.errors import UserError
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
        Path | None, typer.Option(metavar="FOLDER", help="Where it is kept and goes on from; default evals/MODEL.")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Samples of a problem; default the paper's.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first problems of each benchmark.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.7,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0)] = 0.9,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a response.")] = 31_744,
    seed: Annotated[int, typer.Option(help="Each sample has a seed of its own, made from this one.")] = 0,
    tensor_parallel: Annotated[
        int, typer.Option(min=1, metavar="GPUS", help="GPUs of an engine; there is an engine for each group of them.")
    ] = 1,
    max_num_seqs: Annotated[
        int | None, typer.Option(min=1, help="Sequences that an engine works on at a time; default vLLM's.")
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
        bool, typer.Option("--trust", help="Run code that MODEL or the judge brings: Python files, pickled weights.")
    ] = False,
    list_published: Annotated[bool, typer.Option("--list-published", help="Print the paper's table.")] = False,
) -> None:
    """Evaluate a model on the nine benchmarks."""
    from justrl_recipe.evaluation import checkpoint, compare, show, sources, tasks
    from justrl_recipe.evaluation.generate import EngineFailed
    from justrl_recipe.evaluation.grade import VERIFIERS
    from justrl_recipe.evaluation.job import Resources, Sampling

    if list_published:
        show.print_table(*show.published_cells())
        return
    if (model is None) == (not grade_only):
        raise UserError("give either a MODEL or --grade-only FILE")
    if verifier not in VERIFIERS:
        raise UserError(f"no verifier {verifier!r}: there are {', '.join(VERIFIERS)}")
    if golden and against is None:
        if model is None:
            raise UserError("--golden needs --against NAME")
        against = Path(model).resolve().name
    row = compare.find(against) if against else None
    try:
        judging = checkpoint.find(judge, trust) if judge else None
        resources = Resources(tensor_parallel, max_num_seqs)
        if grade_only:
            refuse_generation_options(context)
            source = sources.from_files(grade_only)
        else:
            found = checkpoint.find(str(model), trust)
            wanted = tasks.load(benchmark or [], data, n, limit)
            source = sources.from_model(found, wanted, Sampling(temperature, top_p, max_tokens), seed, resources)
        if row and golden:
            compare.require_same(row, source.about["settings"], source.sizes, verifier, judge is not None)

        from justrl_recipe.evaluation.evaluate import evaluate as run  # scipy takes seconds: after what may be wrong

        results, folder = run(source, out, verifier, judging, resources)
        if row:
            results["against"] = {"row": row.name, "kind": row.kind, "benchmarks": compare.compare(results, row)}
        if row and golden:
            results["golden"] = compare.golden(results, row)
        show.write(results, row, folder)
    except EngineFailed as failure:
        warn(f"evaluation failed: {failure}")
        raise typer.Exit(2 if golden else 1) from failure  # a golden check that failed to check is no verdict
    except KeyboardInterrupt as interrupt:
        warn("interrupted: the same command goes on from here")
        raise typer.Exit(130) from interrupt
    except OSError as error:
        raise UserError(f"cannot read or write {error.filename}: {error.strerror}") from error

    show.print_table(*show.cells(results))
    if row and row.kind != compare.best(results):
        say(f"{row.name} is a {row.kind} score, ours are by {compare.best(results)}")
    say(f"kept in {folder.path}: results.json, results.md, results.png, grades.jsonl")
    if golden:
        report_golden(results["golden"])
        raise typer.Exit(0 if results["golden"]["reproduces"] else 1)


def refuse_generation_options(context: typer.Context) -> None:
    """Options that would be without effect when nothing is generated are a misunderstanding.

    Raises:
        UserError: one was given.
    """
    for name in ("benchmark", "data", "n", "limit", "temperature", "top_p", "max_tokens", "seed"):
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
            option = name.replace("_", "-")
            raise UserError(f"--{option} is for what is generated: it does not go with --grade-only")


def report_golden(golden: dict[str, Any]) -> None:
    """Print whether the installation reproduces the row, and where not."""
    for name, check in golden["benchmarks"].items():
        if not check["reproduces"]:
            z = "no spread" if check["z"] is None else f"z {check['z']:.1f}, limit {golden['limit']:.1f}"
            say(f"{name}: {100 * check['ours']:.2f}, {golden['row']} has {100 * check['theirs']:.2f} ({z})")
    verdict = "reproduces" if golden["reproduces"] else "does not reproduce"
    say(f"this installation {verdict} {golden['row']} on {', '.join(golden['benchmarks'])}")
