"""A run seen again in hindsight: its saved weights against a signal span found at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phasetrack.errors import expected_error
from phasetrack.measures.signal_span import DiscoveredSpan, discover
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.losses import LogisticLoss, Loss
from phasetrack.model.two_layer_view import ACTIVATIONS
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.summary import summarise_again
from phasetrack.storage.weight_store import SavedWeights, read_weights
from phasetrack.tracking.probes.default import (
    BlockFunctionProbe,
    GrowthProbe,
    HeavinessProbe,
    clean_margins,
    empirical_margins,
    linearization,
)
from phasetrack.tracking.probes.default import loss as loss_probe
from phasetrack.tracking.tracker import attach


@dataclass(frozen=True)
class Replay:
    """What a run looks like against clusters that need not have been known while it ran.

    Attributes:
        history: readings at the saved steps; growth rates are those between them.
        summary: labels, boundaries and alerts, under the keys of ``summary.json``.
        geometry: the clusters that were used.
        span: the span that they were found in; None where they were given.
    """

    history: History
    summary: dict[str, Any]
    geometry: ClusterGeometry
    span: DiscoveredSpan | None


class _Rebuilt(nn.Module):
    """The two layers of a saved step as a module."""

    def __init__(self, state: Mapping[str, Tensor], saved: SavedWeights) -> None:
        super().__init__()
        (p, d), heads = state["W"].shape, len(state["A"])
        self.first = nn.Linear(d, p, bias="bias" in state)
        self.second = nn.Linear(p, heads, bias="head_bias" in state)
        self._activation = ACTIVATIONS[saved.activation]
        self._factor, self._bias_scaled = saved.scale or 1 / p, saved.bias_scaled
        self.to(state["W"].dtype)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of another step."""
        with torch.no_grad():
            self.first.weight.copy_(state["W"])
            self.second.weight.copy_(state["A"])
            if "bias" in state:
                self.first.bias.copy_(state["bias"])
            if "head_bias" in state:
                self.second.bias.copy_(state["head_bias"])

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (m,), or logits (m, n)."""
        hidden, bias = self._activation(self.first(x)), self.second.bias
        values: Tensor = nn.functional.linear(hidden, self.second.weight) * self._factor
        if bias is not None:
            values = values + bias * (self._factor if self._bias_scaled else 1.0)
        return values.squeeze(-1) if values.shape[-1] == 1 else values


class _Still(torch.optim.SGD):
    """An optimizer whose step changes nothing: the weights are those of the files."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing; the hooks around it are what is wanted."""


def replay(
    run: str | Path,
    inputs: Tensor,
    targets: Tensor,
    *,
    geometry: ClusterGeometry | None = None,
    loss: Loss | None = None,
    thresholds: Thresholds | None = None,
    eta: float = 1.0,
) -> Replay:
    """Read every saved step of a run again, on one sample of data.

    Args:
        run: its directory, with weights saved by ``attach(..., snapshots=)`` or ``--snapshots``.
        inputs: (m, d).
        targets: as the loss takes them, (m,).
        geometry: the clusters; None discovers the span from the last saved network on the data.
        loss: None takes the paper's logistic loss.
        thresholds: of the labels; None takes the defaults.
        eta: time that one step of the run took, for the growth rates; with 1 they are per step.

    Raises:
        ExpectedError: if no weights were saved, or no clusters can be told in the span that was
            found. A span that is not trustworthy is used all the same: look at ``.span``.
    """
    saved = read_weights(Path(run))
    states, steps = saved.states, list(saved.states)
    last = states[steps[-1]]
    if last["W"].shape[1] != inputs.shape[1]:
        got = f"weights of {last['W'].shape[1]} inputs"
        raise expected_error("run", f"saved weights of {inputs.shape[1]} inputs, as the data", got)
    model, measure = _Rebuilt(last, saved), loss or LogisticLoss()
    model.load(last)
    x, span = inputs.to(last["W"].dtype), None
    if geometry is None:
        span = discover(inputs, targets, model.double())
        geometry = span.geometry(inputs, targets)
        model.to(last["W"].dtype)
    batch = frozenset({"batch"})
    probes = [BlockFunctionProbe(p, batch) for p in (loss_probe, empirical_margins, linearization)]
    optimizer = _Still(model.parameters(), lr=1.0)
    tracker = attach(
        model,
        optimizer,
        loss=measure,
        geometry=geometry,
        probes=[*probes, HeavinessProbe(), BlockFunctionProbe(clean_margins), GrowthProbe()],
        thresholds=thresholds,
        activation=ACTIVATIONS[saved.activation],
        strict=True,
    )
    factor = saved.scale or 1 / len(last["W"])
    following = [*steps[1:], steps[-1] + 1]
    with tracker:
        for (step, state), after in zip(states.items(), following, strict=True):
            model.load(state)
            # the tracker counts time as lr * scale a step: as much as passed in the run
            optimizer.param_groups[0]["lr"] = eta * (after - step) / factor
            tracker.loss(model(x), targets.to(x) if targets.is_floating_point() else targets)
            optimizer.step()
    rows = zip(steps, (readings for _, readings in tracker.history.rows()), strict=True)
    history = History(rows)
    summary = summarise_again(history, thresholds or Thresholds(), undefined=tracker.undefined)
    return Replay(history, summary, geometry, span)
