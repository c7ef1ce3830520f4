"""Failure signatures: one function each, from the state of a run to the evidence (theory.md 8)."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from phasetrack.phases.thresholds import Thresholds

# The readings that tell a lazy network; they are sparse.
KERNEL = ("kernel/drift", "kernel/linearisation_error")
# The numbers that raise an alert, by name; empty where nothing is wrong.
Evidence = Mapping[str, float]


@dataclass(slots=True)
class RunState:
    """What the alerts depend on, up to the present record.

    Attributes:
        thresholds: the levels.
        escape_steps: predicted steps until the loss halves, if known.
        step: the present step.
        readings: its readings.
        recent: the readings of the last `Thresholds.patience` records, the present one last.
        first: the readings of the first record.
        divergence: the losses that show a divergence; empty where the loss has not diverged.
        kernel: the last readings of `KERNEL`, which most records do not have.
        heavy: whether the run is signal-heavy.
        fitted: whether the loss has met its target.
    """

    thresholds: Thresholds
    escape_steps: float | None
    step: int = 0
    readings: Mapping[str, float] = field(default_factory=dict)
    recent: deque[Mapping[str, float]] = field(default_factory=deque)
    first: Mapping[str, float] = field(default_factory=dict)
    divergence: Evidence = field(default_factory=dict)
    kernel: Mapping[str, float] = field(default_factory=dict)
    heavy: bool = False
    fitted: bool = False

    def advance(self, step: int, readings: Mapping[str, float]) -> None:
        """Make a further record the present one."""
        self.step, self.readings = step, readings
        self.first = self.first or dict(readings)
        if not math.isnan(readings.get(KERNEL[0], math.nan)):
            self.kernel = {name: readings.get(name, math.nan) for name in KERNEL}
        self.recent.append(readings)


def diverged(run: RunState) -> Evidence:
    """The loss is not finite, or over enough samples far above its start."""
    return run.divergence


def saddle(run: RunState) -> Evidence:
    """The loss stands still and the signal has not grown, long after the predicted escape from the start."""
    limits = run.thresholds
    if run.escape_steps is None or run.step < limits.saddle_patience * run.escape_steps:
        return {}
    if run.heavy or run.fitted or len(run.recent) < limits.patience:
        return {}
    grown, loss = _odds_grown(run), _loss_left(run)
    # a loss that is NaN stands nowhere
    if not (grown < limits.saddle_growth and abs(loss - 1) <= 1 - limits.learned_loss):
        return {}
    return {
        "heaviness/signal_share": reading(run.readings, "heaviness/signal_share"),
        "first heaviness/signal_share": reading(run.first, "heaviness/signal_share"),
        "predicted escape step": run.escape_steps,
        "loss/train by its first value": loss,
    }


def imbalanced(run: RunState) -> Evidence:
    """Some clusters are learned by heavy neurons, while another is not served or loses against them."""
    limits = run.thresholds
    if len(run.recent) < limits.patience or "margin/balance" not in run.readings:
        return {}
    # the last record first, since it decides most cases
    masses = (reading(r, "heaviness/heavy_mass") for r in reversed(run.recent))
    if not all(mass > limits.imbalance_mass for mass in masses):
        return {}
    if _loss_left(run) >= limits.learned_loss:  # nothing is learned yet: a cluster may still follow
        return {}
    # a cluster that comes later has a small margin, or one that catches up from below 0; an unserved one has none
    margins = [reading(r, "margin/min") for r in run.recent]
    balances = [reading(r, "margin/balance", if_nan=0.0) for r in run.recent]
    follows = any(m > 0 for m in margins) or balances[-1] > balances[0]
    unserved = max(balances) < limits.imbalance_balance and not follows
    falling = all(later < sooner for sooner, later in itertools.pairwise(balances))
    if not unserved and not (falling and balances[-1] < limits.imbalance_fall * balances[0]):
        return {}
    return {
        "heaviness/heavy_mass": reading(run.readings, "heaviness/heavy_mass"),
        "margin/min": margins[-1],
        "margin/balance": balances[-1],
        f"margin/balance {limits.patience} records ago": balances[0],
    }


def non_signal_growth(run: RunState) -> Evidence:
    """The weights outside the signal span grow at a rate comparable to the signal's, which stays behind."""
    limits = run.thresholds
    # once signal-heavy, noise that follows a growing second layer is small beside the signal
    if run.heavy or run.fitted or len(run.recent) < limits.patience:
        return {}
    grown = reading(run.readings, "growth/perp_factor")
    odds = _odds_grown(run)
    if not grown >= limits.non_signal_growth or odds >= limits.non_signal_odds:
        return {}
    # where noise grows, the rates of single steps are noise too: compare their means
    perp, signal = (
        sum(r.get(name, math.nan) for r in run.recent) / len(run.recent)
        for name in ("growth/perp_rate", "growth/signal_rate")
    )
    if not (perp > 0 and perp >= limits.non_signal_ratio * signal):
        return {}
    return {
        f"growth/perp_rate, mean of {limits.patience} records": perp,
        f"growth/signal_rate, mean of {limits.patience} records": signal,
        "growth/perp_factor": grown,
        "signal against the rest, by its first value": odds,
    }


def _odds_grown(run: RunState) -> float:
    """Growth of the signal against the rest, |sig and opp|^2 / |perp|^2, since the first record.

    Unlike the signal's share it can double from any start.
    """
    now, first = (
        share / (1 - share) if share < 1 else math.inf
        for share in (reading(r, "heaviness/signal_share") for r in (run.readings, run.first))
    )
    return now / first if 0 < first < math.inf else math.nan


def _loss_left(run: RunState) -> float:
    """Mean loss of the recent records, by the first one's."""
    losses = [reading(r, "loss/train") for r in run.recent]
    first = reading(run.first, "loss/train")
    return sum(losses) / len(losses) / first if first > 0 else math.nan


def lazy(run: RunState) -> Evidence:
    """The loss has met its target while the network stayed a linear model of its start's gradients."""
    limits = run.thresholds
    drift, error = (reading(run.kernel, name) for name in KERNEL)
    if not run.fitted or not (drift <= limits.lazy_drift or error <= limits.lazy_linearisation):
        return {}
    return {"loss/train": reading(run.readings, "loss/train"), **run.kernel}


CHECKS: Mapping[str, Callable[[RunState], Evidence]] = {
    "DIVERGED": diverged,
    "SADDLE": saddle,
    "IMBALANCED": imbalanced,
    "NON_SIGNAL_GROWTH": non_signal_growth,
    "LAZY": lazy,
}


def reading(readings: Mapping[str, float], name: str, if_nan: float = math.nan) -> float:
    """Return a reading, or `if_nan` where it is missing or NaN."""
    value = readings.get(name, math.nan)
    return value if value == value else if_nan  # NaN is not itself
