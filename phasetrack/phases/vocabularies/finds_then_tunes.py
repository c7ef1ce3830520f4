"""finds-then-tunes: the paper's phases, features first and the loss after them (theory.md 8)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, ClassVar

from phasetrack.phases.classifier import METRICS, PhaseClassifier
from phasetrack.phases.labels import PAPERS, Phase
from phasetrack.phases.thresholds import Thresholds
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.phases.words import ALERTS


@dataclass(frozen=True)
class FindsThenTunes(Vocabulary):
    """The paper's two phases and their boundaries.

    Attributes:
        thresholds: the levels.
        escape_steps: predicted steps until the loss halves; None never raises SADDLE.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    escape_steps: float | None = None

    name: ClassVar = PAPERS
    source: ClassVar = (
        "Glasgow, arXiv 2309.15111; the rates and levels are this project's operationalisation"
    )
    needs: ClassVar = {"heaviness/zeta_star": "probes.HeavinessProbe(), and geometry= of attach()"}
    reads: ClassVar = METRICS
    labels: ClassVar = {
        "SIGNAL_FINDING": "The network is not signal-heavy yet, and the loss is close to first order.",
        "SIGNAL_HEAVY": "A few neurons carry the features and outweigh the rest.",
        "FITTED": "The loss has met its target.",
    }
    boundaries: ClassVar = {
        "signal_heavy": "zeta* crossed 1 on its way under the entry level",
        "linear_exit": "the loss left its first-order approximation",
        "fitted": "the loss met its target",
    }
    alerts: ClassVar = ALERTS

    @property
    def phases(self) -> type[Enum]:
        """`Phase`."""
        return Phase

    @property
    def levels(self) -> dict[str, Any]:
        """The thresholds by name."""
        return asdict(self.thresholds)

    def begin(self) -> PhaseClassifier:
        """Return the classifier of a new run."""
        return PhaseClassifier(self.thresholds, self.escape_steps)


VOCABULARY = FindsThenTunes
