"""grokking: memorised first, generalised later (theory.md 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasetrack.phases.vocabulary import UNDETERMINED, Seen, Vocabulary, Watch

TRAIN, HELD_OUT = "generalisation/train", "generalisation/held_out"


@dataclass(frozen=True)
class Grokking(Vocabulary):
    """Memorising while the training set is explained and the held-out set is not, generalising once it is too.

    Both are unexplained shares: 1 is as good as the best constant output, 0 perfect.

    Attributes:
        memorised: unexplained share of the training set from which on it is memorised; a heuristic of ours, as the others.
        forgotten: share at which it no longer is.
        generalised: unexplained share of the held-out set from which on the run generalises.
        unknown: share at which it no longer does.
    """

    memorised: float = 0.1
    forgotten: float = 0.2
    generalised: float = 0.2
    unknown: float = 0.5

    name: ClassVar = "grokking"
    source: ClassVar = "Power et al., arXiv 2201.02177, and Nanda et al., arXiv 2301.05217; the shares and levels are heuristics of ours"
    needs: ClassVar = {
        name: "sample= and held_out= of attach(), or probes.GeneralisationProbe(train, held_out)"
        for name in (TRAIN, HELD_OUT)
    }
    labels: ClassVar = {
        "MEMORISING": "The training set is explained, and the held-out set is not.",
        "GENERALISING": "The held-out set is explained too.",
    }
    boundaries: ClassVar = {
        "memorised": "the unexplained share of the training set crossed the forgotten level on its way to the memorised one",
        "generalised": "the unexplained share of the held-out set crossed the unknown level on its way to the generalised one",
    }

    def watches(self) -> Mapping[str, Watch]:
        """Return both boundaries."""
        return {
            "memorised": Watch(TRAIN, self.memorised, self.forgotten, rising=False),
            "generalised": Watch(HELD_OUT, self.generalised, self.unknown, rising=False),
        }

    def label(self, seen: Seen) -> tuple[str, str]:
        """Return the label of the last shares."""
        if seen.holds["generalised"]:
            return "GENERALISING", ""
        if seen.holds["memorised"]:
            return "MEMORISING", ""
        return UNDETERMINED, (
            f"{seen.latest(TRAIN):.3g} of the training set and {seen.latest(HELD_OUT):.3g} of the held-out set are "
            "unexplained, as shares of what the best constant output leaves"
        )


VOCABULARY = Grokking
