"""LevelWatch: whether a reading is beyond a level, with hysteresis, and since when."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from phasetrack.phases.crossings import Onset, crossing, local_crossing, surrounding
from phasetrack.phases.recent_mean import Measured

# Records that the onset's local fit may reach back over; with a longer way from the crossing to its
# detection the onset is interpolated between the two records about the crossing.
LONGEST_FIT = 128


class LevelWatch:
    """Follows one reading of a run through two levels.

    Args:
        enter: the inner level: at it or beyond it the regime begins.
        leave: the outer level: before it the regime ends. The regime's onset is the crossing of this level.
        rising: whether beyond a level is above it.
        records: records in a row beyond the outer level after which the regime also begins; 0: never.
        errors: standard errors by which the onset's interval extends to either side.

    Attributes:
        holds: whether the reading came beyond the inner level, or stayed beyond the outer one for `records`
            records, and has not been before the outer one since.
    """

    def __init__(
        self, enter: float, leave: float, *, rising: bool, records: int = 0, errors: float = 2.0
    ) -> None:
        self._enter, self._leave, self._rising = enter, leave, rising
        self._needed, self._errors = records, errors
        self._records: deque[Measured] = deque(maxlen=LONGEST_FIT)
        self._beyond = 0  # records in a row beyond the outer level
        self._crossed: Onset | None = None  # between the two records about the last crossing
        self.holds = False

    @property
    def begun(self) -> bool:
        """Whether the reading had a value at some record."""
        return bool(self._records)

    def update(self, step: int, value: float, *, known: bool = True, noise: float = 0.0) -> None:
        """Add a record.

        Args:
            step: of the record.
            value: of the reading; NaN leaves the regime as it was.
            known: whether the reading says anything at this record; otherwise the regime ends.
            noise: by which the value has to be beyond the inner level for the regime to begin, and before the
                outer one for it to end.
        """
        noise = noise if self._rising else -noise
        inside = known and self._is_beyond(value, self._leave)
        self._beyond = self._beyond + 1 if inside else 0
        if inside:
            self._crossed = self._crossed or self._crossing(step, value)
            self.holds |= self._is_beyond(value - noise, self._enter)
            self.holds |= 0 < self._needed <= self._beyond
        elif not (known and math.isnan(value)):
            self.holds &= known and self._is_beyond(value + noise, self._leave)
            self._crossed = self._crossed if self.holds else None
        if not math.isnan(value):
            self._records.append(Measured(step, value, 1.0, 1.0, math.nan))

    def _is_beyond(self, value: float, level: float) -> bool:
        return value >= level if self._rising else value <= level

    def _crossing(self, step: int, value: float) -> Onset:
        if not self._records:
            return Onset(step, step, step)
        before = self._records[-1]
        at = crossing(before.step, before.value, step, value, self._leave)
        return Onset(at, before.step, step)

    def onset(self) -> Onset:
        """Where the reading crossed the outer level on its way beyond the inner one."""
        records = surrounding(list(self._records), 1, self._leave, rising=self._rising)
        assert self._crossed is not None
        if len(records) < 2 or self._is_beyond(records[0].value, self._leave):
            return self._crossed
        return local_crossing(records, self._leave, self._errors, rising=self._rising)

    def state_dict(self) -> dict[str, Any]:
        """Return all that later judgements depend on."""
        return {
            "records": [[record.step, record.value] for record in self._records],
            "under": self._beyond,
            "crossed": None if self._crossed is None else list(self._crossed),
            "heavy": self.holds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._records.clear()
        for step, value in state["records"]:
            self._records.append(Measured(int(step), float(value), 1.0, 1.0, math.nan))
        self._beyond, crossed = int(state["under"]), state["crossed"]
        self._crossed = None if crossed is None else Onset(*map(float, crossed))
        self.holds = bool(state["heavy"])
