"""What is known of a model's layers, in a tracker's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.model.two_layer_view import ACTIVATIONS, TwoLayerView, known_activation


def state_of_view(view: TwoLayerView) -> dict[str, Any]:
    """Return what was found out about the layers, as plain data."""
    return {
        "scale": view.scale,
        "bias_scaled": view.bias_scaled,
        "assumed": view.assumed,
        "transposed": [view.first.transposed, view.second.transposed],
        "activation": known_activation(view.activation),
        "notes": list(view.notes),
        "link": view.link,
        "doubt": view.doubt,
    }


def view_from_state(found: Mapping[str, Any], view: TwoLayerView) -> TwoLayerView:
    """Return a model's view with what was known of the layers when a state was saved.

    Raises:
        ExpectedError: if the layers are not those of this model.
    """
    turned = [bool(side) for side in found["transposed"]]
    sides = (view.first, view.second)
    first, second = (replace(w, transposed=t) for w, t in zip(sides, turned, strict=True))
    shapes = [first.shape, second.shape]
    if shapes != [side.shape for side in sides] and not view.assumed:
        raise ExpectedError(
            "state",
            f"The saved layers have shapes {shapes}, and the model's are "
            f"{[side.shape for side in sides]}.",
            "Load the state into a model of the same shape.",
        )
    activation = view.activation
    if view.assumed and found["activation"] is not None:
        activation = ACTIVATIONS[found["activation"]]
    return replace(
        view,
        first=first,
        second=second,
        scale=None if found["scale"] is None else float(found["scale"]),
        bias_scaled=bool(found["bias_scaled"]),
        assumed=bool(found["assumed"]),
        activation=activation,
        notes=tuple(str(note) for note in found["notes"]),
        link=str(found.get("link", "identity")),  # states of version 0.1 have none
        doubt=str(found.get("doubt", "")),
    )
