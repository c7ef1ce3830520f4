"""Labels that grow with a history equal the labels of the whole; recorded labels are validated."""

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError
from phasetrack.display.tensorboard.incremental_labels import (
    MOST_MARKS,
    Labels,
    bounded,
    recorded_labels,
    without_infinity,
)
from phasetrack.phases.classifier import METRICS, PhaseClassifier, Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.summary import summarise_again
from phasetrack.phases.timeline import MOST_STRETCHES
from phasetrack.storage.json_schema import LONGEST_TEXT

VALUE = st.floats(0.01, 30)


@given(st.lists(st.tuples(VALUE, VALUE, VALUE), min_size=1, max_size=60), st.data())
@settings(max_examples=60)
def test_labels_in_pieces_equal_labels_at_once(values, data):
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


def test_recorded_labels_are_returned():
    found = recorded_labels(SUMMARY | {"other": 1})
    (boundary,) = found.pop("boundaries")
    assert found == {name: value for name, value in SUMMARY.items() if name != "boundaries"}
    # a summary of version 0.1.0 has no interval
    assert math.isnan(boundary.pop("low")) and math.isnan(boundary.pop("high"))
    assert boundary.pop("left") is None and boundary == SUMMARY["boundaries"][0]
    late = copy.deepcopy(SUMMARY)
    late["boundaries"][0]["onset"] = float("nan")
    assert math.isnan(recorded_labels(late)["boundaries"][0]["onset"])


def test_nested_evidence_is_left_out_and_texts_are_cut():
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
def test_foreign_summaries_are_refused(summary):
    with pytest.raises(ExpectedError, match=r"summary\.json"):
        recorded_labels(summary)


def test_infinity_becomes_none():
    given = {"a": [1.0, float("inf"), (float("nan"), "x")], "b": None, "c": True}
    assert without_infinity(given) == {"a": [1.0, None, [None, "x"]], "b": None, "c": True}


def timeline(lengths):
    phases = itertools.cycle(["SIGNAL_FINDING", "SIGNAL_HEAVY", "UNDETERMINED"])
    ends = np.cumsum(lengths).tolist()
    return [
        {"phase": phase, "start": end - length, "end": end - 1}
        for phase, length, end in zip(phases, lengths, ends, strict=False)
    ]


@given(st.lists(st.sampled_from([1, 1, 1, 2, 5, 400]), min_size=1, max_size=4000))
@settings(max_examples=40)
def test_bounded_labels_cover_the_same_steps(lengths):
    stretches = timeline(lengths)
    before = copy.deepcopy(stretches)
    found = bounded({"timeline": stretches, "boundaries": [], "alerts": []})
    kept = found["timeline"]
    assert stretches == before
    assert found["omitted"]["stretches"] == len(stretches) - len(kept)
    if len(stretches) <= MOST_STRETCHES:
        assert kept == stretches
        return
    assert len(kept) <= 3 * MOST_STRETCHES + 2
    assert kept[0]["start"] == stretches[0]["start"] and kept[-1]["end"] == stretches[-1]["end"]
    column = stretches[-1]["end"] / MOST_STRETCHES
    for sooner, later in itertools.pairwise(kept):
        assert later["start"] == sooner["end"] + 1 and later["phase"] != sooner["phase"]
    # a stretch longer than a column keeps its label throughout
    for stretch in stretches:
        if stretch["end"] - stretch["start"] >= column:
            assert any(
                k["phase"] == stretch["phase"]
                and k["start"] <= stretch["start"]
                and k["end"] >= stretch["end"]
                for k in kept
            )


def test_many_boundaries_are_thinned_and_each_name_keeps_its_first():
    marks = [{"name": "linear_exit", "onset": float(n), "detected": n} for n in range(5000)]
    few = {"timeline": [], "boundaries": marks[:MOST_MARKS], "alerts": []}
    assert bounded(few)["boundaries"] == marks[:MOST_MARKS]
    assert bounded(few)["omitted"] == {"stretches": 0, "boundaries": 0, "alerts": 0}
    marks[3333]["name"] = "fitted"
    kept = bounded(few | {"boundaries": marks})["boundaries"]
    assert len(kept) in (MOST_MARKS, MOST_MARKS + 1) and marks[3333] in kept
    gaps = np.diff([mark["detected"] for mark in kept])
    assert gaps.max() <= 2 * 5000 / MOST_MARKS and (gaps > 0).all()


def test_classifier_reads_exactly_the_declared_metrics():
    asked = set()

    class Asked(dict):
        def get(self, name, default=None):
            asked.add(name)
            return super().get(name, default)

        def __contains__(self, name):
            asked.add(name)
            return super().__contains__(name)

        def __getitem__(self, name):
            asked.add(name)
            return super().__getitem__(name)

    row = dict.fromkeys(METRICS, 1.0) | {"growth/perp_factor": 3.0, "heaviness/chance": 0.1}
    row |= {"data/offset": 0.0, "heaviness/signal_share": 0.5}
    for zeta, told, held_out in itertools.product((30.0, 0.1), (0.0, 1.0), (True, False)):
        given = {name: row[name] for name in row if held_out or not name.startswith("held_out/")}
        classifier = PhaseClassifier(Thresholds(patience=1), escape_steps=1.0)
        other = {"heaviness/zeta_star": zeta, "data/told": told, "data/told_error": 0.0}
        for step in range(20):
            loss = {name: 1.0 if step < 10 else 0.3 for name in row if name.startswith("loss/")}
            classifier.update(step, Asked(given | other | loss))
    assert asked == METRICS
