"""GeometrySearch: clusters of a run for which none were declared, from its own first samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phasetrack.measures.class_clusters import LEAST_SAMPLES, class_clusters
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.tracking.reservoir import Reservoir

# Samples of a recorded step that are compared with the reservoir, and every how many recorded steps once it is full.
CHECKED, CHECK_EVERY = 64, 8


class GeometrySearch:
    """Tries the means of the classes as clusters whenever the reservoir's samples have doubled.

    Args:
        reservoir: the samples.
        active: whether clusters are wanted; without, the reservoir alone is kept.

    Attributes:
        reservoir: the samples.
        found: the clusters, once they were found.
        sentence: the last outcome, in words.
    """

    def __init__(self, reservoir: Reservoir, *, active: bool = True) -> None:
        self.reservoir, self._active = reservoir, active
        self.found: ClusterGeometry | None = None
        self.sentence = ""
        self._next_look = LEAST_SAMPLES

    @property
    def is_open(self) -> bool:
        """Whether clusters may still be found."""
        sought = self._active and self.found is None
        return sought and (self.reservoir.left > 0 or self.reservoir.kept >= self._next_look)

    def wanted(self, recorded: int) -> int:
        """Return how many samples of the coming recorded step are wanted, given the number of those before it."""
        if not self.reservoir.size:
            return 0
        checked = recorded % CHECK_EVERY == 0
        return max(self.reservoir.left, CHECKED if checked else 0)

    def look(self, classes: int) -> ClusterGeometry | None:
        """Return clusters if they are found now, given the number of classes that the network distinguishes."""
        if not self._active or self.found is not None:
            return None
        count = self.reservoir.kept
        if count < self._next_look:
            return None
        # while there is room the next look waits for twice as many samples
        self._next_look = max(2 * self._next_look, count + 1)
        self.found, self.sentence = class_clusters(
            self.reservoir.inputs, self.reservoir.targets, classes
        )
        return self.found

    def state_dict(self) -> dict[str, Any]:
        """Return all that later readings depend on."""
        found = self.found
        return {
            "reservoir": self.reservoir.state_dict(),
            "sentence": self.sentence,
            "next_look": self._next_look,
            "found": None
            if found is None
            else {"centres": found.centres.clone(), "labels": found.labels.clone()},
        }

    def restored(self, state: Mapping[str, Any] | None) -> GeometrySearch:
        """Return one that continues from a state; None, of version 0.1.0, begins with the next samples."""
        reservoir = self.reservoir.restored(None if state is None else state["reservoir"])
        search = GeometrySearch(reservoir, active=self._active)
        if state is None:
            return search
        search.sentence, search._next_look = str(state["sentence"]), int(state["next_look"])
        if state["found"] is not None:
            search.found = ClusterGeometry(state["found"]["centres"], state["found"]["labels"])
        return search
