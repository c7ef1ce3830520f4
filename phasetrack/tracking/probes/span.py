"""The signal span that the network shows, compared with the declared one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.measures.signal_span import discover
from phasetrack.model.formula import FrozenLayers
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot


@dataclass(frozen=True)
class SpanProbe(Probe):
    """The signal span that the network shows at each recorded step (`signal_span.discover`).

    Costs a few passes over the sample and an eigenvalue problem of size d per recorded step.

    Args:
        inputs: a sample to evaluate the network on, (m, d).
        labels: its labels, (m,).
        other: a second network on inputs (m, d), such as an earlier checkpoint or another seed, with which the
            span has to agree; None leaves ``span/stability`` undefined.
    """

    inputs: Tensor
    labels: Tensor
    other: Callable[[Tensor], Tensor] | None = None
    name: str = "span"
    needs: frozenset[str] = frozenset({"weights"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return dimension, gap, agreement with `other` and its chance level, accuracy and verdict.

        ``span/trustworthy`` is 1 or 0; ``span/angle`` is the largest principal angle, in degrees, to
        the declared span, undefined where none is declared.
        """
        if missing := snapshot.formula.missing:
            return {"span/trustworthy": Reading.undefined(missing)}
        classes, heads = len(torch.unique(self.labels)), snapshot.formula.heads
        if heads > 2 and classes != heads:
            reason = f"the sample has {classes} classes and the network {heads}"
            return {"span/trustworthy": Reading.undefined(reason)}
        rows = [self._row(snapshot, state.view) for state in snapshot.states()]
        columns = {
            name: torch.tensor([row[name] for row in rows], dtype=torch.float64, device="cpu")
            for name in rows[0]
        }
        alone = "there is no second network to compare the span with"
        stability = columns["span/stability"]
        readings: dict[str, Reading | Tensor] = dict(columns)
        readings["span/stability"] = Reading(stability, ((stability.isnan(), alone),))
        if nothing := snapshot.geometry.no_span:
            readings["span/angle"] = Reading.undefined(nothing)
        return readings

    def _row(self, snapshot: Snapshot, view: FrozenLayers | None) -> dict[str, float]:
        assert view is not None

        def output(inputs: Tensor) -> Tensor:
            parts = (view.W, view.A, view.bias, view.head_bias)
            like = (None if part is None else part.to(inputs) for part in parts)
            values = FrozenLayers(view.formula, *like).outputs(inputs)  # type: ignore[arg-type]
            return values[:, 1] - values[:, 0] if values.shape[1:] == (2,) else values

        found = discover(self.inputs.double(), self.labels, output, other=self.other)
        return {
            "span/dim": float(found.dim),
            "span/gap": found.gap,
            "span/stability": found.stability,
            "span/chance": found.chance,
            "span/accuracy": found.accuracy,
            "span/majority": found.majority,
            "span/trustworthy": float(found.trustworthy),
            "span/angle": math.nan
            if snapshot.geometry.no_span
            else float(found.angles_to(snapshot.geometry.basis).amax()),
        }
