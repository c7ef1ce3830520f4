"""HeavyWatch: whether zeta* says that the network is signal-heavy, with hysteresis (theory.md 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from phasetrack.phases.crossings import Onset
from phasetrack.phases.level_watch import LevelWatch
from phasetrack.phases.recent_mean import Measured
from phasetrack.phases.thresholds import Thresholds


class HeavyWatch(LevelWatch):
    """Follows zeta* of a run.

    Args:
        limits: the levels.
    """

    def __init__(self, limits: Thresholds) -> None:
        super().__init__(
            limits.zeta_enter,
            limits.zeta_exit,
            rising=False,
            errors=limits.standard_errors,
        )

    def load_older_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a classifier's state of version 0.1.0."""
        self._records.clear()
        before = state["before"]
        if before is not None:
            zeta = float(before[1].get("heaviness/zeta_star", math.nan))
            if not math.isnan(zeta):
                self._records.append(Measured(int(before[0]), zeta, 1.0, 1.0, math.nan))
        onset, self.holds = float(state["onset"]), bool(state["heavy"])
        self._crossed = (
            None if math.isnan(onset) else Onset(onset, math.floor(onset), math.ceil(onset))
        )
