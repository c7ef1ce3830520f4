"""Stretches of equal labels, found at once in a history and step by step."""

import pytest

from phasetrack.phases.classifier import Phase
from phasetrack.phases.history import History
from phasetrack.phases.timeline import extend_timeline, timeline


@pytest.mark.parametrize(
    "ids, expected",
    [
        ([], []),
        ([2], [("SIGNAL_HEAVY", 0, 0)]),
        ([1, 1, 3], [("SIGNAL_FINDING", 0, 5), ("FITTED", 10, 10)]),
        ([0, 1, 0], [("UNDETERMINED", 0, 0), ("SIGNAL_FINDING", 5, 5), ("UNDETERMINED", 10, 10)]),
    ],
    ids=["empty", "one step", "two labels", "returning label"],
)
def test_stretches_are_the_same_at_once_and_step_by_step(ids, expected):
    rows = [(5 * place, {"phase/id": float(number)}) for place, number in enumerate(ids)]
    stretches = timeline(History(rows))
    assert [(s["phase"], s["start"], s["end"]) for s in stretches] == expected
    grown = []
    for step, readings in rows:
        extend_timeline(grown, step, Phase(readings["phase/id"]).name)
    assert grown == stretches


def test_unlabelled_history_has_no_stretches():
    assert timeline(History([(0, {"loss/train": 1.0})])) == []
