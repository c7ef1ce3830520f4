"""How steeply the loss falls over log-spaced stretches of steps (theory.md 11)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.snapshot import Snapshot

METRICS = (
    Metric(
        "plateau/slope",
        "ratio",
        "11",
        "fall of log loss per log step over the last stretches; near 0 on a plateau; sparse",
    ),
    Metric("plateau/slope_error", "ratio", "11", "standard error of that slope; sparse"),
    Metric(
        "plateau/share",
        "ratio",
        "11",
        "mean loss of the last stretch divided by the first recorded loss; sparse",
    ),
)
NOT_POSITIVE = "the mean loss of a stretch is not a positive number"
# How many stretches apart those are that are compared, and how many records each has at least: heuristics of ours.
LAG = 2
LEAST_RECORDS = 6


@dataclass(frozen=True)
class PlateauProbe(Probe):
    """Slope of the loss in log-log coordinates, once per stretch of steps of constant ratio.

    The saddles that a run from a small start visits lie at times that differ by ratios, and the log of the steps
    shows each plateau as flat whatever its length. Costs 5 microseconds per recorded step.

    Args:
        stretch: length of a stretch in log steps; 0.1 is a tenth of the steps so far. A heuristic of ours.
    """

    stretch: float = 0.1
    name: str = field(default="plateau", kw_only=True)
    needs: frozenset[str] = field(default=frozenset({"batch"}), kw_only=True)

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the slope at the records that begin a stretch."""
        batch, before = snapshot.batch, snapshot.before
        assert batch is not None
        memory = _Memory.of(before.carried.get("plateau") if before else None)
        losses = batch.mean_loss.tolist()
        rows = [
            memory.take(math.floor(math.log(step + 1) / self.stretch), step, loss)
            for step, loss in zip(snapshot.steps, losses, strict=True)
        ]
        snapshot.carried["plateau"] = memory.table()
        read = torch.tensor([row is not None for row in rows], device="cpu")
        if not read.any():
            return {}
        none = (math.nan,) * len(METRICS)
        columns = torch.tensor([row or none for row in rows], dtype=torch.float64, device="cpu").T
        return {
            metric.name: Reading(column, ((column.isnan(), NOT_POSITIVE),), read)
            for metric, column in zip(METRICS, columns, strict=True)
        }


class _Memory:
    """The mean loss of the present stretch so far, and of the last ones.

    Attributes:
        first: the first loss.
        stretches: (index, records, sum of log steps, sum of losses, sum of squared jumps from record to record, last loss)
            of each, the present one last.
    """

    def __init__(self, first: float, stretches: list[list[float]]) -> None:
        self.first, self.stretches = first, stretches

    @classmethod
    def of(cls, table: Tensor | None) -> _Memory:
        """Continue from a table, float64 (n, 6); None begins."""
        if table is None:
            return cls(math.nan, [])
        (first, *_), *stretches = table.tolist()
        return cls(first, stretches)

    def table(self) -> Tensor:
        """Return all of it as a table."""
        rows = [[self.first, 0.0, 0.0, 0.0, 0.0, 0.0], *self.stretches]
        return torch.tensor(rows, dtype=torch.float64, device="cpu")

    def take(self, index: int, step: int, loss: float) -> tuple[float, ...] | None:
        """Add a record; return slope and share where it ends a stretch that has an earlier one beside it."""
        if not self.stretches:
            self.first = loss
        found = None
        if not self.stretches or self.stretches[-1][0] != index:
            found = self._compared()
            self.stretches = [*self.stretches[-LAG:], [index, 0.0, 0.0, 0.0, 0.0, loss]]
        present = self.stretches[-1]
        added = (1.0, math.log(step + 1), loss, (loss - present[-1]) ** 2)
        sums = [total + more for total, more in zip(present[1:], added, strict=False)]
        present[1:] = [*sums, loss]
        return found

    def _compared(self) -> tuple[float, ...] | None:
        """Compare the stretch that has ended with the latest that is `LAG` or more before it."""
        if not self.stretches:
            return None
        *others, last = self.stretches
        earlier = next((one for one in reversed(others) if last[0] - one[0] >= LAG), None)
        if earlier is None or min(earlier[1], last[1]) < LEAST_RECORDS:
            return None
        (then, high, wide), (now, low, narrow) = _mean(earlier), _mean(last)
        if not 0 < low < math.inf or not 0 < high < math.inf:
            return math.nan, math.nan, math.nan
        length = now - then
        return math.log(high / low) / length, math.hypot(wide, narrow) / length, low / self.first


def _mean(stretch: list[float]) -> tuple[float, float, float]:
    """Return the mean log step and loss of a stretch, and the relative standard error of the loss.

    Half the mean squared jump is the variance of the noise, free of the trend (von Neumann, Ann. Math. Stat. 12, 1941).
    """
    _, count, steps, losses, jumps, _ = stretch
    mean = losses / count
    spread = jumps / (2 * (count - 1))
    return steps / count, mean, math.sqrt(spread / count) / mean if mean else math.nan
