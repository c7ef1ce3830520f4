"""Mistakes on the command line, one line each: what is wrong with which value."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import Any

import typer

from phasetrack.errors import ExpectedError

from .output import complain

# The error of click for wrong usage, which typer may vendor under a private name.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
# Replacements for typer's type errors, which leave out the value.
KINDS = {"valid int": "an integer", "valid float": "a number", "valid number": "a number"}
# Arguments of the library that have another name on the command line.
OPTION_OF = {
    "target_of": "MODULE:FACTORY",
    "model": "MODULE:FACTORY",
    "layers": "--first/--second",
    "task": "TASK",
    "torchrun": "torchrun",
    "run": "RUN",
    "runs": "RUN",
    "aligned": "--align",
    "path": "RUN",
    "paths": "RUN",
    "checkpoint": "RUN",
    "state": "RUN",
    "logdir": "RUN",
    "zeta_enter": "--zeta",
    "loss_target": "--target",
    "axes": "--grid",
    "folder": "--out",
    "numbers": "--only",
    "scipy": "phasetrack claims",
    "workers": "--jobs",
}

# Names that other tools have for the options of `run`, `forecast`, `plan` and `sweep`.
OTHER_NAMES = {
    "--lr": "the step size is --eta, and the optimizer's learning rate is eta * width",
    "--learning-rate": "the step size is --eta, and the optimizer's learning rate is eta * width",
    "--hidden": "the number of neurons is --width",
    "--neurons": "the number of neurons is --width",
    "--epochs": "samples are always fresh, so count --steps",
    "--iterations": "the number of steps is --steps",
    "--batch-size": "the number of samples per step is --batch",
    "--init-scale": "the initial |w| and |a| of each neuron are --theta",
    "--logdir": "the folder of runs is --out",
}


def complain_of_value(error: ExpectedError) -> int:
    """Print what the library says of an argument, under the name of its option."""
    name = OPTION_OF.get(error.argument, f"--{error.argument.replace('_', '-')}")
    return complain(name, error.message)


def complain_of_usage(error: Any) -> int:
    """Print what click says of an option, with the value that was typed."""
    parameter = getattr(error, "param", None)
    if parameter is not None:
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        kind = next((kind for word, kind in KINDS.items() if word in (error.message or "")), "")
        if kind and (given := _typed(parameter.opts)) is not None:
            return complain(name, f"{given[:80]!r} is not {kind}.")
        return complain(name, error.message or "No value is given.")
    if error.ctx is not None and not sys.argv[1:]:  # no command: the help text is the message
        error.show()
        return 2
    command = error.ctx.command_path if error.ctx else "phasetrack"
    message = error.format_message()
    option = getattr(error, "option_name", "")
    if option and hasattr(error, "possibilities"):  # an option that there is not
        near = get_close_matches(option, error.possibilities or (), 1)
        hint = f". Did you mean '{near[0]}'?" if near else "."
        known = f" ({OTHER_NAMES[option]})." if option in OTHER_NAMES else hint
        message = f"No such option: {option}{known}"
    ended = message if message.endswith(("?", ".")) else f"{message}."
    return complain(command, f"{ended} See {command} --help.")


def _typed(names: list[str]) -> str | None:
    """Return the value that was typed for an option; None if the option was not given."""
    words = sys.argv[1:]
    for word, following in zip(words, [*words[1:], None], strict=True):
        option, equals, value = word.partition("=")
        if option in names:
            return value if equals else following
    return None
