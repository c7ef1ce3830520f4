"""Whether the two layers that are followed are still those of the model."""

from __future__ import annotations

from torch import nn

from phasetrack.model.layer_search import unwrapped
from phasetrack.model.layer_weight import Weight
from phasetrack.model.two_layer_view import TwoLayerView


class StandingLayers:
    """Looks whether a module or parameter on the way to a layer was replaced since.

    Args:
        model: the model.
        view: its two layers.
    """

    def __init__(self, model: nn.Module, view: TwoLayerView) -> None:
        inner = unwrapped(model)
        self._places = [
            (table, key, table[key], weight.layer_name)
            for weight in (view.first, view.second)
            for table, key in _way(inner, weight)
            if key in table
        ]

    def replaced(self) -> str:
        """Return the name of a layer that was replaced; empty where both still stand."""
        for table, key, part, name in self._places:
            if table.get(key) is not part:
                return name
        return ""


def _way(model: nn.Module, weight: Weight) -> list[tuple[dict[str, object], str]]:
    """Return the tables and keys under which a model keeps a weight, from the outermost module in."""
    way: list[tuple[dict[str, object], str]] = []
    module = model
    for key in weight.name.removesuffix(weight.attribute).split(".")[:-1]:
        way.append((module._modules, key))  # type: ignore[arg-type]
        module = module._modules[key]  # type: ignore[assignment]
    return [*way, (module._parameters, weight.attribute)]  # type: ignore[list-item]
