"""Labels of steps, and the events of a run: transitions, boundaries and alerts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

from phasetrack.phases.words import AlertWords, alert_advice, alert_sentence

# The name of the paper's vocabulary, which speaks first of every run.
PAPERS = "finds-then-tunes"


def others_told(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what the vocabularies beside the paper's say of a run, of those that apply.

    Args:
        summary: the content of ``summary.json``.
    """
    every: Mapping[str, Mapping[str, Any]] = summary.get("vocabularies", {})
    return {name: told for name, told in every.items() if name != PAPERS and told.get("applies")}


class Phase(Enum):
    """The label of a step; its value is the metric ``phase/id``."""

    UNDETERMINED = 0
    SIGNAL_FINDING = 1
    SIGNAL_HEAVY = 2
    FITTED = 3


@dataclass(frozen=True)
class Transition:
    """A change of label: `step` is the first one with the new label.

    `before` and `after` are members of `Phase`, or of the enumeration that another vocabulary has
    (`Vocabulary.phases`); `vocabulary` names the one that speaks.
    """

    step: int
    before: Enum
    after: Enum
    vocabulary: str = PAPERS


@dataclass(frozen=True, repr=False)
class Boundary:
    """A detected boundary between regimes.

    Attributes:
        name: ``signal_heavy`` (zeta* crosses 1 on its way under the entry threshold),
            ``linear_exit`` (the first-order value error crosses its threshold) or ``fitted``.
        onset: the step at which the reading crossed its level, by a local fit of its trajectory.
        detected: the recorded step at which the boundary was certain.
        low: lower end of the onset's interval (see `crossings.local_crossing`); NaN where it has none.
        high: upper end.
        left: the recorded step at which the run was seen to have left the regime again; None while the
            boundary holds.
    """

    name: str
    onset: float
    detected: int
    low: float = math.nan
    high: float = math.nan
    left: int | None = None

    def __repr__(self) -> str:
        """Name, onset and detection."""
        return f"<Boundary {self.name}: onset {self.onset:.1f}, detected at step {self.detected}>"


def mark_left(boundaries: list[Boundary], name: str, step: int) -> None:
    """Note at the last boundary of a name that the run was seen at a step to have left it again."""
    for place in reversed(range(len(boundaries))):
        if boundaries[place].name == name:
            boundaries[place] = replace(boundaries[place], left=step)
            return


@dataclass(frozen=True, repr=False)
class Alert:
    """A failure signature, with the numbers that raised it."""

    name: str
    step: int
    evidence: Mapping[str, float]
    vocabulary: str = PAPERS
    words: AlertWords | None = field(default=None, compare=False)

    @property
    def sentence(self) -> str:
        """What the alert says, with its numbers."""
        return alert_sentence(self.name, self.step, self.evidence, self.words)

    @property
    def advice(self) -> str:
        """Usual causes and remedy."""
        return alert_advice(self.name, self.words)

    def as_json(self) -> dict[str, Any]:
        """Return name, step and evidence, as ``summary.json`` has them."""
        return {"name": self.name, "step": self.step, "evidence": dict(self.evidence)}

    def __repr__(self) -> str:
        """The sentence and the advice."""
        return f"<Alert {' '.join(part for part in (self.sentence, self.advice) if part)}>"


class Verdict(NamedTuple):
    """The result of labelling one step: the label, its reason, and the events of this step.

    `left` names the boundaries that do not hold any more.
    """

    phase: Phase
    reason: str = ""
    transition: Transition | None = None
    boundaries: tuple[Boundary, ...] = ()
    alerts: tuple[Alert, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The label's name."""
        return self.phase.name


class Judgement(NamedTuple):
    """The result of labelling one step by a vocabulary that is not the paper's; fields as in `Verdict`."""

    label: str
    reason: str
    boundaries: tuple[Boundary, ...]
    alerts: tuple[Alert, ...]
    left: tuple[str, ...]
