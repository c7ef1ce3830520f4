"""`phasetrack inspect`: somebody's model, made and shown as phasetrack sees it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from phasetrack.errors import expected_error

if TYPE_CHECKING:
    from torch import nn

    from phasetrack.model.two_layer_view import TwoLayerView

# Names of a module that an error lists (chosen here).
MOST_NAMES = 10


def made_model(target: str) -> nn.Module:
    """The model that MODULE:FACTORY makes (or is), modules of the current directory included.

    Raises:
        ExpectedError: naming what of it cannot be found, or is no model.
    """
    from torch import nn

    module_name, _, factory_name = target.partition(":")
    if not module_name or not factory_name:
        raise expected_error("target_of", "MODULE:FACTORY, such as my_module:make_model", target)
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise expected_error("target_of", "a module that can be imported", f"{error}") from None
    factory = getattr(module, factory_name, None)
    if factory is None:
        names = [name for name in vars(module) if not name.startswith("_")]
        names[MOST_NAMES:] = ["..."] if len(names) > MOST_NAMES else []
        raise expected_error(
            "target_of", f"a name in {module_name}: {', '.join(names)}", factory_name
        )
    made = factory
    if not isinstance(factory, nn.Module) and callable(factory):
        try:
            made = factory()
        except Exception as error:
            failed = f"{type(error).__name__}: {error}"
            raise expected_error(
                "target_of", "a factory that runs without arguments", failed
            ) from None
    if not isinstance(made, nn.Module):
        raise expected_error(
            "target_of", "something that makes a torch.nn.Module", type(made).__name__
        )
    return made


def view_table(view: TwoLayerView) -> Table:
    """The two layers and what lies between and behind them."""
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
