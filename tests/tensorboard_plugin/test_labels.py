"""Labels that grow with a history are those of the whole of it; recorded ones are checked."""

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError
from phasetrack.phases import Thresholds
from phasetrack.records import History
from phasetrack.summary import LONGEST_TEXT, summarise_again
from phasetrack.tensorboard_plugin.labels import Labels, recorded_labels, without_infinity

VALUE = st.floats(0.01, 30)


@given(st.lists(st.tuples(VALUE, VALUE, VALUE), min_size=1, max_size=60), st.data())
@settings(max_examples=60)
def test_piece_by_piece_is_as_all_at_once(values, data):
    rows = [
        (2 * i, {"heaviness/zeta_star": z, "linearization/slope_drift": d / 30, "loss/train": loss})
        for i, (z, d, loss) in enumerate(values)
    ]
    thresholds = Thresholds(zeta_enter=data.draw(st.floats(0.1, 1)), zeta_exit=1.5)
    labels, history, found = Labels(thresholds, 5.0), History(), None
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    for low, high in itertools.pairwise([0, *cuts, len(rows)]):
        for step, readings in rows[low:high]:
            history.append(step, readings)
        found = labels.advance(history)
    whole = summarise_again(history, thresholds, escape_steps=5.0)
    for key in ("phase", "reason", "timeline", "boundaries", "alerts", "thresholds"):
        np.testing.assert_equal(found[key], whole[key])


SUMMARY = {
    "phase": "SIGNAL_HEAVY",
    "reason": "",
    "timeline": [{"phase": "SIGNAL_FINDING", "start": 0, "end": 4}],
    "boundaries": [{"name": "signal_heavy", "onset": 3.5, "detected": 5}],
    "alerts": [{"name": "LAZY", "step": 5, "evidence": {"loss/train": 0.1}}],
}


def test_recorded_labels_come_back():
    assert recorded_labels(SUMMARY | {"other": 1}) == SUMMARY
    late = copy.deepcopy(SUMMARY)
    late["boundaries"][0]["onset"] = float("nan")
    assert math.isnan(recorded_labels(late)["boundaries"][0]["onset"])


def test_evidence_is_flat_and_texts_end():
    nested = {"a": [1], "b": {"c": {}}, "d": None, "e": True, "f": 10**400, "g": "x" * 5000}
    given = damaged("alerts", 0, "evidence", value={"loss/train": 0.5, "steps": 3} | nested)
    (alert,) = recorded_labels(given)["alerts"]
    assert alert["evidence"] == {"loss/train": 0.5, "steps": 3, "g": "x" * LONGEST_TEXT}


def damaged(*path, value):
    summary = copy.deepcopy(SUMMARY)
    place = summary
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return summary


@pytest.mark.parametrize(
    "summary",
    [
        {},
        damaged("phase", value="<b>"),
        damaged("phase", value=3),
        damaged("timeline", value="long"),
        damaged("timeline", value=[1]),
        damaged("timeline", 0, "start", value="0"),
        damaged("timeline", 0, "phase", value=[]),
        damaged("boundaries", value={}),
        damaged("boundaries", 0, "detected", value=None),
        damaged("boundaries", 0, "onset", value="<img>"),
        damaged("boundaries", 0, "onset", value=10**400),
        damaged("boundaries", 0, "onset", value=None),
        damaged("alerts", 0, "evidence", value=[1]),
        damaged("alerts", 0, "name", value=None),
        damaged("reason", value=1),
    ],
)
def test_summaries_of_others_are_refused(summary):
    with pytest.raises(ExpectedError, match=r"summary\.json"):
        recorded_labels(summary)


def test_without_infinity():
    given = {"a": [1.0, float("inf"), (float("nan"), "x")], "b": None, "c": True}
    assert without_infinity(given) == {"a": [1.0, None, [None, "x"]], "b": None, "c": True}
