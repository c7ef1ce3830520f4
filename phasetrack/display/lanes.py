"""The labels of a run over its steps, one lane per vocabulary: for terminal, figures and the Phases tab."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from phasetrack.display.style import LANE_COLOURS
from phasetrack.phases.classifier import Phase
from phasetrack.phases.history import History
from phasetrack.phases.labels import PAPERS, others_told
from phasetrack.phases.timeline import merged, timeline
from phasetrack.phases.vocabulary import UNDETERMINED

HINDSIGHT = "in hindsight"
# Number of each of the paper's labels, which have their colours wherever they are shown.
NUMBERS = {phase.name: phase.value for phase in Phase}


class Lane(NamedTuple):
    """One vocabulary's labels: its name and the stretches of equal labels."""

    name: str
    stretches: Sequence[Mapping[str, Any]]

    @property
    def places(self) -> dict[str, int]:
        """The place of each label among marks and colours."""
        return places([self])


def lanes(summary: Mapping[str, Any]) -> list[Lane]:
    """Return the lanes of a run: the paper's, those of the vocabularies that apply, and the paper's in hindsight."""
    found = [Lane(PAPERS, summary["timeline"])] if summary.get("timeline") else []
    for name, told in others_told(summary).items():
        if told.get("timeline"):
            found.append(Lane(name, told["timeline"]))
    back = summary.get("hindsight", {})
    if back.get("trustworthy") and back.get("timeline"):
        found.append(Lane(HINDSIGHT, back["timeline"]))
    return found


def labels_of(history: History, summary: Mapping[str, Any]) -> list[Lane]:
    """Return the lanes of a run; of a summary without labels, the paper's lane of the history."""
    return lanes(summary) or [Lane(PAPERS, timeline(history))]


def places(same: Iterable[Lane]) -> dict[str, int]:
    """Return the place of each label of one vocabulary among marks and colours, over several runs.

    >>> places([Lane("lazy-rich", [{"phase": "LAZY"}]), Lane("lazy-rich", [{"phase": "RICH"}])])
    {'UNDETERMINED': 0, 'LAZY': 1, 'RICH': 2}
    """
    every = list(same)
    if every and every[0].name in (PAPERS, HINDSIGHT):
        return NUMBERS
    labels = dict.fromkeys(stretch["phase"] for lane in every for stretch in lane.stretches)
    known = [label for label in labels if label != UNDETERMINED]
    return {UNDETERMINED: 0, **{label: place for place, label in enumerate(known, start=1)}}


def lane_colours(every: Iterable[Lane]) -> dict[str, dict[str, str]]:
    """Return the colour of each label by vocabulary, the same for all runs of a figure."""
    grouped: dict[str, list[Lane]] = {}
    for lane in every:
        grouped.setdefault(lane.name, []).append(lane)
    return {
        name: {
            label: LANE_COLOURS[place % len(LANE_COLOURS)] for label, place in places(same).items()
        }
        for name, same in grouped.items()
    }


def described(every: Iterable[Lane]) -> list[dict[str, Any]]:
    """Return the lanes of one run as JSON values, each with the words and the colour of its labels."""
    found = list(every)
    colours = lane_colours(found)
    return [
        {
            "name": lane.name,
            "stretches": [
                {**s, "words": spoken(s["phase"]), "colour": colours[lane.name][s["phase"]]}
                for s in merged(lane.stretches)
            ],
        }
        for lane in found
    ]


def spoken(label: str) -> str:
    """Return a label for people.

    >>> spoken("SIGNAL_HEAVY")
    'signal-heavy'
    """
    return label.lower().replace("_", "-")
