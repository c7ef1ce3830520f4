"""Restored: what a tracker's state holds, once it has been read and checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.snapshot import Snapshot


class Restored(NamedTuple):
    """A state, read and checked: nothing that follows can fail but the disk."""

    view: TwoLayerView
    step: int
    time: float
    labels: RunLabels
    history: History
    before: Snapshot | None
    first: Snapshot | None
    undefined: dict[str, str]
    off: list[str]
    first_samples: FirstSamples
    vocabularies: dict[str, Any]
