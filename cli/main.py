"""The `phasetrack` command: parse, call phasetrack, show. No mathematics, and no torch at import."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable
from inspect import cleandoc
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


def _unwrapped(text: str) -> str:
    r"""Return a docstring with a line per paragraph, for the terminal to wrap.

    >>> _unwrapped('Train.\n\n    One or\n    more runs.')
    'Train.\\n\\nOne or more runs.'
    """
    return "\n\n".join(" ".join(part.split()) for part in cleandoc(text).split("\n\n"))


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
    forecast: "Examples: phasetrack forecast xor --d 512; phasetrack forecast two-xors --d 64 --json.",
    plan: "Example: phasetrack plan --d 1000000 --gpus 64.",
    sweep: "Example: phasetrack sweep xor --grid d=64,128 --grid theta=0.03,0.1 --seeds 5 --plot.",
    claims: "Examples: phasetrack claims --list; phasetrack claims --quick --only 8.",
    bench: "Examples: phasetrack bench --list; phasetrack bench --vocabulary grokking; "
    "phasetrack bench --vocabulary my_module:MyVocabulary.",
    list_runs: "Examples: phasetrack list; phasetrack list --out sweeps --json.",
    show: "Examples: phasetrack show; phasetrack show mine --zeta 0.3; "
    "phasetrack show mine --threshold patience=20.",
    plot: "Examples: phasetrack plot mine; phasetrack plot mine --file mine.pdf --size paper --width 3.25 "
    "--panels zeta,loss.",
    compare: "Examples: phasetrack compare; phasetrack compare mine xor-d512-s0 --file both.png --align.",
    report: "Examples: phasetrack report; phasetrack report mine xor-d512-s0 --file runs.html.",
    replay: "Examples: phasetrack run xor --snapshots 5 --name saved; phasetrack replay saved.",
    tensorboard: "Examples: phasetrack tensorboard --open; phasetrack tensorboard --out sweeps --port 0.",
    inspect: "Example: phasetrack inspect my_module:make_model.",
}
NAMES = {list_runs: "list"}
for command, example in EXAMPLES.items():
    app.command(NAMES.get(command), epilog=example, help=_unwrapped(command.__doc__ or ""))(command)


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
