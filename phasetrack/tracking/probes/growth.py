"""Growth rates of groups of neurons, beside those that the mean-field law predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.measures import growth, heaviness
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.probes.heaviness import needed_zeta
from phasetrack.tracking.probes.law import (
    Followed,
    by_the_law,
    followed,
    law_readings,
    unpredictable,
    unpredictable_throughout,
    unpredicted,
)
from phasetrack.tracking.snapshot import Snapshot

# Suffixes of the groups of neurons whose growth is read: all, those heavy now, the others.
GROUPS = ("", "_heavy", "_rest")
EMPTY_GROUP = "no neuron in this group"
NOTHING_OPPOSES = "the classes share one span, so that no part of the weights opposes"
NO_EARLIER_STEP = "growth needs an earlier recorded step"


@dataclass(frozen=True)
class GrowthProbe(Probe):
    """Growth rates since the last recorded step, beside those of the mean-field law (theory.md 6).

    ``growth/<part>_rate`` is over all neurons, ``..._heavy`` over those heavy now, ``..._rest`` over
    the others; ``..._predicted`` is the law's rate for the same neurons, at the state in which
    the interval began. The law is compared with the gradient of each recorded step (`law_check`): the
    gradient's factor enters the prediction, and where the law fails nothing is predicted.

    Args:
        H: the paper's H in needed_zeta.
    """

    H: float = 0.0
    name: str = "growth"
    needs: frozenset[str] = frozenset({"span"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of each state."""
        heavy = needed_zeta(snapshot, self.H) <= heaviness.HEAVY_ZETA
        empty = _empty(heavy)
        neurons = snapshot.neurons
        size = torch.stack([neurons.second_layer.square(), neurons.mass], dim=1)
        balance = growth.group_sums(size, heavy)
        balances = (balance[:, 0] / balance[:, 1]).sqrt()
        sums = followed(snapshot)
        return {
            **_rates(snapshot, heavy, empty, sums),
            **law_readings(snapshot, sums),
            "growth/perp_factor": _perp_factor(snapshot),
            "layers/balance": balances[:, 0],
            "layers/balance_heavy": Reading(balances[:, 1], ((empty[1], "no neuron is heavy"),)),
        }


def _rates(
    snapshot: Snapshot, heavy: Tensor, empty: Sequence[Tensor], sums: Followed
) -> Measurement:
    """Return the rates over each group of neurons.

    Args:
        snapshot: K states.
        heavy: the neurons that are heavy, bool (K, p).
        empty: for each of `GROUPS` whether it has no member, bool (K,).
        sums: what is known of the law.
    """
    names = [f"growth/{part}_rate{group}" for part in growth.PARTS for group in GROUPS]
    if missing := snapshot.formula.missing:  # with it the unit of time
        unknown = Reading.undefined(missing)
        return {f"{name}{kind}": unknown for name in names for kind in ("", "_predicted")}
    if snapshot.before is None:
        return _no_rates(names, unpredictable(snapshot))
    no_law = unpredictable_throughout(snapshot, snapshot.before)
    # One side for both ends: a neuron whose a changes sign keeps its old sig and opp.
    votes, start, end = snapshot.shifted(_votes), snapshot.shifted(_squares), _squares(snapshot)
    if not votes.equal(snapshot.neurons.votes):
        end = torch.stack(growth.squares(snapshot.neurons, votes), dim=1)
    ends, times = [end], [snapshot.elapsed - snapshot.shifted(lambda before: before.elapsed)]
    if not no_law:
        ends.append(snapshot.shifted(_predicted))
        times.append(snapshot.shifted(lambda before: torch.maximum(*before.etas)))
    totals = growth.group_sums(torch.cat([start, *ends], dim=1), heavy)
    before, *after = torch.split(totals, len(growth.PARTS), dim=1)
    measured, *expected = (
        growth.rate_between(before, then, time.view(-1, 1, 1)).flatten(1).unbind(1)
        for then, time in zip(after, times, strict=True)
    )
    lacking = () if no_law else unpredicted(snapshot, snapshot.before, sums)
    readings = {}
    for index, name in enumerate(names):
        nobody = (empty[index % len(GROUPS)], EMPTY_GROUP)
        if name.startswith("growth/opposing") and not snapshot.geometry.splits:
            nobody = (torch.ones_like(empty[0]), NOTHING_OPPOSES)
        readings[name] = Reading(measured[index], (nobody,))
        readings[f"{name}_predicted"] = (
            Reading.undefined(no_law)
            if no_law
            else Reading(expected[0][index], (*lacking, nobody)).hidden()
        )
    return readings


def _no_rates(names: Sequence[str], no_law: str) -> Measurement:
    """Return undefined rates, of the first recorded state."""
    nothing = Reading.undefined(NO_EARLIER_STEP)
    unpredicted = Reading.undefined(no_law or NO_EARLIER_STEP)
    return {
        key: value
        for name in names
        for key, value in ((name, nothing), (f"{name}_predicted", unpredicted))
    }


def _perp_factor(snapshot: Snapshot) -> Reading | float:
    """Return the growth of |perp| since the start, over the neurons larger than at the start."""
    if snapshot.first is None:
        return 1.0
    start, now = snapshot.first.neurons, snapshot.neurons
    growing = now.mass > start.mass
    ratio = (now.perp.square() * growing).sum(-1) / (start.perp.square() * growing).sum(-1)
    return Reading(ratio.sqrt(), ((~growing.any(dim=-1), "no neuron has grown"),))


def _empty(heavy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return whether each of `GROUPS` has no member, (K,) each."""
    none, whole = ~heavy.any(dim=-1), heavy.all(dim=-1)
    return torch.zeros_like(none), none, whole


# --- quantities of one state that the next one is compared with ---------------------------------


def _votes(snapshot: Snapshot) -> Tensor:
    return snapshot.neurons.votes


def _squares(snapshot: Snapshot) -> Tensor:
    """Squared size of each part of each neuron, float64 (K, parts, p), as `growth.PARTS`."""
    return snapshot.once(lambda: torch.stack(growth.squares(snapshot.neurons), dim=1), "squares")


def _predicted(snapshot: Snapshot) -> Tensor:
    """`_squares` as the mean-field law predicts them one step later; NaN where it does not apply."""
    return by_the_law(snapshot).squares
