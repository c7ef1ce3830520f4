"""What a run would read at the states of a forecast, many states at once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from phasetrack.measures import heaviness, margins
from phasetrack.model.geometry import Neurons

# Neurons, outputs and shares of the batch at one step.
State = tuple[Neurons, Tensor, Tensor]
METRICS = (
    "heaviness/zeta_star",
    "heaviness/heavy_mass",
    "loss/train",
    "margin/min",
    "margin/max",
    "margin/balance",
    "linearization/value_error",
    "linearization/slope_drift",
)


def read_states(passed: list[State], table: dict[str, list[Tensor]]) -> None:
    """Append the readings of the states to the table, all states at once, and empty their list."""
    if not passed:
        return
    tables, outputs, counts = zip(*passed, strict=True)
    biases = [neurons.bias for neurons in tables if neurons.bias is not None]
    stacked = replace(
        tables[0],
        coordinates=torch.stack([neurons.coordinates for neurons in tables]),
        perp=torch.stack([neurons.perp for neurons in tables]),
        second_layer=torch.stack([neurons.second_layer for neurons in tables]),
        bias=torch.stack(biases) if biases else None,
    )
    for metric, values in _readings(stacked, torch.stack(outputs), torch.stack(counts)).items():
        table[metric].append(values)
    passed.clear()


def both_margins(outputs: Tensor) -> Tensor:
    """Margins y f for both labels, (..., K, 2, n)."""
    return torch.stack([-outputs, outputs], dim=-2)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over a batch with those shares of points and labels, (...)."""
    return (values.mean(dim=-1) * weights).sum(dim=(-2, -1))


def training_loss(margin: Tensor, weights: Tensor) -> Tensor:
    """Training loss of a batch, (...)."""
    return _mean(2 * torch.nn.functional.softplus(-margin), weights)


def _readings(neurons: Neurons, outputs: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """What a run would read on a batch with those shares of points and labels."""
    clean = margins.clean_margins_of(neurons)
    margin = both_margins(outputs)
    change = 2 * torch.log1p(torch.expm1(-margin) / 2)
    size = _mean(change.abs(), weights)
    return {
        "heaviness/zeta_star": heaviness.certificate_of(neurons),
        "heaviness/heavy_mass": heaviness.heavy_mass_of(neurons),
        "loss/train": training_loss(margin, weights),
        "margin/min": clean.amin(dim=-1),
        "margin/max": clean.amax(dim=-1),
        "margin/balance": margins.balance(clean),
        "linearization/value_error": torch.where(
            size == 0, 0.0, _mean((change + margin).abs(), weights) / size
        ),
        "linearization/slope_drift": _mean(torch.tanh(margin.abs() / 2), weights),
    }
