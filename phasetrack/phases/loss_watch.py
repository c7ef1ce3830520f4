"""LossWatch: whether a run is fitted or has diverged, by a mean over enough samples (theory.md 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phasetrack.phases.alerts import reading
from phasetrack.phases.crossings import Onset, local_crossing, surrounding
from phasetrack.phases.recent_mean import Estimate, RecentMean
from phasetrack.phases.thresholds import Thresholds

if TYPE_CHECKING:  # labels need no numpy
    from phasetrack.phases.history import History

# The loss of the best constant output in the paper's problem: balanced labels, 2 log(1 + exp(-y f)).
PAPERS_CONSTANT = 2 * math.log(2)

# A loss is judged in units of what the best constant output leaves (see `loss_unit`).
CONSTANT = "loss/constant"

METRICS = (
    "loss/train",
    "loss/mean",
    "loss/samples",
    "loss/spread",
    CONSTANT,
    "held_out/loss",
    "held_out/standard_error",
)


def loss_unit(constant: float) -> float:
    """What a loss of the paper's problem is in another one: the ratio of their best constants' losses.

    Args:
        constant: the loss of the best constant output.

    Returns:
        The factor of `Thresholds.loss_target`; 1 where the best constant's loss is not known.
    """
    unit = constant / PAPERS_CONSTANT
    return unit if 0 < unit < math.inf else 1.0


def drawn_unit(history: History) -> float:
    """`loss_unit` at the end of a run, in the scale of ``loss/train``, which may be a sum over samples."""
    unit = loss_unit(_last(history, CONSTANT))
    samples = _last(history, "loss/samples") if "loss/mean" in history else 1.0
    return unit * samples if samples > 0 else unit


class LossWatch:
    """Follows the loss of a run.

    The loss is ``held_out/loss`` from the first record that has it on, and records between its readings change nothing unless
    the training loss is not finite. Otherwise it is that of the training samples, per sample where the loss is a sum
    (``loss/mean``). Readings without a number of samples are taken as
    exact, as those of a forecast are.

    Args:
        limits: the levels.

    Attributes:
        fitted: whether the loss has met its target, and has not been far above it since.
        diverged: whether the loss is not finite, or far above its start.
        now: the loss of the last record.
    """

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self._recent = RecentMean(limits.least_samples, limits.patience)
        self._start_sum, self._start_count, self._start_records = 0.0, 0, 0
        self._first = self._constant = math.nan
        self._summed = 1.0  # samples that ``loss/train`` is a sum over
        self._held_out = False  # whether the held-out loss decides
        self.fitted = self.diverged = False
        self.now = math.nan

    @property
    def target(self) -> float:
        """The loss at which the run is fitted: the same share of the best constant's as the paper's."""
        return self._limits.loss_target * loss_unit(self._constant)

    @property
    def unit(self) -> float:
        """What the loop's loss is in units of the paper's (see `loss_unit`)."""
        return loss_unit(self._constant) * self._summed

    @property
    def start(self) -> float:
        """The mean loss of the first records, or the best constant's, whichever is larger."""
        first = self._start_sum / self._start_count if self._start_count else math.nan
        return first if math.isnan(self._constant) else max(first, self._constant)

    def update(self, step: int, readings: Mapping[str, float]) -> bool:
        """Take in a record; return whether it has a loss that decides."""
        if not any(name in readings for name in ("held_out/loss", "loss/train")):
            return False
        self._constant = reading(readings, CONSTANT, self._constant)
        self._summed = reading(readings, "loss/samples", 1.0) if "loss/mean" in readings else 1.0
        held_out = reading(readings, "held_out/loss")
        if math.isnan(held_out):
            value = reading(readings, "loss/mean", readings.get("loss/train", math.nan))
            samples, spread = reading(readings, "loss/samples"), reading(readings, "loss/spread")
        else:  # one sample throughout: further records add no knowledge of it
            value, samples = held_out, self._limits.least_samples
            spread = reading(readings, "held_out/standard_error") * math.sqrt(samples)
        between = self._held_out and math.isnan(held_out)
        self._held_out |= not math.isnan(held_out)
        if between and math.isfinite(value):
            return False
        self.now = value
        if math.isfinite(value):
            self._recent.add(step, value, samples, spread=spread)
            self._note_start(value, samples)
        else:
            self._recent.clear()
        self._judge(self._recent.estimate())
        return True

    def _note_start(self, value: float, samples: float) -> None:
        if not self._start_records:
            self._first = value
            known = samples if samples > 0 else self._limits.least_samples
            self._start_records = min(
                math.ceil(self._limits.least_samples / known), self._limits.patience
            )
        if self._start_count < self._start_records:
            self._start_sum += value
            self._start_count += 1

    def _judge(self, estimate: Estimate) -> None:
        limits = self._limits
        if not math.isfinite(self.now):
            self.diverged = True
            return
        level = limits.diverged_factor * self.start
        if self.diverged:
            self.diverged = not (estimate.enough and estimate.mean <= level)
        elif estimate.enough or len(self._recent) >= limits.patience:
            self.diverged = estimate.above(level, limits.standard_errors)
        if self.fitted:
            exit_level = limits.fitted_exit * self.target
            self.fitted = not estimate.above(exit_level, limits.standard_errors)
        else:
            self.fitted = estimate.enough and estimate.below(self.target, limits.standard_errors)

    @property
    def evidence(self) -> dict[str, float]:
        """The numbers that show a divergence."""
        mean = self._recent.estimate().mean if math.isfinite(self.now) else self.now
        return {"loss/train": mean, "first loss/train": self._first}

    def onset(self) -> Onset:
        """Where the loss crossed its target on its way to the last record."""
        level, window = self.target, self._recent.estimate().records
        records = surrounding(list(self._recent.past), window, level)
        return local_crossing(records, level, self._limits.standard_errors, window=window)

    def state_dict(self) -> dict[str, Any]:
        """Return all that later judgements depend on."""
        return {
            "recent": self._recent.state_dict(),
            "start": [self._start_sum, self._start_count, self._start_records],
            "first": self._first,
            "constant": self._constant,
            "summed": self._summed,
            "held_out": self._held_out,
            "fitted": self.fitted,
            "diverged": self.diverged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._recent.load_state_dict(state["recent"])
        total, count, records = state["start"]
        self._start_sum, self._start_count = float(total), int(count)
        self._start_records, self._constant = int(records), float(state["constant"])
        self._first, self._summed = float(state["first"]), float(state.get("summed", 1.0))
        self._held_out = bool(state.get("held_out", False))
        self.fitted, self.diverged = bool(state["fitted"]), bool(state["diverged"])

    def load_older_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a classifier's state of version 0.1.0, which judged each record alone."""
        first = float(state["first_loss"])
        if math.isfinite(first):
            self._start_sum, self._start_count, self._start_records = first, 1, 1
            self._first = first
        self.fitted, self.diverged = bool(state["fitted"]), bool(state["diverged"])
        before = state["before"]
        if before is not None and math.isfinite(loss := float(before[1].get("loss/train", "nan"))):
            self._recent.add(int(before[0]), loss)


def _last(history: History, metric: str) -> float:
    """Return the last known value of a metric; NaN if there is none."""
    values = reversed(history[metric].tolist() if metric in history else [])
    return next((value for value in values if math.isfinite(value)), math.nan)
