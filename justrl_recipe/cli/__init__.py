"""The command line: one file per verb. `verl` and `justrl` are the same program."""

import errno
import os
import sys

import typer

from justrl_recipe.cli import cat, cp, data, doctor, eval, export, ls, plan, report, responses, run, validate
from justrl_recipe.errors import UserError
from justrl_recipe.masking import MaskedStream
from justrl_recipe.terminal import warn

app = typer.Typer(
    help="JustRL on veRL: one stage of GRPO, fixed hyperparameters, a rule-based reward.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("eval", epilog=eval.EXAMPLE)(eval.evaluate)
app.command("export", epilog=export.EXAMPLE)(export.export)
app.command("validate", epilog=validate.EXAMPLE)(validate.validate)
app.command("plan", epilog=plan.EXAMPLE)(plan.plan)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.command("report", epilog=report.EXAMPLE)(report.report)
app.command("responses", epilog=responses.EXAMPLE)(responses.responses)
app.command("ls", epilog=ls.EXAMPLE)(ls.ls)
app.command("cat", epilog=cat.EXAMPLE)(cat.cat)
app.command("cp", epilog=cp.EXAMPLE)(cp.cp)
app.add_typer(data.app, name="data", epilog=data.EXAMPLE)


def main() -> None:
    """Run a verb; a user's mistake is one line on standard error and exit code 2. No secret of a config is shown."""
    streams = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115  # one is closed
    sys.stdout, sys.stderr = map(MaskedStream, streams)  # type: ignore[assignment]
    if sys.argv[1:2] != ["run"]:  # whose modules may stand in the working folder; another verb's may not
        os.environ["PYTHONSAFEPATH"] = "1"  # for its subprocesses; from Python 3.11
    try:
        app()
    except UserError as error:
        warn(f"error: {error}")
        sys.exit(2)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # pathlib raises it, which takes other names that lead nowhere
            warn(f"error: a name of {len(str(error.filename)):,} characters is too long for a file")
        elif error.filename == "<stdout>" and not isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left in its buffer
            warn(f"error: the output cannot be written: {error.strerror}")
        else:
            raise
        sys.exit(2)
