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

    from phasetrack.model.layer_weight import Weight
    from phasetrack.model.pass_rehearsal import Samples
    from phasetrack.model.two_layer_view import TwoLayerView

# Most names of a module that an error lists.
MOST_NAMES = 10


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY",
            help="A function that makes your model, or the model itself, such as my_module:make_model.",
        ),
    ],
    first: Annotated[
        str | None,
        typer.Option(
            help="Name of the first layer, such as 0 or encoder.fc1 (default: found).",
            show_default=False,
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(help="Name of the second layer (default: found).", show_default=False),
    ] = None,
) -> None:
    """Show which two layers of a model phasetrack would follow, before training."""
    from phasetrack.model.pass_rehearsal import rehearsed
    from phasetrack.model.two_layer_view import TwoLayerView

    if (first is None) != (second is None):
        given, missing = ("first", "second") if second is None else ("second", "first")
        raise ExpectedError(missing, f"Only --{given} is given.", "Name both layers, or neither.")
    model = made_model(target)
    try:
        view = TwoLayerView.of(model, (first, second) if first and second else None)
    except ExpectedError as error:
        fix = error.fix.replace("layers=(first, second)", "--first and --second")
        raise ExpectedError(error.argument, error.problem, fix) from None
    found = rehearsed(model, view)
    screen = console()
    screen.print(view_table(found.view, found.reason, view.activation), highlight=False)
    if found.samples is not None:
        screen.print()
        screen.print(sample_table(found.samples), highlight=False)


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
    with current_folder_importable():  # by the factory, too
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
def current_folder_importable() -> Iterator[None]:
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


def view_table(view: TwoLayerView, unseen: str, listed: object) -> Table:
    """Return the two layers, and the parts between and behind them, as a table.

    Args:
        view: the layers.
        unseen: why no forward pass was seen; empty where one was.
        listed: the activation by the order of the model's modules.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    (p, d), (heads, _) = view.first.shape, view.second.shape
    head = "one output" if heads == 1 else f"logits of {heads} classes"
    rows = {
        "first layer": f"{view.names[0]}: {d} -> {p} neurons{_bias(view.first_bias)}"
        + _kept(view.first),
        "activation": _activation(view, listed),
        "second layer": f"{view.names[1]}: {p} -> {head}{_bias(view.second_bias)}"
        + _kept(view.second),
        "output": _output(view),
        "reproduction": f"not seen: {unseen}" if unseen else _reproduction(view),
        "predicted rates": "yes" if view.plain and not view.assumed else _no_rates(view),
    }
    for name, text in rows.items():
        table.add_row(name, Text(text))
    for note in view.notes:
        if note != view.doubt:
            table.add_row("note", Text(note))
    return table


def _bias(name: str | None) -> str:
    return ", no bias" if name is None else f", bias {name}"


def _activation(view: TwoLayerView, listed: object) -> str:
    from phasetrack.model.activations import known_activation, shown

    if not view.activation_known:
        return "not one function of each neuron"
    name = shown(view.activation)
    kind = type(listed).__name__
    if kind[:1].isupper() and known_activation(listed) == name:
        name = f"{name}, by the module {kind}"
    return f"{name} (a guess)" if view.assumed else name


def _kept(weight: Weight) -> str:
    turned = ", kept as (inputs, outputs)" if weight.transposed else ""
    return turned + ("" if weight.factor == 1.0 else f", times {weight.factor:.4g}")


def _output(view: TwoLayerView) -> str:
    if view.doubt:
        return "not the layers' alone"
    if view.scale is None:
        return "the layers' times a factor that is measured in training"
    factor = "the layers' own" if view.scale == 1 else f"the layers' times {view.scale:.4g}"
    unscaled = "" if view.bias_scaled or view.scale == 1 else ", the bias not"
    return factor + unscaled + ("" if view.link == "identity" else f", through {view.link}")


def _reproduction(view: TwoLayerView) -> str:
    if view.doubt:
        return f"no: {view.doubt}. Margins, zeta* and rates are left out"
    if view.reproduction is None:
        return "not compared"
    return (
        "yes: in evaluation mode the two layers alone make the model's output (relative difference "
        f"{view.reproduction:.1g})"
    )


def _no_rates(view: TwoLayerView) -> str:
    if view.doubt:
        return "no: the layers do not make the output"
    if view.assumed and view.plain:
        return "not known before a pass shows the activation"
    law = "no: they hold for ReLU, one output, no biases"
    return law if view.formula.direct else f"{law}, and weights used as they are kept"


def sample_table(samples: Samples) -> Table:
    """Return outputs of the layers beside those of the model, for a few random inputs."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("random input", style="dim")
    table.add_column("the layers", justify="right")
    table.add_column("the model", justify="right")
    table.add_column("difference", justify="right")
    for number, (ours, theirs) in enumerate(zip(samples.layers, samples.model, strict=True), 1):
        table.add_row(f"{number}", f"{ours:.6g}", f"{theirs:.6g}", f"{abs(ours - theirs):.1g}")
    return table
