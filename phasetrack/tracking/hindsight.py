"""Hindsight: a run without declared clusters, read again from its end along the span that its network came to use.

Weights are kept at few steps, spaced evenly in the logarithm of the step. At the end the signal span of the last
network is looked for (`measures.signal_span`), on samples that it was not trained on before; where that span is
trustworthy, the kept networks are measured along it. The whole is a heuristic of ours (theory.md 15).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.measures.signal_span import DiscoveredSpan
from phasetrack.model.formula import Formula, FrozenLayers
from phasetrack.model.geometry import Geometry, SpanGeometry
from phasetrack.model.samples import class_labels, column
from phasetrack.phases.history import History
from phasetrack.phases.thresholds import Thresholds
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.replay import read_again, span_of
from phasetrack.tracking.reservoir import MOST_SAMPLES, Reservoir
from phasetrack.tracking.schedules import begins_stretch
from phasetrack.tracking.snapshot import Snapshot

# Kept networks per factor of ten in the steps, and bytes that all of them may take up to `DECADES` such factors.
PER_DECADE, MOST_BYTES, DECADES = 8, 2**25, 7
# Kept networks and samples below which nothing is looked for, and inputs beyond which it takes too long;
# numbers in the table of gradients, 128 MB.
LEAST_NETWORKS, LEAST_SAMPLES, MOST_INPUTS, MOST_GRADIENTS = 4, 256, 2048, 2**24
# Entries of a summary that are kept of the run read again.
SUMMARISED = (
    "phase", "reason", "steps", "boundaries", "alerts", "timeline", "loss_at", "final", "thresholds", "units",
    "vocabularies",
)  # fmt: skip
# Samples per weight of the network from which on it cannot learn them by heart. A heuristic of ours.
ENOUGH_SAMPLES = 4
REPEATED = (
    "training goes over about {population:.0f} samples again, which {weights} weights may learn by heart, so "
    "that they cannot test a span; pass held_out=(inputs, targets) with at least 256 samples to attach()"
)


@dataclass(frozen=True)
class LookBack:
    """The outcome of a look back.

    Attributes:
        reason: why no span is trusted; empty where one is.
        span: the span that was found, trusted or not; None where none was looked for.
        geometry: clusters in it, or its directions alone.
        history: the kept networks along it; None unless it is trusted.
        summary: their labels, boundaries and alerts, under the keys of ``summary.json``.
        samples: how many samples it was looked for on.
        median: whether labels are targets above their median: those of a regression.
    """

    reason: str
    span: DiscoveredSpan | None = None
    geometry: Geometry | None = None
    history: History | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 0
    median: bool = False

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.span is None or self.history is None:
            return f"No span could be trusted in hindsight: {self.reason}."
        labels = "whether a target is above the median" if self.median else "the labels"
        return (
            f"In hindsight the network came to use {self.span.dim} of {len(self.span.basis)} input directions: along "
            f"them neighbours tell {labels} of {self.span.accuracy:.0%} of other samples, where "
            f"{self.span.majority:.0%} are guessed. {self.history.count} kept states were read again along them."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the entry ``hindsight`` of ``summary.json``."""
        found = self.span
        return {
            "trustworthy": not self.reason,
            "untrusted": self.reason,
            "sentence": self.sentence,
            "samples": self.samples,
            "span": found
            and {
                "dimension": found.dim,
                "chance": found.chance,
                "accuracy": found.accuracy,
                "majority": found.majority,
                "stability": found.stability,
            },
            **{name: self.summary[name] for name in SUMMARISED if name in self.summary},
        }


class KeptWeights:
    """Networks of a run at few steps, in memory, for a look back.

    Args:
        numbers: weights of one network.

    Attributes:
        per_decade: networks kept per factor of ten in the steps; 0 where one alone is too large.
    """

    def __init__(self, numbers: int) -> None:
        self.numbers = numbers
        self.per_decade = min(PER_DECADE, MOST_BYTES // (4 * max(numbers, 1) * DECADES))
        self._layers: dict[int, dict[str, Tensor]] = {}
        self._before = -1

    def due(self, step: int) -> bool:
        """Whether the weights of a recorded step are kept."""
        return self.per_decade > 0 and begins_stretch(step, self._before, self.per_decade)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep the weights of a recorded step, if it is due."""
        (step,) = snapshot.steps
        if self.due(step) and (layers := snapshot.frozen(0)) is not None:
            self._layers[step] = _parts(layers)
        self._before = step

    def networks(self, formula: Formula) -> dict[int, FrozenLayers]:
        """Return the kept networks, ascending in the step."""
        return {step: FrozenLayers(formula, **parts) for step, parts in self._layers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return all that a look back depends on."""
        return {"before": self._before, "layers": {s: dict(p) for s, p in self._layers.items()}}

    def restored(self, state: Mapping[str, Any] | None) -> KeptWeights:
        """Return these as they continue from a state; None begins anew."""
        found = KeptWeights(self.numbers)
        if state is not None:
            found._before = int(state["before"])
            found._layers = {
                int(step): {
                    name: parts[name] for name in ("W", "A", "bias", "head_bias") if name in parts
                }
                for step, parts in state["layers"].items()
            }
        return found

    def as_json(self) -> dict[str, int]:
        """Return the entry ``hindsight`` of ``config.json``: what is kept, and how much at most."""
        most = 4 * self.numbers * self.per_decade * DECADES
        return {"networks_per_decade": self.per_decade, "most_bytes": most}


def look_back(
    kept: KeptWeights,
    last: tuple[int, FrozenLayers],
    reservoir: Reservoir,
    loss: HostLoss,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    thresholds: Thresholds | None = None,
    eta: float = 1.0,
) -> LookBack:
    """Look for the signal span of a run's last network, and read the run again along it.

    Args:
        kept: its networks so far.
        last: the network at the end, and its step.
        reservoir: samples of the run, whose labels no longer test anything once training reuses them.
        loss: of the training.
        held_out: inputs (m, d) and targets that are not trained on; None, or fewer than `LEAST_SAMPLES`, takes
            the reservoir.
        thresholds: of the labels.
        eta: time that one step took, for the rates.
    """
    step, layers = last
    networks = {**kept.networks(layers.formula), step: _hosted(layers)}
    if held_out is not None and len(held_out[0]) < LEAST_SAMPLES:
        held_out = None
    inputs, targets = held_out or (reservoir.inputs, reservoir.targets)
    most = max(MOST_GRADIENTS // (layers.W.shape[1] * len(layers.A)), LEAST_SAMPLES)
    inputs, targets = (part[: min(most, MOST_SAMPLES)] for part in (inputs, targets))
    if reason := _impossible(kept, networks, layers, inputs, reservoir, held_out is not None):
        return LookBack(reason)
    try:
        labels, median = _labels(targets)
        span = span_of(networks, inputs, labels)
        if not span.trustworthy:
            return LookBack(span.reason, span, samples=len(inputs))
        geometry = _geometry(span, inputs, labels, median=median)
        history, summary = read_again(
            networks, inputs, targets, geometry, loss, thresholds=thresholds, eta=eta
        )
    except ExpectedError as error:
        return LookBack(error.problem.rstrip("."))
    return LookBack("", span, geometry, history, summary, len(inputs), median)


def _impossible(
    kept: KeptWeights,
    networks: Mapping[int, FrozenLayers],
    layers: FrozenLayers,
    inputs: Tensor,
    reservoir: Reservoir,
    has_held_out: bool,
) -> str:
    """Return why nothing can be looked for; empty if it can."""
    width = layers.W.shape[1]
    if missing := layers.formula.missing:
        return missing
    if not kept.per_decade:
        return f"one network of {kept.numbers} weights is too large to be kept at {DECADES} steps"
    if width > MOST_INPUTS:
        return f"{width} inputs are more than {MOST_INPUTS}, beyond which the search takes too long"
    if len(networks) < LEAST_NETWORKS:
        return f"only {len(networks)} recorded steps were seen"
    if len(inputs) < LEAST_SAMPLES:
        return f"only {len(inputs)} distinct samples are known, and {LEAST_SAMPLES} are needed"
    if not all(bool(p.isfinite().all()) for p in (layers.W, layers.A)):
        return "the last weights hold NaN or infinity"
    if not has_held_out and reservoir.population < ENOUGH_SAMPLES * kept.numbers:
        return REPEATED.format(population=reservoir.population, weights=kept.numbers)
    return ""


def _labels(targets: Tensor) -> tuple[Tensor, bool]:
    """Return classes, or of one real target per sample whether it is above the median, and whether it is so.

    Raises:
        ExpectedError: if the targets are neither.
    """
    given = column("targets", targets)
    try:
        return class_labels("targets", given), False
    except ExpectedError:
        if given.ndim != 1 or not given.is_floating_point():
            raise
        return torch.where(given > given.median(), 1.0, -1.0).double(), True


def _geometry(span: DiscoveredSpan, inputs: Tensor, labels: Tensor, *, median: bool) -> Geometry:
    """Return clusters in a span; its directions alone where none tell the labels, or there are no classes."""
    if not median:
        try:
            return span.geometry(inputs, labels)
        except ExpectedError:
            pass
    return SpanGeometry(span.basis.T)


def _parts(layers: FrozenLayers) -> dict[str, Tensor]:
    parts = {"W": layers.W, "A": layers.A, "bias": layers.bias, "head_bias": layers.head_bias}
    return {name: t.detach().cpu().clone() for name, t in parts.items() if t is not None}


def _hosted(layers: FrozenLayers) -> FrozenLayers:
    return FrozenLayers(layers.formula, **_parts(layers))
