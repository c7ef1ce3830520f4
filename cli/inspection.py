"""`phasetrack inspect`: a model of the user's, made and shown as phasetrack sees it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phasetrack.errors import ExpectedError

from .output import console

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

    from phasetrack.model.two_layer_view import TwoLayerView

# Most names of a module that an error lists.
MOST_NAMES = 10


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY", help="Where the model is made: my_module:make_model."
        ),
    ],
    first: Annotated[
        str | None, typer.Option(help="Name of the first layer.", show_default=False)
    ] = None,
    second: Annotated[
        str | None, typer.Option(help="Name of the second layer.", show_default=False)
    ] = None,
) -> None:
    """Show which two layers of a model phasetrack would follow, before anyone trains."""
    from phasetrack.model.two_layer_view import TwoLayerView

    if (first is None) != (second is None):
        given, missing = ("first", "second") if second is None else ("second", "first")
        raise ExpectedError(missing, f"Only --{given} is given.", "Name both layers, or neither.")
    model = made_model(target)
    view = TwoLayerView.of(model, (first, second) if first and second else None)
    console().print(view_table(view), highlight=False)


def made_model(target: str) -> nn.Module:
    """Return the model that MODULE:FACTORY makes (or is), modules of the current directory included.

    Raises:
        ExpectedError: naming the part that cannot be found, or that is not a model.
    """
    from torch import nn

    module_name, _, factory_name = target.partition(":")
    if not module_name or not factory_name:
        raise ExpectedError(
            "target_of",
            f"{target!r} does not name a module and a factory.",
            "Write MODULE:FACTORY, such as my_module:make_model.",
        )
    with _current_folder_importable():  # by the factory, too
        made = _named(_imported(module_name), factory_name)
        if not isinstance(made, nn.Module) and callable(made):
            try:
                made = made()
            except Exception as error:
                raise ExpectedError(
                    "target_of",
                    f"{factory_name}() failed: {type(error).__name__}: {error}.",
                    "Pass a factory that runs without arguments.",
                ) from None
    if not isinstance(made, nn.Module):
        raise ExpectedError(
            "target_of",
            f"{factory_name} makes a {type(made).__name__}, not a torch.nn.Module.",
            "Name a function that returns the model.",
        )
    return made


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Import modules of the current folder inside, too."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _imported(name: str) -> Any:
    """Import a module."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExpectedError(
            "target_of",
            f"The module {name!r} cannot be imported ({error}).",
            "Run the command in the folder of the module, or install it.",
        ) from None


def _named(module: Any, name: str) -> Any:
    """Return an attribute of a module."""
    found = getattr(module, name, None)
    if found is None:
        names = [each for each in vars(module) if not each.startswith("_")]
        names[MOST_NAMES:] = ["..."] if len(names) > MOST_NAMES else []
        raise ExpectedError(
            "target_of",
            f"{module.__name__} has no {name!r}.",
            f"Its names are {', '.join(names)}.",
        )
    return found


def view_table(view: TwoLayerView) -> Table:
    """Return the two layers, and the parts between and behind them, as a table."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    (p, d), (heads, _) = view.first.shape, view.second.shape
    head = "one output" if heads == 1 else f"logits of {heads} classes"
    activation = getattr(view.activation, "__name__", type(view.activation).__name__)
    rows = {
        "first layer": f"{view.names[0]}: {d} -> {p} neurons{_bias(view.first_bias)}",
        "activation": activation + (" (assumed; the first batch decides)" if view.assumed else ""),
        "second layer": f"{view.names[1]}: {p} -> {head}{_bias(view.second_bias)}",
        "scale": "measured on the first batch" if view.scale is None else f"{view.scale:g}",
        "predicted rates": "yes" if view.plain else "no: they hold for ReLU, one output, no biases",
    }
    for name, text in rows.items():
        table.add_row(name, text)
    for note in view.notes:
        table.add_row("note", note)
    return table


def _bias(name: str | None) -> str:
    return ", no bias" if name is None else f", bias {name}"
