"""`verl data`: prepare and check the training set and the benchmarks."""

from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe.errors import UserError
from justrl_recipe.terminal import Console, say, say_json, warn

EXAMPLE = "Example: verl data benchmarks && verl data train && verl data check data/train.parquet"

app = typer.Typer(no_args_is_help=True, help="Prepare and check the data.", rich_markup_mode=None)

Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder; recipes look in data/.")]


@app.command(epilog="Example: verl data train --source mine.csv --problem Question --answer Solution")
def train(
    out: Out = Path("data"),
    source: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .parquet, .csv, .json or .jsonl; default: download DAPO-Math-17k."),
    ] = None,
    problem: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of --source that has the problems.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of --source that has the ground truths.")
    ] = None,
) -> None:
    """Write train.parquet, and validation.parquet if the benchmarks are available."""
    from rich.progress import Progress

    from justrl_recipe.data import benchmarks, problems, training

    columns = (problem, answer) if problem and answer else None
    if (problem or answer) and not (columns and source):
        raise UserError("--problem and --answer go together, and with --source FILE")
    if problem and problem == answer:
        raise UserError(f"--problem and --answer name the same column {problem!r}: give one for each")
    file, origin = (source, {"source": source.name}) if source else training.download()
    origin |= {"columns": columns} if columns else {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=problems.count_rows(file))
        made = training.prepare(file, out / "train.parquet", origin, lambda rows: bar.advance(task, rows), columns)
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in made["dropped"].items()) or "nothing"
    say(f"{out / 'train.parquet'}: {made['rows_out']:,} of {made['rows_in']:,} rows; dropped: {dropped}")

    pairs = benchmarks.prepared(out)
    if pairs is None and source is None:
        wanted = [benchmark for benchmark in benchmarks.BENCHMARKS if benchmark.name in benchmarks.VALIDATION]
        pairs = {benchmark.name: benchmarks.download(benchmark)[0] for benchmark in wanted}
    if pairs is None:
        command = f"verl data benchmarks --out {out} [--source FOLDER]"
        warn(f"no validation.parquet: it is made of AIME24, AIME25 and AMC23 by `{command}`")
        return
    say(f"{out / 'validation.parquet'}: {benchmarks.write_validation(out, pairs)} rows of {', '.join(pairs)}")


@app.command("benchmarks", epilog="Example: verl data benchmarks --source ~/benchmarks")
def benchmarks_command(
    out: Out = Path("data"),
    source: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Files named like the benchmarks; default: download them.")
    ] = None,
) -> None:
    """Write the nine benchmarks and validation.parquet."""
    from justrl_recipe.data import benchmarks

    for name, rows in benchmarks.prepare(out, source).items():
        say(f"{out / f'{name}.parquet'}: {rows} rows")
    say(f"{out / 'validation.parquet'}: {', '.join(benchmarks.VALIDATION)} with the training suffix")


@app.command(epilog="Example: verl data check data/train.parquet --tokenizer Qwen/Qwen2.5-1.5B")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A prepared parquet file.")],
    benchmarks: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Prepared benchmarks; default: those beside FILE.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Count the prompts' tokens with this tokenizer.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="TOKENS", help="The longest prompt; default the recipe's.")] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Report what is in a prepared file; exit code 1 if it would spoil a run."""
    from justrl_recipe.data import check as checking

    report = checking.check(file, benchmarks or file.parent, tokenizer, limit)
    if as_json:
        say_json(report.as_dict())
    else:
        say(*report.as_lines())
    if report.spoiled:
        raise typer.Exit(1)
