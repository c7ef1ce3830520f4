"""edge-of-stability: sharpness times the step against 2, and catapults (theory.md 12)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasetrack.phases.alerts import Evidence
from phasetrack.phases.vocabulary import Seen, Vocabulary, Watch
from phasetrack.phases.words import AlertWords

PRODUCT, LOSS = "sharpness/eta_lambda", "loss/train"


@dataclass(frozen=True)
class EdgeOfStability(Vocabulary):
    """Stable while the step times the sharpness is under 2, at the edge from 2 on.

    A catapult is a start beyond 2 from which the loss first rises and the sharpness then falls below the edge for good.

    Attributes:
        edge: product from which on the run is at the edge: the stability limit of gradient descent on a quadratic.
        stable: product at which it is stable again; a heuristic of ours, since the product wavers about 2.
        landed: product from which on a catapult is over; a heuristic of ours.
        rise: how many times its first value the loss must reach in a catapult; a heuristic of ours.
        diverged: how many times its first value the loss has to be for DIVERGED; a heuristic of ours.
    """

    edge: float = 2.0
    stable: float = 1.5
    landed: float = 1.8
    rise: float = 2.0
    diverged: float = 1e6

    name: ClassVar = "edge-of-stability"
    source: ClassVar = (
        "Cohen et al., arXiv 2103.00065 (progressive sharpening, edge of stability), and Lewkowycz et al., "
        "arXiv 2003.02218 (catapult); all levels but 2 are heuristics of ours"
    )
    needs: ClassVar = {PRODUCT: "probes.SharpnessProbe(inputs, targets), and SGD without momentum"}
    reads: ClassVar = frozenset({LOSS})
    labels: ClassVar = {
        "STABLE": "The step times the sharpness is under 2: gradient descent is locally stable.",
        "EDGE": "The step times the sharpness is 2 or more: the loss need not fall at each step.",
    }
    boundaries: ClassVar = {
        "edge": "the step times the sharpness crossed the stable level on its way to the edge",
        "catapult": "after the loss had risen, the step times the sharpness crossed the edge on its way under the level of landing",
    }
    alerts: ClassVar = {
        "DIVERGED": AlertWords(
            "training diverged beyond the edge of stability",
            "the loss came to {loss}, and was {first loss} at the start, with the step times the sharpness at {eta lambda}",
            "a step beyond twice the largest that a catapult survives",
            "lower the learning rate until its product with the sharpness at the start is under 2",
        )
    }

    def watches(self) -> Mapping[str, Watch]:
        """Return the edge and the catapult."""
        return {
            "edge": Watch(PRODUCT, self.edge, self.stable, rising=True),
            "catapult": Watch(self._thrown, self.landed, self.edge, rising=False),
        }

    def _thrown(self, seen: Seen) -> float:
        """Return the product beyond the edge, and under it once the loss had risen; NaN elsewhere."""
        product = seen.now.get(PRODUCT, math.nan)
        beyond = seen.first.get(PRODUCT, math.nan) >= self.edge
        return (
            product
            if beyond and (product >= self.edge or self._rose(seen, self.rise))
            else math.nan
        )

    def _rose(self, seen: Seen, factor: float) -> bool:
        return seen.most.get(LOSS, math.nan) >= factor * seen.first.get(LOSS, math.nan)

    def label(self, seen: Seen) -> tuple[str, str]:
        """Return the label of the last product."""
        at_edge = seen.holds["edge"] and not seen.holds["catapult"]
        return ("EDGE" if at_edge else "STABLE"), ""

    def evidence(self, seen: Seen) -> Mapping[str, Evidence]:
        """Return DIVERGED, with its numbers."""
        if not (self._rose(seen, self.diverged) and seen.most.get(PRODUCT, math.nan) >= self.edge):
            return {}
        first, most = seen.first[LOSS], seen.most[LOSS]
        return {"DIVERGED": {"loss": most, "first loss": first, "eta lambda": seen.first[PRODUCT]}}


VOCABULARY = EdgeOfStability
