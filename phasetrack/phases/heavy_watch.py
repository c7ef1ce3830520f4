"""HeavyWatch: whether zeta* says that the network is signal-heavy, with hysteresis (theory.md 8)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from phasetrack.phases.crossings import Onset, crossing, local_crossing, surrounding
from phasetrack.phases.recent_mean import Measured
from phasetrack.phases.thresholds import Thresholds

# Records that the onset's local fit may reach back over; with a longer way from the crossing to its
# detection the onset is interpolated between the two records about the crossing.
LONGEST_FIT = 128


class HeavyWatch:
    """Follows zeta* of a run.

    Args:
        limits: the levels.

    Attributes:
        heavy: whether zeta* came under its lower level, or stayed under the upper one for
            `Thresholds.zeta_records` records, and has not been above the upper one since.
    """

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self._records: deque[Measured] = deque(maxlen=LONGEST_FIT)
        self._under = 0  # records in a row under the upper level
        self._crossed: Onset | None = None  # between the two records about the last crossing
        self.heavy = False

    def update(self, step: int, zeta: float, *, known: bool = True) -> None:
        """Take in a record.

        Args:
            step: of the record.
            zeta: zeta*; NaN leaves the run as it was.
            known: whether the data fit the clusters that zeta* is about; otherwise no run is heavy.
        """
        limits = self._limits
        self._under = self._under + 1 if known and zeta <= limits.zeta_exit else 0
        if not known or zeta > limits.zeta_exit:
            self._crossed, self.heavy = None, False
        elif zeta <= limits.zeta_exit:
            self._crossed = self._crossed or self._crossing(step, zeta)
            self.heavy |= zeta <= limits.zeta_enter or self._under >= limits.zeta_records
        if not math.isnan(zeta):
            self._records.append(Measured(step, zeta, 1.0, 1.0, math.nan))

    def _crossing(self, step: int, zeta: float) -> Onset:
        if not self._records:
            return Onset(step, step, step)
        before = self._records[-1]
        at = crossing(before.step, before.value, step, zeta, self._limits.zeta_exit)
        return Onset(at, before.step, step)

    def onset(self) -> Onset:
        """Where zeta* crossed its upper level on its way under the lower one."""
        level, all_records = self._limits.zeta_exit, list(self._records)
        records = surrounding(all_records, 1, level)
        assert self._crossed is not None
        if len(records) < 2 or records[0].value <= level:
            return self._crossed
        return local_crossing(records, level, self._limits.standard_errors)

    def state_dict(self) -> dict[str, Any]:
        """Return all that later judgements depend on."""
        return {
            "records": [[record.step, record.value] for record in self._records],
            "under": self._under,
            "crossed": None if self._crossed is None else list(self._crossed),
            "heavy": self.heavy,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._records.clear()
        for step, value in state["records"]:
            self._records.append(Measured(int(step), float(value), 1.0, 1.0, math.nan))
        self._under, crossed = int(state["under"]), state["crossed"]
        self._crossed = None if crossed is None else Onset(*map(float, crossed))
        self.heavy = bool(state["heavy"])

    def load_older_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a classifier's state of version 0.1.0."""
        self._records.clear()
        before = state["before"]
        if before is not None:
            zeta = float(before[1].get("heaviness/zeta_star", math.nan))
            if not math.isnan(zeta):
                self._records.append(Measured(int(before[0]), zeta, 1.0, 1.0, math.nan))
        self._under = int(state.get("under", 0))
        onset, self.heavy = float(state["onset"]), bool(state["heavy"])
        self._crossed = (
            None if math.isnan(onset) else Onset(onset, math.floor(onset), math.ceil(onset))
        )
