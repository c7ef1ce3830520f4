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
        kernel: the last readings of `KERNEL`, which most records do not have.
        first_loss: the first training loss that was recorded.
        heavy: whether the run is signal-heavy.
        fitted: whether the loss has met its target.
    """

    thresholds: Thresholds
    escape_steps: float | None
    step: int = 0
    readings: Mapping[str, float] = field(default_factory=dict)
    recent: deque[Mapping[str, float]] = field(default_factory=deque)
    first: Mapping[str, float] = field(default_factory=dict)
    kernel: Mapping[str, float] = field(default_factory=dict)
    first_loss: float = math.nan
    heavy: bool = False
    fitted: bool = False

    def advance(self, step: int, readings: Mapping[str, float]) -> None:
        """Make a further record the present one."""
        self.step, self.readings = step, readings
        self.first = self.first or dict(readings)
        if not math.isnan(readings.get(KERNEL[0], math.nan)):
            self.kernel = {name: readings.get(name, math.nan) for name in KERNEL}
        if math.isnan(self.first_loss):  # the first record may lack a loss
            self.first_loss = reading(readings, "loss/train")
        self.recent.append(readings)


def diverged(run: RunState) -> Evidence:
    """The loss is not finite, or far above the first one."""
    loss = reading(run.readings, "loss/train")
    if "loss/train" not in run.readings:
        return {}
    if math.isfinite(loss) and not loss > run.thresholds.diverged_factor * run.first_loss:
        return {}
    return {"loss/train": loss, "first loss/train": run.first_loss}


def saddle(run: RunState) -> Evidence:
    """The signal share has not grown long after the predicted escape from initialisation."""
    limits = run.thresholds
    if run.escape_steps is None or run.step < limits.saddle_patience * run.escape_steps:
        return {}
    if len(run.recent) < limits.patience:
        return {}
    share, start = (reading(r, "heaviness/signal_share") for r in (run.readings, run.first))
    if run.heavy or run.fitted or not share < limits.saddle_growth * start:
        return {}
    return {
        "heaviness/signal_share": share,
        "first heaviness/signal_share": start,
        "predicted escape step": run.escape_steps,
    }


def imbalanced(run: RunState) -> Evidence:
    """Most mass is heavy, and a cluster is not served or loses against the others."""
    limits = run.thresholds
    if len(run.recent) < limits.patience or "margin/balance" not in run.readings:
        return {}
    # the last record first, since it decides most cases
    masses = (reading(r, "heaviness/heavy_mass") for r in reversed(run.recent))
    if not all(mass > limits.imbalance_mass for mass in masses):
        return {}
    # without any positive margin the balance is NaN, which is as bad as 0
    balances = [reading(r, "margin/balance", if_nan=0.0) for r in run.recent]
    unserved = max(balances) < limits.imbalance_balance
    falling = all(later < sooner for sooner, later in itertools.pairwise(balances))
    if not unserved and not (falling and balances[-1] < limits.imbalance_fall * balances[0]):
        return {}
    return {
        "heaviness/heavy_mass": reading(run.readings, "heaviness/heavy_mass"),
        "margin/balance": balances[-1],
        f"margin/balance {limits.patience} records ago": balances[0],
    }


def non_signal_growth(run: RunState) -> Evidence:
    """The weights outside the signal span grow, at a rate comparable to the signal's."""
    limits = run.thresholds
    # once signal-heavy, noise that follows a growing second layer is small beside the signal
    if run.heavy or run.fitted or len(run.recent) < limits.patience:
        return {}
    grown = reading(run.readings, "growth/perp_factor")
    if not grown >= limits.non_signal_growth:
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
    }


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
    return if_nan if math.isnan(value) else value
