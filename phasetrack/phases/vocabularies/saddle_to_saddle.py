"""saddle-to-saddle: plateaus at saddles, and the drops between them (theory.md 11)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasetrack.phases.vocabulary import UNDETERMINED, Seen, Vocabulary, Watch

SLOPE, ERROR, SHARE = "plateau/slope", "plateau/slope_error", "plateau/share"


@dataclass(frozen=True)
class SaddleToSaddle(Vocabulary):
    """Plateau while the loss stands still in log steps, drop while it falls.

    A loss that falls as a power of the steps has that power as its slope: 0.3 stays a plateau, 1 is a drop. Drops that
    follow each other within a factor of about two in the steps are one.

    Attributes:
        flat: slope -d log loss / d log step at which a drop ends; a heuristic of ours, as the others.
        steep: slope from which on the loss drops, until it is `flat` again.
        errors: standard errors by which the slope has to be beyond a level.
        end: share of the first loss from which on the label is UNDETERMINED, since no saddle is left.
    """

    flat: float = 0.25
    steep: float = 0.5
    end: float = 1e-3
    errors: float = 2.0

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
        "drop": "the slope of the loss left the flat level on its way to the steep one"
    }

    def watches(self) -> Mapping[str, Watch]:
        """Return the drop."""
        return {"drop": Watch(self._slope, self.steep, self.flat, rising=True)}

    def _slope(self, seen: Seen) -> float:
        """Return the slope, moved by its noise towards the middle of both levels, where it decides nothing."""
        if seen.now.get(SHARE, 1.0) <= self.end:
            return 0.0
        middle = (self.flat + self.steep) / 2
        away = seen.now.get(SLOPE, math.nan) - middle
        noise = self.errors * seen.now.get(ERROR, math.nan)
        return middle + math.copysign(max(abs(away) - noise, 0.0), away)

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


VOCABULARY = SaddleToSaddle
