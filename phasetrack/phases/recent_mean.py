"""RecentMean: a reading's mean over the last records, as many as hold enough samples, with its standard error."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

# Batches that scatter by less than this share of the variance that fresh samples would have are the
# same samples again and again. A heuristic of ours; ten batches of fresh samples come under it with
# a probability of 1e-5.
REPEATED_SHARE = 1 / 16
# Records before the window that are kept for a local fit, where the window is shorter.
LEAST_PAST = 32


class Measured(NamedTuple):
    """One record's value of a reading.

    Attributes:
        step: of the record.
        value: of the reading.
        samples: the number of samples behind it.
        weight: of the value in the mean.
        spread: standard deviation of the samples' values; NaN where it is not known.
    """

    step: int
    value: float
    samples: float
    weight: float
    spread: float


class Estimate(NamedTuple):
    """A mean and its standard error; `enough` once enough samples are behind it, in so many records."""

    mean: float
    error: float
    enough: bool
    records: int = 0

    def below(self, level: float, errors: float) -> bool:
        """Whether the upper end, so many standard errors above the mean, is at or under a level."""
        return -math.inf < self.mean + errors * self.error <= level

    def above(self, level: float, errors: float) -> bool:
        """Whether the lower end is above a level."""
        return self.mean - errors * self.error > level


# Moments of some records in a row: their number, samples, weight and mean; the weighted squared deviations from the mean,
# within records and between; the records whose spread is known; the sum of the variances that fresh samples give the
# records' means; the sum of squared differences between neighbouring records; the first and the last value. A plain
# tuple, since every record makes several.
_Sums = tuple[int, float, float, float, float, int, float, float, float, float]


def _sums(record: Measured) -> _Sums:
    _, value, samples, weight, spread = record
    if spread != spread:  # NaN
        return (1, samples, weight, value, 0.0, 0, 0.0, 0.0, value, value)
    variance = spread * spread
    within = weight * variance
    return (1, samples, weight, value, within, 1, variance / samples, 0.0, value, value)


def _merged(before: _Sums, after: _Sums) -> _Sums:
    """The moments of records and of those after them, without cancellation (Chan et al.)."""
    records, samples, heft, mean, squares, known, expected, jumps, first, last = before
    more, further, weight, other, scatter, told, fresh, leaps, start, end = after
    share = weight / (heft + weight) if heft + weight > 0 else 0.5
    apart, jump = other - mean, start - last
    return (
        records + more,
        samples + further,
        heft + weight,
        mean + apart * share,
        squares + scatter + apart * apart * heft * share,
        known + told,
        expected + fresh,
        jumps + leaps + jump * jump,
        first,
        end,
    )


class RecentMean:
    """The mean over the last records that together hold `least_samples` samples.

    One record of so many samples stands alone. Where batches do not scatter as fresh samples would, as
    in training on one full batch, the last record stands alone after `least_records` records. Adding
    a record costs the same whatever the window's length: the window is a queue of two stacks, whose sums
    are kept up to date (no sum is ever subtracted from).

    Args:
        least_samples: samples that a mean needs.
        least_records: records before batches can count as repeated.

    Attributes:
        past: the records of the window, and as many before it (`LEAST_PAST` at least).
    """

    def __init__(self, least_samples: float, least_records: int) -> None:
        self._least, self._least_records = least_samples, least_records
        self._front: list[tuple[Measured, _Sums]] = []  # the oldest last, each with all after it
        self._back: list[Measured] = []
        self._back_sums: _Sums | None = None
        self._samples = 0.0
        self._before: deque[Measured] = deque()

    def __len__(self) -> int:
        """The number of records in the window."""
        return len(self._front) + len(self._back)

    @property
    def past(self) -> Iterator[Measured]:
        """The records before the window that are kept, then those of the window, in order."""
        return chain(self._before, (record for record, _ in reversed(self._front)), self._back)

    def clear(self) -> None:
        """Forget every record."""
        self._front.clear()
        self._back.clear()
        self._before.clear()
        self._back_sums, self._samples = None, 0.0

    def add(
        self,
        step: int,
        value: float,
        samples: float = math.nan,
        weight: float = math.nan,
        spread: float = math.nan,
    ) -> None:
        """Add a record with a finite value.

        Args:
            step: of the record.
            value: of the reading.
            samples: behind the value; NaN (not known) counts as enough.
            weight: of the value in the mean; NaN takes the samples.
            spread: standard deviation of the samples' values; NaN: only records show the scatter.
        """
        samples = samples if samples > 0 else self._least
        weight = weight if 0 <= weight < math.inf else samples
        self._append(Measured(step, value, samples, weight, spread))
        while self._has_spare():
            self._drop()
        kept = max(LEAST_PAST, len(self._front) + len(self._back))
        while len(self._before) > kept:
            self._before.popleft()

    def estimate(self) -> Estimate:
        """Return the mean of the window; NaN while it is empty."""
        sums = self._total()
        if sums is None:
            return Estimate(math.nan, math.nan, enough=False)
        records, samples, weight, mean, squares, known, expected, jumps, _, last = sums
        if self._least_records <= records == known and records > 1:
            scatter = jumps / (2 * (records - 1))
            if scatter < REPEATED_SHARE * expected / records:
                return Estimate(last, math.sqrt(scatter), True, 1)
        freedom = samples if known == records else records - 1
        variance = squares / weight if weight > 0 else 0.0
        error = math.sqrt(variance / freedom) if freedom > 0 else 0.0
        return Estimate(mean, error, samples >= self._least, records)

    def _total(self) -> _Sums | None:
        front = self._front[-1][1] if self._front else None
        if front is None or self._back_sums is None:
            return front or self._back_sums
        return _merged(front, self._back_sums)

    def _has_spare(self) -> bool:
        """Whether the window has enough samples without its oldest record."""
        front, back = self._front, self._back
        oldest = front[-1][0] if front else back[0]
        return self._samples - oldest.samples >= self._least and len(front) + len(back) > 1

    def _append(self, record: Measured) -> None:
        self._back.append(record)
        sums = _sums(record)
        self._back_sums = sums if self._back_sums is None else _merged(self._back_sums, sums)
        self._samples += record.samples

    def _drop(self) -> None:
        if not self._front:
            self._turn()
        record, _ = self._front.pop()
        self._samples -= record.samples
        self._before.append(record)

    def _turn(self) -> None:
        """Make the back the front, each record with the sums of all after it."""
        for record in reversed(self._back):
            sums = _sums(record)
            after = self._front[-1][1] if self._front else None
            self._front.append((record, sums if after is None else _merged(sums, after)))
        self._back.clear()
        self._back_sums = None

    def state_dict(self) -> dict[str, Any]:
        """Return the records, and where the stacks part: sums are the same to the bit afterwards."""
        return {
            "before": [list(record) for record in self._before],
            "front": [list(record) for record, _ in reversed(self._front)],
            "back": [list(record) for record in self._back],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.clear()
        self._before.extend(map(_measured, state["before"]))
        for record in map(_measured, state["front"]):
            self._append(record)
        if self._back:
            self._turn()
        for record in map(_measured, state["back"]):
            self._append(record)


def _measured(values: list[float]) -> Measured:
    step, *numbers = values
    return Measured(int(step), *map(float, numbers))
