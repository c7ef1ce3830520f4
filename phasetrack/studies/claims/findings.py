"""The result of a claim: findings with intervals, a verdict and charts. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from phasetrack.studies.confidence import Interval


class ClaimVerdict(Enum):
    """Whether the numbers support a statement."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided at these sizes"

    @property
    def word(self) -> str:
        """The verdict on a single finding: yes, no or open."""
        return {"SUPPORTED": "yes", "CONTRADICTED": "no", "UNDECIDED": "open"}[self.name]


@dataclass(frozen=True)
class Finding:
    """One measured number and the range that the statement requires.

    Attributes:
        name: the measured quantity, with its unit.
        estimate: the mean or share over seeds, with its confidence interval.
        low: least value that the statement allows; minus infinity for no lower end.
        high: largest value that the statement allows; infinity for no upper end.
    """

    name: str
    estimate: Interval
    low: float = -math.inf
    high: float = math.inf

    @property
    def verdict(self) -> ClaimVerdict | None:
        """Whether the interval lies inside the range, outside it, or neither; None without a range."""
        if math.isinf(self.low) and math.isinf(self.high):
            return None
        value, below, above = self.estimate.value, self.estimate.low, self.estimate.high
        if math.isnan(value) or math.isnan(below):
            return ClaimVerdict.UNDECIDED
        if self.low <= below and above <= self.high:
            return ClaimVerdict.SUPPORTED
        if above < self.low or below > self.high:
            return ClaimVerdict.CONTRADICTED
        return ClaimVerdict.UNDECIDED

    @property
    def required_range(self) -> str:
        """The range in words; empty without a range."""
        if math.isinf(self.low) and math.isinf(self.high):
            return ""
        if math.isinf(self.high):
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Series:
    """A curve: y over x, with the ends of its intervals if it has any.

    A predicted curve is drawn as a dashed line without dots.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    predicted: bool = False

    @classmethod
    def of(cls, name: str, x: Sequence[float], estimates: Iterable[Interval]) -> Series:
        """Return a curve of estimates with their intervals."""
        y, low, high = zip(*((e.value, e.low, e.high) for e in estimates), strict=True)
        return cls(name, x, y, low, high)


@dataclass(frozen=True)
class ClaimChart:
    """A chart of some curves on shared axes.

    Attributes:
        title: text above the chart.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        series: the curves.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is logarithmic.
        kinds: labels of x = 0, 1, ... where x is a category; dots are then not joined.
        marks: vertical lines: a position, and the name of the series whose colour it takes.
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
class ClaimResult:
    """The evidence on a claim.

    Attributes:
        findings: the numbers; those with a required range decide the verdict.
        charts: the charts of the report.
        setting: sizes and seeds, in words.
        blocks: the verdict of each block of seeds alone; empty for a result of one block.
        corrected: the verdict by intervals that are corrected for the number of ranges on trial.
    """

    findings: Sequence[Finding]
    charts: Sequence[ClaimChart]
    setting: str
    blocks: Sequence[ClaimVerdict] = ()
    corrected: ClaimVerdict | None = None

    @property
    def verdict(self) -> ClaimVerdict:
        """Contradicted if any finding is; else undecided if any is; else supported."""
        each = [finding.verdict for finding in self.findings if finding.verdict]
        if ClaimVerdict.CONTRADICTED in each:
            return ClaimVerdict.CONTRADICTED
        return ClaimVerdict.UNDECIDED if ClaimVerdict.UNDECIDED in each else ClaimVerdict.SUPPORTED

    @property
    def agreement(self) -> str:
        """How many blocks of seeds come to the verdict alone, in words."""
        return f"{sum(each is self.verdict for each in self.blocks)} of {len(self.blocks)}"

    def as_json(self) -> dict[str, Any]:
        """Return verdict, setting and findings as a JSON object."""
        return {
            "verdict": self.verdict.value,
            "corrected": self.corrected.value if self.corrected else "",
            "blocks": [verdict.value for verdict in self.blocks],
            "setting": self.setting,
            "findings": [
                {
                    "name": f.name,
                    "value": f.estimate.value,
                    "low": f.estimate.low,
                    "high": f.estimate.high,
                    "count": f.estimate.count,
                    "asked": f.required_range,
                    "verdict": f.verdict.value if f.verdict else "",
                }
                for f in self.findings
            ],
        }
