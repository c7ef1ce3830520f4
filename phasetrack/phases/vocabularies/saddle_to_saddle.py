"""saddle-to-saddle: plateaus at saddles, and the drops between them (theory.md 11)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from phasetrack.phases.labels import Boundary, Judgement
from phasetrack.phases.vocabulary import UNDETERMINED, LevelReader, Seen, Vocabulary, Watch

SLOPE, ERROR, SHARE = "plateau/slope", "plateau/slope_error", "plateau/share"


@dataclass(frozen=True)
class SaddleToSaddle(Vocabulary):
    """Plateau while the loss stands still in log steps, drop while it falls.

    A loss that falls as a power of the steps has that power as its slope: 0.3 stays a plateau, 1 is a drop. Where a further
    drop begins before the one before it has ended, the slope has a valley in between, which is the boundary.

    Attributes:
        flat: slope -d log loss / d log step at which a drop ends; a heuristic of ours, as the others.
        steep: slope from which on the loss drops, until it is `flat` again.
        apart: factor by which the slope has to be smaller in a valley than on both sides of it.
        errors: standard errors by which the slope has to be beyond a level, and a valley below both sides.
        end: share of the first loss from which on the label is UNDETERMINED, since no saddle is left.
    """

    flat: float = 0.25
    steep: float = 0.5
    apart: float = 1.25
    end: float = 1e-3
    errors: float = 3.0

    name: ClassVar = "saddle-to-saddle"
    source: ClassVar = (
        "Jacot et al., arXiv 2106.15933 (linear networks), and Boursier, Pillaud-Vivien and Flammarion, "
        "arXiv 2206.00939 (ReLU); the slope and its levels are heuristics of ours"
    )
    needs: ClassVar = dict.fromkeys((SLOPE, ERROR, SHARE), "probes.PlateauProbe()")
    labels: ClassVar = {
        "PLATEAU": "The loss stands still in log steps, as near a saddle.",
        "DROP": "The loss falls, as between two saddles.",
    }
    boundaries: ClassVar = {
        "drop": "the slope of the loss left the flat level on its way to the steep one, or a valley in a drop"
    }

    def watches(self) -> Mapping[str, Watch]:
        """Return the drop."""
        return {
            "drop": Watch(self._slope, self.steep, self.flat, rising=True, noise=self.noise),
        }

    def _slope(self, seen: Seen) -> float:
        """Return the slope; 0 once no saddle is left."""
        return 0.0 if seen.now.get(SHARE, 1.0) <= self.end else seen.now.get(SLOPE, math.nan)

    def noise(self, seen: Seen) -> float:
        """Return how far the slope has to be beyond a level."""
        return self.errors * seen.now.get(ERROR, 0.0)

    def label(self, seen: Seen) -> tuple[str, str]:
        """Return the label of the last slope."""
        slope, share = seen.latest(SLOPE), seen.latest(SHARE)
        if share <= self.end:
            return UNDETERMINED, (
                f"the loss is {share:.3g} of its first, and from {self.end:g} on no saddle is left"
            )
        if seen.holds["drop"]:
            return "DROP", ""
        if slope < -self.steep:
            return UNDETERMINED, f"the loss rises: its slope in log steps is {-slope:.3g}"
        return "PLATEAU", ""

    def begin(self) -> Reader:
        """Return a reader of a new run."""
        return Reader(self)


class Reader(LevelReader):
    """Finds the drops that the levels tell, and those that a valley of the slope parts.

    Args:
        vocabulary: the levels.
    """

    def __init__(self, vocabulary: SaddleToSaddle) -> None:
        super().__init__(vocabulary)
        self._of, self._valley = vocabulary, Valley()

    def update(self, step: int, readings: Mapping[str, float]) -> Judgement:
        """Label one record."""
        found = super().update(step, readings)
        levels, slope = self._of, readings.get(SLOPE, math.nan)
        if not self._seen.holds["drop"]:
            self._valley = Valley()
        elif not math.isnan(slope):
            parted = self._valley.passed(step, slope, levels.noise(self._seen), levels.apart)
            if parted is not None:
                left, met = (*found.left, "drop"), (*found.boundaries, parted)
                return found._replace(left=left, boundaries=met)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on."""
        return super().state_dict() | {"valley": list(self._valley.numbers)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; one without a valley looks for the next from here on."""
        super().load_state_dict(state)
        self._valley = Valley(*map(float, state.get("valley", ())))


class Valley:
    """The largest slope since a drop began, and the smallest after it, each with its step.

    Both are bounds, the noise taken off the largest and added to the smallest.
    """

    def __init__(
        self, peak: float = 0.0, peak_step: float = -1, low: float = math.inf, low_step: float = -1
    ) -> None:
        self.numbers = peak, peak_step, low, low_step

    def passed(self, step: int, slope: float, noise: float, factor: float) -> Boundary | None:
        """Take the slope of a record; return the boundary if it shows that a valley was passed."""
        peak, peak_step, low, low_step = self.numbers
        least, most = slope - noise, slope + noise
        if low * factor <= min(peak, least):
            self.numbers = least, step, math.inf, -1
            return Boundary("drop", low_step, step, peak_step, step)
        if least > peak:
            self.numbers = least, step, math.inf, -1
        elif most < low:
            self.numbers = peak, peak_step, most, step
        return None


VOCABULARY = SaddleToSaddle
