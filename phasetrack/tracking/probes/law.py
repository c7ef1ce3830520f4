"""The mean-field law at each state, and whether the step's gradient is the law's (theory.md 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.measures import growth, law_check
from phasetrack.measures.mean_field import law
from phasetrack.tracking.probes.base import Measurement, Note, Reading
from phasetrack.tracking.snapshot import Snapshot

# Why the law predicts nothing at a state, or its comparison with the step's gradient says nothing.
NO_BATCH = "the loss slopes need a batch"
NO_PULLS = "the loss slopes of the samples in each cluster are not known"
NO_FACTOR = "the step's gradient was not seen, or the outputs are so small that rounding hides how it compares with the loss"
LAW_FAILS = (
    "the step's gradient is not the one that the mean-field law predicts (growth/law_ratio is not 1): the "
    "samples do not lie about the centres of their clusters as the law assumes"
)
NO_DIRECTION = (
    "the loss slopes of the samples of each cluster have no sign that is clear of noise: their labels say "
    "nothing of the cluster, or the loss is at its least, and the weights follow the noise of each batch"
)
NOT_TRAINED = "this layer is not trained"
FACTOR = (
    "The gradient of a step is {value:.4g} times that of the mean loss, as from a sum over samples, micro-batches "
    "not divided by their number, a scaled loss, clipping or maximize=True. Predicted rates take the factor of "
    "each step into account (growth/gradient_factor)."
)
# Suffixes of the readings of either layer.
LAYERS = ("", "_second_layer")


class ByTheLaw(NamedTuple):
    """K states by the law, float64; NaN where it does not apply.

    Attributes:
        squares: `growth.Squares` one step later, (K, parts, p).
        factors: of either layer's gradient against that of the mean loss, (K, 2).
        products: see `law_check.agreement`, (K, 2, 2).
        slopes: samples of each cluster, and the means of their loss slopes and of the squares, (3, K, C).
        is_known: whether the loss slopes are known, bool (K,).
    """

    squares: Tensor
    factors: Tensor
    products: Tensor
    slopes: Tensor
    is_known: Tensor


def by_the_law(snapshot: Snapshot) -> ByTheLaw:
    """Return each state by the law, computed once."""
    return snapshot.once(lambda: _computed(snapshot), "law")


def _computed(snapshot: Snapshot) -> ByTheLaw:
    neurons, batch, seen = snapshot.neurons, snapshot.batch, snapshot.loss_inputs
    placed = seen is not None and seen.traces is not None
    if batch is None or not placed or not snapshot.is_mean_field:
        count, width = len(snapshot), neurons.perp.shape[-1]
        table = neurons.perp.new_full((count, len(growth.PARTS), width), torch.nan)
        pair = table.new_full((count, 2), torch.nan)
        known = torch.zeros(count, dtype=torch.bool, device="cpu")
        slopes = table.new_full((3, count, len(snapshot.geometry.labels)), torch.nan)
        return ByTheLaw(table, pair, pair.unsqueeze(-1).expand(count, 2, 2), slopes, known)
    pulls = batch.pulls(snapshot.geometry)
    motion = law(neurons, pulls.slopes, pulls.shares, pulls.squares)
    trained = torch.stack(snapshot.etas, dim=-1) != 0
    factors = taken = torch.full_like(trained, torch.nan, dtype=torch.float64)
    products = factors.unsqueeze(-1).expand(-1, 2, 2)
    if snapshot.gradient is not None:
        found = law_check.factors(
            neurons, snapshot.gradient, pulls.work, pulls.slope, batch.precision
        )
        factors = found.where(trained, torch.nan)
        products = law_check.agreement(neurons, snapshot.gradient, motion)
        taken = law_check.assumed(factors, products).where(trained, torch.nan)
        products = products / torch.stack([taken, torch.ones_like(taken)], dim=-1)
    lengths = [
        eta.where(eta == 0, eta * factor)
        for eta, factor in zip(snapshot.etas, taken.unbind(-1), strict=True)
    ]
    parts = growth.squares_after_batch(
        neurons, motion, pulls.shares * pulls.squares, (lengths[0], lengths[1]), batch.size
    )
    known = ~pulls.slopes.isnan().any(dim=-1)
    slopes = torch.stack([batch.size * pulls.shares, pulls.slopes, pulls.squares])
    return ByTheLaw(torch.stack(parts, dim=1), factors, products, slopes, known)


class Followed(NamedTuple):
    """What is known of the law up to the state before each of K, and up to the last.

    Attributes:
        agreement: sums of `law_check.followed`, (K + 1, 2, 6).
        slopes: sums of `law_check.followed_slopes`, (K + 1, C, 2).
    """

    agreement: Tensor
    slopes: Tensor


def followed(snapshot: Snapshot) -> Followed:
    """Follow the law; the last sums are carried to the next states."""
    found, carried = by_the_law(snapshot), snapshot.before.carried if snapshot.before else {}
    columns = []
    for name, sums in (
        ("law", law_check.followed(carried.get("law"), found.products)),
        ("slopes", law_check.followed_slopes(carried.get("slopes"), *found.slopes)),
    ):
        snapshot.carried[name] = sums[-1]
        start = carried.get(name, torch.zeros_like(sums[0]))
        columns.append(torch.cat([start.unsqueeze(0), sums]))
    return Followed(*columns)


def law_readings(snapshot: Snapshot, sums: Followed) -> Measurement:
    """Return the factors of the step's gradient, its agreement with the law's, and a note on a factor."""
    names = [
        f"growth/{kind}{layer}" for kind in ("gradient_factor", "law_ratio") for layer in LAYERS
    ]
    if reason := snapshot.formula.missing or unpredictable(snapshot):
        return dict.fromkeys(names, Reading.undefined(reason))
    factors, ratios = by_the_law(snapshot).factors, law_check.ratio(sums.agreement[1:])
    columns = torch.cat([factors, ratios], dim=-1).unbind(dim=-1)
    idle = [eta == 0 for eta in snapshot.etas]
    unseen = torch.ones(len(snapshot), dtype=torch.bool, device="cpu")
    off = (factors - 1).abs() > law_check.FACTOR_TOLERANCE
    chosen = factors[:, 0].where(off[:, 0], factors[:, 1])
    return {
        **{
            name: Reading(column, ((idle[index % 2], NOT_TRAINED), (unseen, _unlawful(snapshot))))
            for index, (name, column) in enumerate(zip(names, columns, strict=True))
        },
        "note on the gradient": Note(off.any(dim=-1), chosen, FACTOR),
    }


# --- why the law predicts nothing ---------------------------------------------------------------


def unpredictable(snapshot: Snapshot) -> str:
    """Return why the law does not apply to this training; empty if it does."""
    if snapshot.geometry.no_clusters:
        return snapshot.geometry.no_clusters
    if not snapshot.sizes[-1].plain:
        return "rates are predicted for SGD without momentum or weight decay"
    if not snapshot.formula.is_mean_field:
        return "rates are predicted for ReLU networks with one output and no biases"
    return ""


def unpredictable_throughout(snapshot: Snapshot, before: Snapshot) -> str:
    """Return why the law applies to no state, from the one before ours on; empty if it may apply."""
    then, now = unpredictable(before), unpredictable(snapshot)
    return now if then == now else ""


def unpredicted(
    snapshot: Snapshot, before: Snapshot, sums: Followed
) -> tuple[tuple[Tensor, str], ...]:
    """Return why the law predicted nothing at the state before each of ours: masks and reasons."""
    # stacked states are alike: a reason that holds for one holds for all
    reasons = [_unlawful(before), *[_unlawful(snapshot)] * (len(snapshot) - 1)]
    lacking = snapshot.shifted(_lacks)
    failing = law_check.is_off(sums.agreement[:-1]).any(dim=-1)
    undirected = ~law_check.pulls_clearly(sums.slopes[:-1])
    return (
        *(
            (torch.tensor([reason == each for each in reasons], device="cpu") & lacking, reason)
            for reason in dict.fromkeys(reasons)
        ),
        (undirected, NO_DIRECTION),
        (failing, LAW_FAILS),
    )


def _lacks(snapshot: Snapshot) -> Tensor:
    """Whether the law predicts nothing at a state, bool (K,)."""
    return by_the_law(snapshot).squares.isnan().any(dim=-1).any(dim=-1)


def _unlawful(snapshot: Snapshot) -> str:
    """Return why the law predicts nothing where a state's readings by the law are NaN."""
    if reason := unpredictable(snapshot):
        return reason
    if snapshot.batch is None:
        return NO_BATCH
    return NO_FACTOR if bool(by_the_law(snapshot).is_known.all()) else NO_PULLS
