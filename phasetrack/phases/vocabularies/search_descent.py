"""search-descent: the search for a teacher's directions, and the descent once they are found (theory.md 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasetrack.phases.vocabulary import UNDETERMINED, Seen, Vocabulary, Watch

OVERLAP, CHANCE = "overlap/span", "overlap/chance"


@dataclass(frozen=True)
class SearchDescent(Vocabulary):
    """Searching until every direction is recovered weakly, recovered once all are recovered strongly.

    Weak recovery is an overlap beyond that of chance which does not vanish with the dimension, strong recovery one near 1.

    Attributes:
        searching: overlap up to which the run searches; a heuristic of ours, as the others.
        weak: overlap from which on it does not, until it is `searching` again.
        strong: overlap from which on the directions are recovered.
        lost: overlap at which they no longer are.
    """

    searching: float = 0.45
    weak: float = 0.6
    strong: float = 0.9
    lost: float = 0.8

    name: ClassVar = "search-descent"
    source: ClassVar = (
        "Ben Arous, Gheissari and Jagannath, arXiv 2003.10409 (search, descent, weak and strong recovery); "
        "the overlap of a span in place of one vector's, and the levels, are ours"
    )
    needs: ClassVar = {
        name: "geometry=SpanGeometry(directions) of attach(), or probes.OverlapProbe(directions)"
        for name in (OVERLAP, CHANCE)
    }
    labels: ClassVar = {
        "SEARCHING": "A direction of the teacher is not found: its overlap is that of a random start.",
        "RECOVERED": "Every direction of the teacher lies in the span that the first layer uses.",
    }
    boundaries: ClassVar = {
        "weak_recovery": "the least overlap left the level of the search on its way to the weak one",
        "strong_recovery": "the least overlap crossed the level at which directions are lost on its way to the strong one",
    }

    def watches(self) -> Mapping[str, Watch]:
        """Return weak and strong recovery."""
        return {
            "weak_recovery": Watch(OVERLAP, self.weak, self.searching, rising=True),
            "strong_recovery": Watch(OVERLAP, self.strong, self.lost, rising=True),
        }

    def label(self, seen: Seen) -> tuple[str, str]:
        """Return the label of the last overlap."""
        overlap, chance = seen.latest(OVERLAP), seen.latest(CHANCE)
        level = self.strong if seen.holds["strong_recovery"] else self.weak
        if seen.holds["weak_recovery"] and chance >= level:
            return UNDETERMINED, (
                f"random neurons may overlap by {chance:.3g} in this dimension, beyond the level of {level:g}"
            )
        if seen.holds["strong_recovery"]:
            return "RECOVERED", ""
        if seen.holds["weak_recovery"]:
            return UNDETERMINED, (
                f"the run descends: the least overlap {overlap:.3g} is between {self.weak:g} (weak recovery) "
                f"and {self.strong:g} (strong recovery)"
            )
        return "SEARCHING", ""


VOCABULARY = SearchDescent
