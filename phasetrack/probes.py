"""Probes: from one Snapshot to named readings. All are functions of the snapshot alone.

A probe returns a mapping from metric name to a value: a number or a scalar tensor is a reading; a
tensor with one value per neuron is a distribution (a histogram in TensorBoard); `Undefined` is a
reading that could not be made, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from phasetrack.discovery import discover
from phasetrack.losses import pointwise
from phasetrack.measures import growth, heaviness, margins
from phasetrack.measures.linearization import errors_of, gradient_error
from phasetrack.records import Undefined
from phasetrack.snapshot import Batch, Snapshot

if TYPE_CHECKING:
    from phasetrack.forecast import Forecast

Reading = Tensor | float
Measurement = Mapping[str, Reading]


class Probe(Protocol):
    """Something that reads a snapshot.

    Attributes:
        name: for messages.
        needs: what the snapshot must have, of ``"batch"`` (outputs and targets of the step),
            ``"inputs"`` (and its inputs, which keeps them in memory until the step) and
            ``"previous"`` (an earlier recorded step).
    """

    @property
    def name(self) -> str:
        """The probe's name."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """What the snapshot must have."""
        ...

    def measure(self, snapshot: Snapshot) -> Measurement:
        """The readings of one snapshot."""
        ...


@dataclass(frozen=True)
class FunctionProbe:
    """A probe made of one function from Snapshot to readings."""

    function: Callable[[Snapshot], Measurement]
    needs: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Call the function."""
        return self.function(snapshot)


def default_probes(*, H: float = 0.0, gradients: bool = False) -> tuple[Probe, ...]:
    """The probes that `attach` uses.

    Args:
        H: the paper's H in needed_zeta (theory.md 3).
        gradients: also read the gradient error, which costs two backward passes.
    """
    batch = frozenset({"batch"})
    probes: list[Probe] = [
        FunctionProbe(loss, batch),
        HeavinessProbe(H),
        FunctionProbe(clean_margins),
        FunctionProbe(empirical_margins, batch),
        FunctionProbe(linearization, batch),
        GrowthProbe(H),
    ]
    return (
        (*probes, FunctionProbe(gradient_errors, batch | {"inputs"}))
        if gradients
        else tuple(probes)
    )


def loss(snapshot: Snapshot) -> Measurement:
    """Mean loss of the step's samples and the share on the wrong side (f = 0 counts as wrong)."""
    batch = _batch(snapshot)
    return {
        "loss/train": batch.first_order.values.mean(),
        "error/train": (batch.margins <= 0).double().mean(),
    }


@dataclass(frozen=True)
class HeavinessProbe:
    """zeta*, heavy mass, and the signal share with its chance level and control (theory.md 3)."""

    H: float = 0.0
    name: str = "heaviness"
    needs: frozenset[str] = frozenset()

    def measure(self, snapshot: Snapshot) -> Measurement:
        """The readings of one snapshot."""
        neurons = snapshot.neurons
        return {
            "heaviness/zeta_star": heaviness.certificate_of(neurons, self.H),
            "heaviness/heavy_mass": heaviness.heavy_mass_of(neurons, self.H),
            "heaviness/signal_share": heaviness.signal_share_of(neurons),
            "heaviness/chance": snapshot.geometry.chance,
            "heaviness/control": snapshot.control_share,
            "neurons/log10_needed_zeta": heaviness.needed_zeta_of(neurons, self.H).log10(),
            "neurons/signal": neurons.sig,
            "neurons/perp": neurons.perp,
            "neurons/second_layer": neurons.second_layer,
        }


def clean_margins(snapshot: Snapshot) -> Measurement:
    """Margin of each cluster at its centre, their extremes and balance (theory.md 4)."""
    values = margins.clean_margins_of(snapshot.neurons)
    balance: Reading = margins.balance(values)
    if not values.amax() > 0:
        balance = Undefined("no cluster has a positive margin")
    return {
        "margin/min": values.amin(),
        "margin/mean": values.mean(),
        "margin/max": values.amax(),
        "margin/balance": balance,
        **_per_cluster("margin/clean", snapshot, values),
    }


def empirical_margins(snapshot: Snapshot) -> Measurement:
    """Mean and low quantile of y f over the step's samples in each cluster (theory.md 4)."""
    batch, names = _batch(snapshot), snapshot.geometry.names
    if snapshot.view.directions is not None:
        nothing = Undefined("a block in a larger network has no labels of its own")
        prefixes = ("margin/empirical", "margin/empirical_low")
        return {f"{prefix}/{name}": nothing for prefix in prefixes for name in names}
    count = len(names)
    means, lows = margins.empirical_margins(batch.margins, batch.clusters, count)
    return {
        **_per_cluster("margin/empirical", snapshot, means),
        **_per_cluster("margin/empirical_low", snapshot, lows),
    }


def linearization(snapshot: Snapshot) -> Measurement:
    """Value error and slope drift of the loss's first-order approximation (theory.md 5)."""
    value_error, slope_drift = errors_of(_batch(snapshot).first_order)
    return {
        "linearization/value_error": value_error,
        "linearization/slope_drift": slope_drift,
    }


def gradient_errors(snapshot: Snapshot) -> Measurement:
    """|grad L - grad L_0| / |grad L_0| of each layer, by two backward passes (theory.md 5)."""
    batch, view = _batch(snapshot), snapshot.view
    if view.directions is not None:
        nothing = Undefined("the gradient error is that of a whole two-layer model")
        return {f"linearization/gradient_error_{layer}": nothing for layer in ("first", "second")}
    W, A = (weight.clone().requires_grad_(True) for weight in (view.W, view.A))
    sizes = [len(piece) for piece in batch.inputs]
    targets = batch.targets.to(W.device, W.dtype if batch.targets.is_floating_point() else None)
    slopes = batch.first_order.start_slopes.to(W)
    exact = [torch.zeros_like(W), torch.zeros_like(A)]
    linear = [torch.zeros_like(W), torch.zeros_like(A)]
    pieces = zip(batch.inputs, torch.split(targets, sizes), torch.split(slopes, sizes), strict=True)
    with torch.enable_grad():
        for inputs, target, slope in pieces:
            outputs = view.outputs(inputs.to(W), W, A)
            losses = pointwise(batch.loss)(outputs, target).sum()
            first_order = (slope * outputs).sum()
            for totals, value in ((exact, losses), (linear, first_order)):
                parts = torch.autograd.grad(value, (W, A), retain_graph=value is losses)
                for total, part in zip(totals, parts, strict=True):
                    total.add_(part)
    first, second = gradient_error(tuple(exact), tuple(linear))
    return {
        "linearization/gradient_error_first": first,
        "linearization/gradient_error_second": second,
    }


@dataclass(frozen=True)
class GrowthProbe:
    """Growth rates since the last recorded step, beside those of the mean-field law (theory.md 6).

    ``growth/<part>_rate`` is over all neurons, ``..._heavy`` over those heavy now, ``..._rest`` over
    the others; ``..._predicted`` is what the law says for the same neurons, at the state in which
    the interval began.
    """

    H: float = 0.0
    name: str = "growth"
    needs: frozenset[str] = frozenset()

    def measure(self, snapshot: Snapshot) -> Measurement:
        """The readings of one snapshot."""
        neurons = snapshot.neurons
        heavy = heaviness.needed_zeta_of(neurons, self.H) <= heaviness.HEAVY_ZETA
        everyone = torch.ones_like(heavy)
        groups = {"": everyone, "_heavy": heavy, "_rest": ~heavy}
        return {
            **self._rates(snapshot, groups),
            "growth/perp_factor": self._perp_factor(snapshot),
            "layers/balance": growth.layer_balance(neurons, everyone),
            "layers/balance_heavy": growth.layer_balance(neurons, heavy)
            if heavy.any()
            else Undefined("no neuron is heavy"),
        }

    def _rates(self, snapshot: Snapshot, groups: Mapping[str, Tensor]) -> Measurement:
        before = snapshot.previous
        if before is None:
            nothing = Undefined("growth needs an earlier recorded step")
            kinds = {"": nothing, "_predicted": _unpredictable(snapshot) or nothing}
            return {
                f"growth/{part}_rate{group}{kind}": reason
                for part in growth.PARTS
                for group in groups
                for kind, reason in kinds.items()
            }
        # One side for both ends: a neuron whose a changes sign keeps its old sig and opp.
        start = growth.squares(before.neurons)
        end = growth.squares(snapshot.neurons, before.neurons.votes)
        predicted = _predicted(before)
        elapsed, eta = snapshot.time - before.time, before.sizes.eta
        readings: dict[str, Reading] = {}
        for index, part in enumerate(growth.PARTS):
            for group, members in groups.items():
                name = f"growth/{part}_rate{group}"
                readings[name] = _rate(start[index], end[index], members, elapsed)
                readings[f"{name}_predicted"] = (
                    predicted
                    if isinstance(predicted, Undefined)
                    else _rate(start[index], predicted[index], members, eta)
                )
        return readings

    def _perp_factor(self, snapshot: Snapshot) -> Reading:
        """Growth of |perp| since the start, over the neurons that are larger than at the start."""
        if snapshot.first is None:
            return 1.0
        start, now = snapshot.first.neurons, snapshot.neurons
        growing = now.mass > start.mass
        if not growing.any():
            return Undefined("no neuron has grown")
        return ((now.perp.square() * growing).sum() / (start.perp.square() * growing).sum()).sqrt()


@dataclass(frozen=True)
class SpanProbe:
    """The signal span that the network shows at each recorded step (`discovery.discover`).

    Costs a few passes over the sample and an eigenvalue problem of size d at each recorded step.

    Args:
        inputs: a sample to look at the network on, (m, d).
        labels: its labels, (m,).
    """

    inputs: Tensor
    labels: Tensor
    name: str = "span"
    needs: frozenset[str] = frozenset()

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Dimension, gap, agreement of halves with its chance level, labels told, and the verdict.

        ``span/trustworthy`` is 1 or 0; ``span/angle`` is the largest principal angle, in degrees, to
        the declared span.
        """
        view = snapshot.view
        if view.heads > 2:
            nothing = Undefined("the span is discovered for two classes")
            return {"span/trustworthy": nothing}

        def output(inputs: Tensor) -> Tensor:
            values = view.outputs(inputs, view.W.to(inputs), view.A.to(inputs))
            return values if values.ndim == 1 else values[:, 1] - values[:, 0]

        found = discover(self.inputs, self.labels, output)
        return {
            "span/dim": float(found.dim),
            "span/gap": found.gap,
            "span/stability": found.stability,
            "span/chance": found.chance,
            "span/accuracy": found.accuracy,
            "span/majority": found.majority,
            "span/trustworthy": float(found.trustworthy),
            "span/angle": found.angles_to(snapshot.geometry.basis).amax(),
        }


@dataclass(frozen=True)
class ForecastProbe:
    """What was forecast for this step, to lie beside what is measured (theory.md 6b)."""

    forecast: Forecast
    name: str = "forecast"
    needs: frozenset[str] = frozenset()

    def measure(self, snapshot: Snapshot) -> Measurement:
        """The forecast's medians at the snapshot's step."""
        return {
            metric: Undefined("the forecast ends before this step") if math.isnan(value) else value
            for metric, value in self.forecast.at(snapshot.step).items()
        }


def _batch(snapshot: Snapshot) -> Batch:
    if snapshot.batch is None:
        raise ValueError("this snapshot has no batch")
    return snapshot.batch


def _per_cluster(prefix: str, snapshot: Snapshot, values: Tensor) -> Measurement:
    return {
        f"{prefix}/{name}": value
        for name, value in zip(snapshot.geometry.names, values.unbind(), strict=True)
    }


def _unpredictable(snapshot: Snapshot) -> Undefined | None:
    """Why the law says nothing about this training at all; None if it does."""
    if not snapshot.sizes.plain:
        return Undefined("rates are predicted for SGD without momentum or weight decay")
    if not snapshot.view.plain:
        return Undefined("rates are predicted for ReLU networks with one output and no biases")
    return None


def _predicted(before: Snapshot) -> growth.Squares | Undefined:
    """Squared sizes that the law predicts one step after a snapshot."""
    if reason := _unpredictable(before):
        return reason
    if before.batch is None:
        return Undefined("the loss slopes need a batch")
    geometry = before.geometry
    slopes = before.batch.slopes(geometry)
    if slopes.isnan().any():
        return Undefined("a cluster had no samples")
    shares = torch.full_like(slopes, 1 / len(slopes))
    sizes = before.sizes
    return growth.predicted_squares(
        before.neurons, slopes, shares, (sizes.first, sizes.second), len(before.batch.outputs)
    )


def _rate(before: Tensor, after: Tensor, group: Tensor, elapsed: float) -> Reading:
    if not group.any():
        return Undefined("no neuron in this group")
    return growth.rate(before, after, group, elapsed)
