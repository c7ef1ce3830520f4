"""lazy-rich: whether training moved the tangent kernel, or the network stayed a linear model of its start (theory.md 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasetrack.phases.vocabulary import UNDETERMINED, Seen, Vocabulary, Watch

DRIFT = "kernel/drift"


@dataclass(frozen=True)
class LazyRich(Vocabulary):
    """Lazy while the tangent kernel stays near its start, rich once it has moved by a share of its own size.

    Attributes:
        lazy_drift: drift |K_t - K_0| / |K_0| up to which the network is LAZY; a heuristic of ours, as
            `Thresholds.lazy_drift`.
        rich_drift: drift from which on it is RICH, until it is `lazy_drift` again; a heuristic of ours. Between both the
            label is UNDETERMINED on the way up.
    """

    lazy_drift: float = 0.1
    rich_drift: float = 0.3

    name: ClassVar = "lazy-rich"
    source: ClassVar = (
        "Chizat, Oyallon and Bach, arXiv 1812.07956 (lazy training); kernel drift as in Fort et al., "
        "arXiv 2010.15110; levels are heuristics of ours"
    )
    needs: ClassVar = {DRIFT: "probes.KernelProbe()"}
    labels: ClassVar = {
        "LAZY": "The tangent kernel is that of the start: the network is a linear model so far.",
        "RICH": "The tangent kernel has moved: the features are not those of the start.",
    }
    boundaries: ClassVar = {
        "rich": "the kernel's drift left the lazy level on its way to the rich one"
    }

    def watches(self) -> Mapping[str, Watch]:
        """Return the rich regime."""
        return {"rich": Watch(DRIFT, self.rich_drift, self.lazy_drift, rising=True)}

    def label(self, seen: Seen) -> tuple[str, str]:
        """Return the label of the last kernel reading."""
        drift = seen.latest(DRIFT)
        if seen.holds["rich"]:
            return "RICH", ""
        if drift <= self.lazy_drift:
            return "LAZY", ""
        if math.isnan(drift):
            return UNDETERMINED, "the kernel's drift could not be read"
        return UNDETERMINED, (
            f"the kernel's drift {drift:.3g} is between {self.lazy_drift:g} (lazy) and "
            f"{self.rich_drift:g} (rich)"
        )


VOCABULARY = LazyRich
