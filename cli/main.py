"""The `phasetrack` command: parse, call phasetrack, show. No mathematics, and no torch at import."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from phasetrack.errors import ExpectedError, printable
from phasetrack.training.launcher_env import ProcessError, place

from .bench import bench
from .claims import claims
from .exit_codes import FAILED, INTERRUPTED
from .inspection import inspect
from .output import complain, lasting_streams, own_place
from .planning import plan
from .run_command import forecast, run
from .runs import compare, list_runs, plot, replay, report, show
from .server import tensorboard
from .sweeps import sweep
from .usage_errors import UsageError, complain_of_usage, complain_of_value

app = typer.Typer(
    help="Phase diagnostics for two-layer neural networks (arXiv 2309.15111).",
    epilog="First: phasetrack run xor --d 512. Then: phasetrack list, phasetrack tensorboard.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"phasetrack {version('phasetrack')}")
        raise typer.Exit


@app.callback()
def _check_processes(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version.", callback=_print_version)
    ] = False,
) -> None:
    command = context.invoked_subcommand
    if command != "run" and place().count > 1:
        raise ExpectedError(
            "torchrun",
            f"{command!r} was started in {place().count} processes.",
            "Start it in one; only `run` is shared among several.",
        )


EXAMPLES: dict[Callable[..., None], str] = {
    run: "Examples: phasetrack run xor --d 512; phasetrack run xor --theta 10 --name lazy; "
    "phasetrack run xor --resume lazy.",
    sweep: "Example: phasetrack sweep xor --grid d=64,128 --grid theta=0.03,0.1 --seeds 5 --plot.",
    bench: "Examples: phasetrack bench --list; phasetrack bench --vocabulary grokking; "
    "phasetrack bench --vocabulary my_module:MyVocabulary.",
    claims: "Examples: phasetrack claims --list; phasetrack claims --quick --only 8.",
}
for command in (run, forecast, plan, sweep, claims, bench, show):
    app.command(epilog=EXAMPLES.get(command))(command)
app.command("list")(list_runs)
for command in (plot, compare, report, replay, tensorboard, inspect):
    app.command()(command)


def main() -> None:
    """Run the command; a mistake in its options is one line and exit code 2."""
    with lasting_streams() as streams:
        code = _main()
        for stream in streams:
            stream.flush()
        lost = next((stream.lost for stream in streams if stream.lost is not None), None)
        # a reader that has seen enough closes its pipe; a run is in its files, wherever its words went
        if lost is not None and lost.errno != errno.EPIPE and sys.argv[1:2] != ["run"]:
            complain("output", f"It could not be written whole ({lost.strerror}).")
            code = code or FAILED
    sys.exit(code)


def _main() -> Any:
    before = warnings.formatwarning
    # a line for people, without the line of code that it came from
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
    try:
        code = app(prog_name="phasetrack", standalone_mode=False)
    except ExpectedError as error:
        code = complain_of_value(error)
    except UsageError as error:
        code = complain_of_usage(error)
    except ProcessError as error:
        complain("run", str(error))
        code = FAILED
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            code = complain(str(error.filename)[:80], f"The path is too long ({error.strerror}).")
        elif (
            error.filename is not None
        ):  # a file of the user's; whatever else fails is a bug of ours
            complain(printable(error.filename), f"The system refuses it ({error.strerror}).")
            code = FAILED
        else:
            raise
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    finally:
        warnings.formatwarning = before
    if own_place().count > 1:
        # gloo's threads outlive the model that they served (torch 2.13) and, rarely, abort the
        # process while it is taken down; all files are closed by now
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    return code
