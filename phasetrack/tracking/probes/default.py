"""Probes: from snapshots to named readings. All are functions of what they are given alone.

A probe returns a mapping from metric name to a value: a number or a scalar tensor is a reading; a
tensor with one value per neuron is a distribution (a histogram in TensorBoard); `Undefined` is a
reading that could not be made, with its reason.

On small networks most of a reading's cost is Python's own. The built-in probes therefore read blocks of
snapshots, at about the cost of one: their values have a leading dimension for the snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor

from phasetrack.measures import growth, heaviness, margins
from phasetrack.measures.linearization import errors_of, gradient_error
from phasetrack.measures.signal_span import discover
from phasetrack.model.losses import pointwise
from phasetrack.phases.history import Undefined
from phasetrack.tracking.snapshot import Batch, Block, Snapshot

if TYPE_CHECKING:
    from phasetrack.theory.forecast import Forecast

Reading = Tensor | float
Measurement = Mapping[str, Reading]


class Explained(NamedTuple):
    """Readings of a block, (K,), of which some are NaN, and why: (K,) masks with their reasons."""

    values: Tensor
    reasons: tuple[tuple[Tensor, str], ...]

    def at(self, index: int) -> Reading:
        """One snapshot's reading."""
        value = self.values[index]
        why = (reason for mask, reason in self.reasons if mask[index])
        return Undefined(next(why, "its value is NaN")) if value.isnan() else value


# Suffixes of the groups of neurons whose growth is read: all, those heavy now, the others.
GROUPS = ("", "_heavy", "_rest")

# Of a block: (K,) readings, (K, p) distributions, or one value for all its snapshots.
BlockMeasurement = Mapping[str, Tensor | Explained | float]


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


class BlockProbe(Probe, Protocol):
    """A probe that reads several snapshots at once, after their steps: it looks at no live layer."""

    def measure_block(self, block: Block) -> BlockMeasurement:
        """The readings of each snapshot of a block."""
        ...


def reads_blocks(probe: Probe) -> TypeGuard[BlockProbe]:
    """Whether a probe reads blocks; others are given each snapshot at its own step."""
    return hasattr(probe, "measure_block")


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


class Blockwise:
    """Reads a snapshot as a block of one."""

    def measure_block(self, block: Block) -> BlockMeasurement:
        """The readings of each snapshot of a block."""
        raise NotImplementedError

    def measure(self, snapshot: Snapshot) -> Measurement:
        """The readings of one snapshot."""
        values = self.measure_block(Block.of(snapshot))
        return {name: at(value, 0) for name, value in values.items()}


def at(value: Tensor | Explained | float, index: int) -> Reading:
    """One snapshot's part of a block's value."""
    if isinstance(value, Explained):
        return value.at(index)
    return value[index] if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class BlockFunctionProbe(Blockwise):
    """A probe made of one function from Block to readings."""

    function: Callable[[Block], BlockMeasurement]
    needs: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    def measure_block(self, block: Block) -> BlockMeasurement:
        """Call the function."""
        return self.function(block)


def default_probes(*, H: float = 0.0, gradients: bool = False) -> tuple[Probe, ...]:
    """The probes that `attach` uses.

    Args:
        H: the paper's H in needed_zeta (theory.md 3).
        gradients: also read the gradient error, which costs two backward passes.
    """
    batch = frozenset({"batch"})
    probes: list[Probe] = [
        BlockFunctionProbe(loss, batch),
        HeavinessProbe(H),
        BlockFunctionProbe(clean_margins),
        BlockFunctionProbe(empirical_margins, batch),
        BlockFunctionProbe(linearization, batch),
        GrowthProbe(H),
    ]
    return (
        (*probes, FunctionProbe(gradient_errors, batch | {"inputs"}))
        if gradients
        else tuple(probes)
    )


def loss(block: Block) -> BlockMeasurement:
    """Mean loss of the step's samples and the share on the wrong side (f = 0 counts as wrong)."""
    batch = _batch(block)
    return {
        "loss/train": batch.first_order.values.mean(dim=-1),
        "error/train": (batch.margins <= 0).double().mean(dim=-1),
    }


@dataclass(frozen=True)
class HeavinessProbe(Blockwise):
    """zeta*, heavy mass, and the signal share with its chance level and control (theory.md 3)."""

    H: float = 0.0
    name: str = "heaviness"
    needs: frozenset[str] = frozenset()

    def measure_block(self, block: Block) -> BlockMeasurement:
        """The readings of each snapshot of a block."""
        neurons, needed = block.neurons, block.needed_zeta(self.H)
        control = block.control.square().sum(dim=(-2, -1)) / neurons.mass.sum(dim=-1)
        return {
            "heaviness/zeta_star": heaviness.certificate_of(neurons, self.H, needed),
            "heaviness/heavy_mass": heaviness.heavy_mass_of(neurons, self.H, needed=needed),
            "heaviness/signal_share": heaviness.signal_share_of(neurons),
            "heaviness/chance": block.geometry.chance,
            "heaviness/control": control,
            "neurons/log10_needed_zeta": needed.log10(),
            "neurons/signal": neurons.sig,
            "neurons/perp": neurons.perp,
            "neurons/second_layer": neurons.second_layer,
        }


def clean_margins(block: Block) -> BlockMeasurement:
    """Margin of each cluster at its centre, their extremes and balance (theory.md 4)."""
    values = margins.clean_margins_of(block.neurons)
    least, most = values.amin(dim=-1), values.amax(dim=-1)
    unserved = (~(most > 0), "no cluster has a positive margin")
    return {
        "margin/min": least,
        "margin/mean": values.mean(dim=-1),
        "margin/max": most,
        "margin/balance": Explained(margins.balance(values), (unserved,)),
        **_per_cluster("margin/clean", block, values),
    }


def empirical_margins(block: Block) -> BlockMeasurement:
    """Mean and low quantile of y f over the step's samples in each cluster (theory.md 4)."""
    batch, names = _batch(block), block.geometry.names
    if block.view.directions is not None:
        nothing = Undefined("a block in a larger network has no labels of its own")
        prefixes = ("margin/empirical", "margin/empirical_low")
        return {f"{prefix}/{name}": nothing for prefix in prefixes for name in names}
    means, lows = margins.empirical_margins(batch.margins, batch.clusters, len(names))
    return {
        **_per_cluster("margin/empirical", block, means),
        **_per_cluster("margin/empirical_low", block, lows),
    }


def linearization(block: Block) -> BlockMeasurement:
    """Value error and slope drift of the loss's first-order approximation (theory.md 5)."""
    value_error, slope_drift = errors_of(_batch(block).first_order)
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
class GrowthProbe(Blockwise):
    """Growth rates since the last recorded step, beside those of the mean-field law (theory.md 6).

    ``growth/<part>_rate`` is over all neurons, ``..._heavy`` over those heavy now, ``..._rest`` over
    the others; ``..._predicted`` is what the law says for the same neurons, at the state in which
    the interval began.
    """

    H: float = 0.0
    name: str = "growth"
    needs: frozenset[str] = frozenset()

    def measure_block(self, block: Block) -> BlockMeasurement:
        """The readings of each snapshot of a block."""
        heavy = block.needed_zeta(self.H) <= heaviness.HEAVY_ZETA
        nobody = _empty(heavy)
        size = torch.stack([block.neurons.second_layer.square(), block.neurons.mass], dim=1)
        balance = growth.group_sums(size, heavy)
        balances = (balance[:, 0] / balance[:, 1]).sqrt()
        return {
            **self._rates(block, heavy, nobody),
            "growth/perp_factor": self._perp_factor(block),
            "layers/balance": balances[:, 0],
            "layers/balance_heavy": Explained(balances[:, 1], ((nobody[1], "no neuron is heavy"),)),
        }

    def _rates(self, block: Block, heavy: Tensor, nobody: Sequence[Tensor]) -> BlockMeasurement:
        """Rates over each group of neurons.

        Args:
            block: K snapshots.
            heavy: the neurons that are heavy, bool (K, p).
            nobody: for each of `GROUPS` where it is empty, bool (K,).
        """
        names = [f"growth/{part}_rate{group}" for part in growth.PARTS for group in GROUPS]
        if block.before is None:
            nothing = Undefined("growth needs an earlier recorded step")
            unpredicted = _unpredictable(block.snapshots[0]) or nothing
            return {
                key: value
                for name in names
                for key, value in ((name, nothing), (f"{name}_predicted", unpredicted))
            }
        no_law = _unpredictable_throughout(block)
        # One side for both ends: a neuron whose a changes sign keeps its old sig and opp.
        votes = block.shifted(lambda before: before.neurons.votes)
        start, end = block.shifted(_squares), block.squares
        if not votes.equal(block.neurons.votes):
            end = torch.stack(growth.squares(block.neurons, votes), dim=1)
        ends, times = [end], [block.times - block.shifted(lambda before: before.times)]
        if not no_law:
            ends.append(block.shifted(_predicted))
            times.append(block.shifted(lambda before: torch.maximum(*before.etas)))
        sums = growth.group_sums(torch.cat([start, *ends], dim=1), heavy)
        before, *after = torch.split(sums, len(growth.PARTS), dim=1)
        measured, *expected = (
            growth.rate_between(before, then, time.view(-1, 1, 1)).flatten(1).unbind(1)
            for then, time in zip(after, times, strict=True)
        )
        unforeseen = () if no_law else _unforeseen(block)
        readings: dict[str, Explained | Undefined] = {}
        for index, name in enumerate(names):
            empty = (nobody[index % len(GROUPS)], "no neuron in this group")
            readings[name] = Explained(measured[index], (empty,))
            readings[f"{name}_predicted"] = no_law or Explained(
                expected[0][index], (*unforeseen, empty)
            )
        return readings

    def _perp_factor(self, block: Block) -> Reading | Explained:
        """Growth of |perp| since the start, over the neurons that are larger than at the start."""
        if block.first is None:
            return 1.0
        start, now = block.first.neurons, block.neurons
        growing = now.mass > start.mass
        ratio = (now.perp.square() * growing).sum(-1) / (start.perp.square() * growing).sum(-1)
        return Explained(ratio.sqrt(), ((~growing.any(dim=-1), "no neuron has grown"),))


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
class ForecastProbe(Blockwise):
    """What was forecast for this step, to lie beside what is measured (theory.md 6b)."""

    forecast: Forecast
    name: str = "forecast"
    needs: frozenset[str] = frozenset()

    def measure_block(self, block: Block) -> BlockMeasurement:
        """The forecast's medians at each snapshot's step."""
        rows = [self.forecast.at(snapshot.step) for snapshot in block.snapshots]
        ended = "the forecast ends before this step"
        return {
            metric: Explained(values, ((values.isnan(), ended),))
            for metric in rows[0]
            for values in [torch.tensor([row[metric] for row in rows], dtype=torch.float64)]
        }


def _empty(heavy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each of `GROUPS` has no member, (K,) each."""
    none, whole = ~heavy.any(dim=-1), heavy.all(dim=-1)
    return torch.zeros_like(none), none, whole


def _squares(block: Block) -> Tensor:
    return block.squares


def _predicted(block: Block) -> Tensor:
    return block.predicted


def _batch(state: Snapshot | Block) -> Batch:
    if state.batch is None:
        raise ValueError("this snapshot has no batch")
    return state.batch


def _per_cluster(prefix: str, block: Block, values: Tensor) -> dict[str, Tensor]:
    names = block.geometry.names
    return {
        f"{prefix}/{name}": value for name, value in zip(names, values.unbind(dim=-1), strict=True)
    }


def _unpredictable(snapshot: Snapshot) -> Undefined | None:
    """Why the law says nothing about this training at all; None if it does."""
    if not snapshot.sizes.plain:
        return Undefined("rates are predicted for SGD without momentum or weight decay")
    if not snapshot.view.plain:
        return Undefined("rates are predicted for ReLU networks with one output and no biases")
    return None


def _unpredictable_throughout(block: Block) -> Undefined | None:
    """Why the law says nothing about a block, from the snapshot before it on; None if it may."""
    assert block.before is not None
    before, now = (_unpredictable(b.snapshots[-1]) for b in (block.before, block))
    return now if before and now and before.reason == now.reason else None


def _unlawful(block: Block) -> str:
    """Why the law says nothing where a block's slopes are NaN."""
    reason = _unpredictable(block.snapshots[-1])
    if reason is not None:
        return reason.reason
    # blocks are asked for batches: what they hold has travelled to the host already
    return "the loss slopes need a batch" if block.batch is None else "a cluster had no samples"


def _unforeseen(block: Block) -> tuple[tuple[Tensor, str], ...]:
    """Why the law said nothing at the snapshot before each of a block's: masks and reasons."""
    assert block.before is not None
    # the snapshots of a block are alike: what holds for one of them holds for all
    reasons = [_unlawful(block.before), *[_unlawful(block)] * (len(block.snapshots) - 1)]
    lacking = block.shifted(lambda before: before.slopes.isnan().any(dim=-1))
    return tuple(
        (torch.tensor([reason == each for each in reasons]) & lacking, reason)
        for reason in dict.fromkeys(reasons)
    )
