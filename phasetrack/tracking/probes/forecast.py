"""The forecast's values, recorded beside the measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot

if TYPE_CHECKING:
    from phasetrack.theory.forecast import Forecast


@dataclass(frozen=True)
class ForecastProbe(Probe):
    """Medians of the forecast for each recorded step (theory.md 6b).

    Args:
        forecast: of the run that is recorded.
    """

    forecast: Forecast
    name: str = "forecast"
    needs: frozenset[str] = frozenset()

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the medians at each state's step."""
        if missing := snapshot.formula.missing:
            return dict.fromkeys(self.forecast.at(0), Reading.undefined(missing))
        if outside := self.forecast.reason:
            return dict.fromkeys(self.forecast.at(0), Reading.undefined(outside))
        rows = [self.forecast.at(step) for step in snapshot.steps]
        ended = "the forecast ends before this step"
        columns = {
            metric: torch.tensor([row[metric] for row in rows], dtype=torch.float64, device="cpu")
            for metric in rows[0]
        }
        return {
            metric: Reading(values, ((values.isnan(), ended),))
            for metric, values in columns.items()
        }
