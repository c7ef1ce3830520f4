"""Features learned one after another: a probe, and a boundary for each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from phasetrack.measures.feature_gain import Features, contributions, gains, holders
from phasetrack.phases.classifier import Boundary, first_crossing
from phasetrack.phases.history import History
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot

# The gain from which on a feature counts as acquired: it then moves the output of the logistic loss by
# as much as makes a difference (slope 0.76 of the first in place of 1). Chosen here.
ACQUIRED = 0.5
_KINDS = ("", "/neurons")


@dataclass(frozen=True)
class AcquisitionProbe(Probe):
    """What the network holds of each feature, and how many neurons hold it.

    Readings: ``acquisition/<feature>``, its gain (`measures.feature_gain`), and
    ``acquisition/<feature>/neurons``, the number of its holders.

    Args:
        features: on points of the geometry's signal span.
    """

    features: Features
    name: str = "acquisition"
    needs: frozenset[str] = frozenset({"span"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of each state."""
        if missing := snapshot.formula.missing:
            kinds = [f"acquisition/{name}{of}" for name in self.features.names for of in _KINDS]
            return dict.fromkeys(kinds, Reading.undefined(missing))
        parts = contributions(snapshot.neurons, self.features)
        values, counts = gains(parts), holders(parts).sum(dim=-2)
        readings: dict[str, Tensor | Reading] = {}
        for index, name in enumerate(self.features.names):
            readings[f"acquisition/{name}"] = values[..., index]
            readings[f"acquisition/{name}/neurons"] = counts[..., index]
        return readings


def acquisitions(history: History, features: Features, level: float = ACQUIRED) -> list[Boundary]:
    """The features that were acquired, each as a boundary of its own, in their order.

    Args:
        history: of a run with an `AcquisitionProbe` of these features.
        features: what to look for.
        level: gain from which on a feature counts as acquired.

    Returns:
        Boundaries named as the features, at the first step at which the gain reaches the level.
    """
    found = []
    for name in features.names:
        steps, values = history.steps, history[f"acquisition/{name}"]
        reached = values >= level
        if reached.any():
            points = zip(steps.tolist(), values.tolist(), strict=True)
            onset = first_crossing(points, level, rising=True)
            found.append(Boundary(name, onset, int(steps[reached.argmax()])))
    return sorted(found, key=lambda boundary: boundary.onset)
