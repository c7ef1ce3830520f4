"""neural-collapse: the terminal phase of training, and the one shape that its features take (theory.md 14)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasetrack.phases.vocabulary import UNDETERMINED, Seen, Vocabulary, Watch

ERROR = "collapse/error"
WITHIN, NORMS, ANGLES = "collapse/within", "collapse/norms", "collapse/angles"
DUALITY, DISAGREEMENT = "collapse/duality", "collapse/disagreement"
READINGS = (ERROR, WITHIN, NORMS, ANGLES, DUALITY, DISAGREEMENT)


@dataclass(frozen=True)
class NeuralCollapse(Vocabulary):
    """Fitting until no training error is left, terminal from then on, collapsed once NC1 to NC4 are all small.

    Attributes:
        fitting: training error above which the terminal phase has ended; it begins at 0, as in its source.
        within: NC1, spread within classes over that between them; a heuristic of ours, as the others.
        norms: NC2, spread of the lengths of the class means over their mean.
        angles: NC2, mean distance of their cosines from -1 / (K - 1).
        duality: NC3, squared distance of the head from the class means, both of length 1.
        disagreement: NC4, share of samples where the network does not decide for the nearest class mean.
        apart: factor on these five levels at which the collapse has ended.
    """

    fitting: float = 0.01
    within: float = 0.1
    norms: float = 0.1
    angles: float = 0.1
    duality: float = 0.1
    disagreement: float = 0.01
    apart: float = 2.0

    name: ClassVar = "neural-collapse"
    source: ClassVar = (
        "Papyan, Han and Donoho, PNAS 117(40), 2020, arXiv 2008.08186; the levels are heuristics of ours, since all "
        "four tend to 0 and none of them is a boundary"
    )
    needs: ClassVar = dict.fromkeys(READINGS, "probes.NeuralCollapseProbe(inputs, classes)")
    labels: ClassVar = {
        "FITTING": "The training error is not 0 yet.",
        "TERMINAL": "The training error is 0, and the features have not taken their last shape.",
        "COLLAPSED": "The features of each class are at one point, and these points, the head and the decisions agree.",
    }
    boundaries: ClassVar = {
        "terminal": "the training error crossed the level of fitting on its way to 0",
        "collapsed": "the last of NC1 to NC4 crossed its level times the factor of the end on its way under its level",
    }

    def watches(self) -> Mapping[str, Watch]:
        """Return the terminal phase and the collapse."""
        return {
            "terminal": Watch(ERROR, 0.0, self.fitting, rising=False),
            "collapsed": Watch(self._worst, 1.0, self.apart, rising=False),
        }

    def _worst(self, seen: Seen) -> float:
        """Return the largest of NC1 to NC4 over its level; NaN where one is missing."""
        levels = (self.within, self.norms, self.angles, self.duality, self.disagreement)
        shares = [
            seen.now.get(name, math.nan) / level
            for name, level in zip(READINGS[1:], levels, strict=True)
        ]
        return math.nan if any(map(math.isnan, shares)) else max(shares)

    def label(self, seen: Seen) -> tuple[str, str]:
        """Return the label of the last readings."""
        if math.isnan(seen.latest(ERROR)):
            return UNDETERMINED, "the training error could not be read"
        if not seen.holds["terminal"]:
            return "FITTING", ""
        return ("COLLAPSED" if seen.holds["collapsed"] else "TERMINAL"), ""


VOCABULARY = NeuralCollapse
