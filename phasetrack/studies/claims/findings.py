"""What an experiment hands back: findings with intervals, a verdict, and what to draw. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from phasetrack.studies.confidence import Interval


class Verdict(Enum):
    """What the numbers say of a statement."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided at these sizes"

    @property
    def word(self) -> str:
        """The same for one number: yes, no or open."""
        return {"SUPPORTED": "yes", "CONTRADICTED": "no", "UNDECIDED": "open"}[self.name]


@dataclass(frozen=True)
class Finding:
    """One number of an experiment, and the range that the statement asks it to lie in.

    Attributes:
        name: what was measured, with its unit.
        estimate: over seeds, with its confidence interval.
        low: the statement asks for at least this; minus infinity if it asks for nothing.
        high: ... and at most this.
    """

    name: str
    estimate: Interval
    low: float = -math.inf
    high: float = math.inf

    @property
    def verdict(self) -> Verdict | None:
        """Whether the interval lies in the range, outside it, or neither; None if none was asked."""
        if math.isinf(self.low) and math.isinf(self.high):
            return None
        value, below, above = self.estimate.value, self.estimate.low, self.estimate.high
        if math.isnan(value) or math.isnan(below):
            return Verdict.UNDECIDED
        if self.low <= below and above <= self.high:
            return Verdict.SUPPORTED
        if above < self.low or below > self.high:
            return Verdict.CONTRADICTED
        return Verdict.UNDECIDED

    @property
    def asked(self) -> str:
        """The range in words."""
        if math.isinf(self.low) and math.isinf(self.high):
            return ""
        if math.isinf(self.high):
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Series:
    """A curve: y over x, with the ends of its intervals where it has any; `line` joins the points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    predicted: bool = False

    @classmethod
    def of(cls, name: str, x: Sequence[float], estimates: Iterable[Interval]) -> Series:
        """Estimates with their intervals."""
        y, low, high = zip(*((one.value, one.low, one.high) for one in estimates), strict=True)
        return cls(name, x, y, low, high)


@dataclass(frozen=True)
class Chart:
    """A figure of some curves on shared axes.

    Attributes:
        title: above it.
        x: the axis, in words.
        y: likewise.
        series: the curves.
        log_x: whether the axis is logarithmic.
        log_y: likewise.
        kinds: names of what stands at x = 0, 1, ..., if these are no numbers; nothing joins them then.
        marks: vertical lines, each for the series of a name, such as its boundary.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    kinds: Sequence[str] = ()
    marks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Result:
    """A statement's trial.

    Attributes:
        findings: the numbers; those with a range decide.
        charts: what to draw.
        setting: sizes and seeds, in words.
    """

    findings: Sequence[Finding]
    charts: Sequence[Chart]
    setting: str

    @property
    def verdict(self) -> Verdict:
        """Supported if every finding that decides is; contradicted if one is; else undecided."""
        each = [finding.verdict for finding in self.findings if finding.verdict]
        if Verdict.CONTRADICTED in each:
            return Verdict.CONTRADICTED
        return Verdict.UNDECIDED if Verdict.UNDECIDED in each else Verdict.SUPPORTED

    def as_json(self) -> dict[str, Any]:
        """Verdict, setting and findings, as JSON knows them."""
        return {
            "verdict": self.verdict.value,
            "setting": self.setting,
            "findings": [
                {
                    "name": f.name,
                    "value": f.estimate.value,
                    "low": f.estimate.low,
                    "high": f.estimate.high,
                    "count": f.estimate.count,
                    "asked": f.asked,
                    "verdict": f.verdict.value if f.verdict else "",
                }
                for f in self.findings
            ],
        }
