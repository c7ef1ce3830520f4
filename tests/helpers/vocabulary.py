"""A small vocabulary, of one reading h."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasetrack.phases.vocabulary import Vocabulary, Watch
from phasetrack.phases.words import AlertWords


@dataclass(frozen=True)
class Height(Vocabulary):
    high: float = 2.0
    low: float = 1.0

    name: ClassVar = "height"
    source: ClassVar = "a test"
    needs: ClassVar = {"h": "a probe of h"}
    labels: ClassVar = {"LOW": "h is low.", "HIGH": "h is high."}
    boundaries: ClassVar = {"up": "h passed its outer level"}
    alerts: ClassVar = {"TALL": AlertWords("h is tall", "h is {h}", "growth", "cut h")}

    def watches(self) -> Mapping[str, Watch]:
        return {"up": Watch("h", self.high, self.low, rising=True)}

    def label(self, seen):
        return ("HIGH" if seen.holds["up"] else "LOW"), ""

    def evidence(self, seen):
        return {"TALL": {"h": seen.most["h"]}} if seen.most["h"] > 10 else {}
