"""RunLabels: the labels, boundaries and alerts of a run, from its readings step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self, cast

from phasetrack.phases.classifier import (
    Alert,
    Boundary,
    Phase,
    PhaseClassifier,
    Thresholds,
    Transition,
    Verdict,
)
from phasetrack.phases.labels import Judgement, mark_left
from phasetrack.phases.vocabularies.finds_then_tunes import FindsThenTunes
from phasetrack.phases.vocabulary import UNDETERMINED, Vocabulary

NOTHING_RECORDED = "no step was recorded yet"


class Labels:
    """One vocabulary's labels of a run's recorded steps, and all that it found.

    Args:
        vocabulary: the definition.

    Attributes:
        vocabulary: the definition.
        label: the label of the last recorded step.
        boundaries: boundaries detected so far.
        transitions: changes of label so far.
        alerts: failure signatures so far.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._reader, self._phases = vocabulary.begin(), vocabulary.phases
        self._awaited = set(vocabulary.needs)
        self.label, self._reason = UNDETERMINED, NOTHING_RECORDED
        self.boundaries: list[Boundary] = []
        self.transitions: list[Transition] = []
        self.alerts: list[Alert] = []

    @property
    def applies(self) -> bool:
        """Whether everything that the vocabulary needs has had a value."""
        return not self._awaited

    @property
    def reason(self) -> str:
        """Why the vocabulary does not apply, or why its label is UNDETERMINED; empty otherwise."""
        return self.missing or self._reason

    @property
    def awaited(self) -> frozenset[str]:
        """The metrics that the vocabulary needs and that have had no value so far."""
        return frozenset(self._awaited)

    @property
    def missing(self) -> str:
        """Why the vocabulary does not apply, with what would record its readings; empty if it does."""
        return self.why_silent({})

    def why_silent(self, undefined: Mapping[str, str]) -> str:
        """Return why the vocabulary does not apply; empty if it does.

        Args:
            undefined: metric to the reason why it could not be read.
        """
        groups: dict[tuple[str, str], list[str]] = {}
        for name in sorted(self._awaited):
            why = undefined.get(name, ""), self.vocabulary.needs[name]
            groups.setdefault(why, []).append(name)
        return "; ".join(_silence(names, *why) for why, names in groups.items())

    @property
    def number(self) -> float:
        """The label's number, as in ``phase/<name>``."""
        return float(self._phases[self.label].value)

    def notice(self, readings: Mapping[str, float]) -> None:
        """Note which of the awaited metrics have a value at a record."""
        if self._awaited and not self._awaited.isdisjoint(readings.keys()):
            found = {n for n in self._awaited if not math.isnan(readings.get(n, math.nan))}
            self._awaited -= found

    def update(self, step: int, readings: Mapping[str, float]) -> Verdict | Judgement:
        """Label one recorded step; steps ascend from call to call."""
        self.notice(readings)
        verdict = self._reader.update(step, readings)
        before, recorded = self.label, self._reason != NOTHING_RECORDED
        self.label, self._reason = verdict.label, verdict.reason
        for name in verdict.left:
            mark_left(self.boundaries, name, step)
        self.boundaries += verdict.boundaries
        self.alerts += verdict.alerts
        if recorded and self.label != before:
            old, new = self._phases[before], self._phases[self.label]
            self.transitions.append(Transition(step, old, new, self.vocabulary.name))
        return verdict

    def __repr__(self) -> str:
        """The vocabulary and its present label."""
        why = f" ({self.reason})" if self.reason else ""
        return f"<Labels of {self.vocabulary.name}: {self.label}{why}>"

    def events(self) -> dict[str, list[dict[str, Any]]]:
        """Return boundaries and alerts as JSON values, under the keys of ``summary.json``."""
        return {
            "boundaries": [asdict(boundary) for boundary in self.boundaries],
            "alerts": [alert.as_json() for alert in self.alerts],
        }

    def summary(self, undefined: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the entry of ``summary.json``: `applies`, `reason`, `phase`, `boundaries`, `alerts`.

        An alert also has its sentence and advice, which a reader of the file could not know of a
        vocabulary of the user's own.

        Args:
            undefined: metric to the reason why it could not be read.
        """
        events = self.events()
        for alert, entry in zip(self.alerts, events["alerts"], strict=True):
            entry.update(sentence=alert.sentence, advice=alert.advice)
        return {
            "applies": self.applies,
            "reason": self.why_silent(undefined or {}) or self._reason,
            "phase": self.label,
            "meaning": self.vocabulary.labels.get(self.label, ""),
            **events,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on, as numbers, text, lists and mappings."""
        return {
            "classifier": self._reader.state_dict(),
            "phase": self.label,
            "reason": self._reason,
            "awaited": sorted(self._awaited),
            "boundaries": [asdict(boundary) for boundary in self.boundaries],
            "transitions": [[t.step, t.before.name, t.after.name] for t in self.transitions],
            "alerts": [[a.name, a.step, dict(a.evidence)] for a in self.alerts],
        }

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Return labels that continue from a state, with the levels of these."""
        labels, vocabulary = self._anew(), self.vocabulary
        labels._reader.load_state_dict(state["classifier"])
        labels.label, labels._reason = self._phases[state["phase"]].name, str(state["reason"])
        # version 0.1.0 kept none: the next record tells
        labels._awaited &= {str(name) for name in state.get("awaited", labels._awaited)}
        labels.boundaries = [Boundary(**boundary) for boundary in state["boundaries"]]
        labels.transitions = [
            Transition(int(step), self._phases[old], self._phases[new], vocabulary.name)
            for step, old, new in state["transitions"]
        ]
        labels.alerts = [
            Alert(str(name), int(s), dict(why), vocabulary.name, vocabulary.alerts.get(str(name)))
            for name, s, why in state["alerts"]
        ]
        return labels

    def _anew(self) -> Self:
        return type(self)(self.vocabulary)


class RunLabels(Labels):
    """The paper's labels of a run.

    Args:
        thresholds: every number that decides.
        escape_steps: predicted steps until the loss halves; None never raises SADDLE.
    """

    vocabulary: FindsThenTunes

    def __init__(self, thresholds: Thresholds, escape_steps: float | None = None) -> None:
        super().__init__(FindsThenTunes(thresholds, escape_steps))

    def update(self, step: int, readings: Mapping[str, float]) -> Verdict:
        """Label one recorded step; steps ascend from call to call."""
        return cast("Verdict", super().update(step, readings))

    @property
    def reason(self) -> str:
        """Why the label is UNDETERMINED; empty otherwise."""
        return self._reason

    @property
    def phase(self) -> Phase:
        """The label of the last recorded step."""
        return Phase[self.label]

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds that decide."""
        return self.vocabulary.thresholds

    @property
    def units(self) -> dict[str, float]:
        """What levels are to be multiplied by to be in units of the run's own readings."""
        return cast("PhaseClassifier", self._reader).units

    @property
    def escape_steps(self) -> float | None:
        """Predicted steps until the loss halves, if known."""
        return self.vocabulary.escape_steps

    def _anew(self) -> Self:
        return type(self)(self.thresholds, self.escape_steps)


def _silence(names: list[str], undefined: str, need: str) -> str:
    """Return why some metrics have no value: a known reason, or what would record them."""
    listed = ", ".join(names)
    if undefined:
        return f"{listed} could not be read: {undefined}"
    if len(names) > 1:
        return f"{listed} have no value so far: they need {need}"
    return f"{listed} has no value so far: it needs {need}"
