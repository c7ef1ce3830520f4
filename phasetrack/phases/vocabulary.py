"""Vocabulary: one published definition of phases, as levels, labels and sentences. Scalars in, labels out.

Each file of `phasetrack.phases.vocabularies` is one. A definition of your own derives from `Vocabulary` and goes to
``attach(phases=["auto", Mine()])``; docs/vocabularies.md has a complete example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from typing import Any, ClassVar, Protocol, cast

from phasetrack.phases.alerts import Evidence
from phasetrack.phases.labels import Alert, Boundary, Judgement, Verdict
from phasetrack.phases.level_watch import LevelWatch
from phasetrack.phases.words import AlertWords

UNDETERMINED = "UNDETERMINED"


class Seen:
    """What a vocabulary has seen of a run: its metrics at the present record and over all records so far.

    Attributes:
        step: the present step.
        now: readings of the present record; a sparse metric is absent from most.
        last: the last value of each metric that was not NaN.
        first: its first such value.
        least: its smallest.
        most: its largest; infinity counts.
        holds: name of each `Watch` to whether its regime holds.
    """

    def __init__(self) -> None:
        self.step = -1
        self.now: Mapping[str, float] = {}
        self.last: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.least: dict[str, float] = {}
        self.most: dict[str, float] = {}
        self.holds: dict[str, bool] = {}

    def advance(self, step: int, readings: Mapping[str, float], metrics: frozenset[str]) -> None:
        """Make a further record the present one."""
        self.step, self.now = step, readings
        for name in metrics:
            value = readings.get(name, math.nan)
            if not math.isnan(value):
                self.last[name] = value
                self.first.setdefault(name, value)
                self.least[name] = min(value, self.least.get(name, value))
                self.most[name] = max(value, self.most.get(name, value))

    def latest(self, name: str) -> float:
        """Return the last value of a metric; NaN if it had none."""
        return self.last.get(name, math.nan)

    def of_start(self, name: str) -> float:
        """Return the present record's value as a share of the metric's first one; NaN where either is missing."""
        first = self.first.get(name, math.nan)
        return self.now.get(name, math.nan) / first if first else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on."""
        return {
            "step": self.step,
            **{name: dict(getattr(self, name)) for name in ("last", "first", "least", "most")},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.step, self.now = int(state["step"]), {}
        for name in ("last", "first", "least", "most"):
            setattr(self, name, {str(key): float(value) for key, value in state[name].items()})


@dataclass(frozen=True)
class Watch:
    """A regime that a quantity is in beyond a level, with hysteresis.

    Attributes:
        quantity: a metric, or a function of what was seen, NaN where the present record does not have it.
        enter: the inner level, at which the regime begins.
        leave: the outer level, at which it ends; its crossing is the onset.
        rising: whether the regime is above the levels.
        records: records in a row beyond the outer level after which the regime also begins; 0: never.
        noise: how far beyond a level the quantity has to be, at the present record, to decide.
    """

    quantity: str | Callable[[Seen], float]
    enter: float
    leave: float
    rising: bool
    records: int = 0
    noise: Callable[[Seen], float] = lambda _: 0.0

    def value(self, seen: Seen) -> float:
        """Return the quantity at the present record."""
        if isinstance(self.quantity, str):
            return seen.now.get(self.quantity, math.nan)
        return self.quantity(seen)


class Reader(Protocol):
    """Labels one run, record after record."""

    def update(self, step: int, readings: Mapping[str, float]) -> Verdict | Judgement:
        """Label one record; steps ascend from call to call."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on, as numbers, text, lists and mappings."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""


@dataclass(frozen=True)
class Vocabulary:
    """A definition of phases. Derive a frozen dataclass from it, whose fields are the levels.

    Attributes:
        name: in ``attach(phases=)``, ``tracker.phases`` and the column ``phase/<name>``.
        source: where the definition is from, and which levels are heuristics.
        needs: metric to the probe that records it; the vocabulary applies once each has had a value.
        reads: further metrics, which it can do without.
        labels: label to its meaning in one sentence, in the order of their numbers in ``phase/<name>``, from 1
            on; 0 is UNDETERMINED.
        boundaries: name of each `Watch` that is a boundary to its meaning. The crossing that begins the regime is
            the boundary; a regime that the run begins in has none.
        alerts: name of each alert to its words.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Mapping[str, str]]
    reads: ClassVar[frozenset[str]] = frozenset()
    labels: ClassVar[Mapping[str, str]]
    boundaries: ClassVar[Mapping[str, str]] = {}
    alerts: ClassVar[Mapping[str, AlertWords]] = {}

    def watches(self) -> Mapping[str, Watch]:
        """Return the regimes that the labels depend on, by name."""
        return {}

    def label(self, seen: Seen) -> tuple[str, str]:
        """Return the present label and a reason, which is empty unless the label is UNDETERMINED."""
        raise NotImplementedError

    def evidence(self, seen: Seen) -> Mapping[str, Evidence]:  # noqa: ARG002
        """Return the alerts that hold now, each with its numbers; an alert is raised once."""
        return {}

    def begin(self) -> Reader:
        """Return a reader of a new run."""
        return LevelReader(self)

    @property
    def metrics(self) -> frozenset[str]:
        """Every metric that the vocabulary reads."""
        return self.reads | self.needs.keys()

    @property
    def phases(self) -> type[Enum]:
        """The labels as an enumeration, whose values are those of ``phase/<name>``."""
        return _enumeration(self.name, tuple(self.labels))

    @property
    def levels(self) -> dict[str, Any]:
        """The levels by name."""
        return asdict(self)


class LevelReader:
    """Labels a run by the watches, the label and the evidence of a vocabulary.

    Args:
        vocabulary: the definition.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._metrics, self._seen = vocabulary, vocabulary.metrics, Seen()
        self._watches = dict(vocabulary.watches())
        self._levels = {
            name: LevelWatch(w.enter, w.leave, rising=w.rising, records=w.records)
            for name, w in self._watches.items()
        }
        self._raised: set[str] = set()

    def update(self, step: int, readings: Mapping[str, float]) -> Judgement:
        """Label one record."""
        seen, vocabulary = self._seen, self._vocabulary
        seen.advance(step, readings, self._metrics)
        met, left = [], []
        for name, watch in self._watches.items():
            level = self._levels[name]
            before, first = level.holds, not level.begun
            level.update(step, watch.value(seen), noise=watch.noise(seen))
            seen.holds[name] = level.holds
            if level.holds and not before and not first and name in vocabulary.boundaries:
                at = level.onset()
                met.append(Boundary(name, at.step, step, at.low, at.high))
            elif before and not level.holds:
                left.append(name)
        label, reason = vocabulary.label(seen)
        return Judgement(label, reason, tuple(met), self._alerts(), tuple(left))

    def _alerts(self) -> tuple[Alert, ...]:
        found = self._vocabulary.evidence(self._seen)
        new = [name for name in found if name not in self._raised]
        self._raised.update(new)
        words, name_of = self._vocabulary.alerts, self._vocabulary.name
        return tuple(
            Alert(name, self._seen.step, dict(found[name]), name_of, words.get(name))
            for name in new
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on."""
        return {
            "seen": self._seen.state_dict(),
            "levels": {name: level.state_dict() for name, level in self._levels.items()},
            "raised": sorted(self._raised),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, under the levels of this vocabulary."""
        self._seen.load_state_dict(state["seen"])
        for name, level in self._levels.items():
            level.load_state_dict(state["levels"][name])
            self._seen.holds[name] = level.holds
        self._raised = {str(name) for name in state["raised"]}


@cache
def _enumeration(name: str, labels: tuple[str, ...]) -> type[Enum]:
    numbered = {label: number for number, label in enumerate((UNDETERMINED, *labels))}
    return cast("type[Enum]", Enum(name, numbered))
