"""Records and histories: what is new at a step in words, and columns of any length."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import Alert, Boundary, History, Phase
from phasetrack.phases.classifier import Transition
from phasetrack.phases.history import Record, Undefined


def test_news_has_one_line_per_event():
    change = Transition(7, Phase.SIGNAL_FINDING, Phase.SIGNAL_HEAVY)
    numbers = {"loss/train": 0.0123456, "kernel/drift": 0.05, "kernel/linearisation_error": 0.3}
    alert = Alert("LAZY", 7, numbers)
    record = Record(7, {}, Phase.SIGNAL_HEAVY, "", change, (Boundary("fitted", 6.54, 7),), (alert,))
    assert record.news() == [
        "step 7: SIGNAL_FINDING to SIGNAL_HEAVY",
        "step 7: boundary fitted, onset 6.5",
        "alert LAZY at step 7: the data were fitted without signal-heavy features; the loss met its target "
        "(0.0123) while the kernel drift was 0.05 and the linearisation error 0.3: the network "
        "stayed close to its linearisation.",
    ]
    assert Record(8, {}, Phase.SIGNAL_HEAVY).news() == []


def test_an_empty_history():
    history = History()
    assert history.steps.tolist() == [] and history.steps.dtype == np.int64
    assert len(history) == 0 and list(history.rows()) == []
    history.append(0, {})
    assert history.steps.tolist() == [0] and list(history.rows()) == [(0, {})]


def test_columns_are_copies():
    history = History([(0, {"a": 1.0})])
    history["a"][0], history.steps[0] = 9.0, 9
    assert history["a"].tolist() == [1.0] and history.steps.tolist() == [0]
    history.append(1, {"a": 2.0})  # a view would have locked the buffer
    assert history["a"].dtype == np.float64


def test_history_is_a_mapping():
    history = History([(0, {"a": 1.0})])
    assert "a" in history and "b" not in history and history.get("b") is None
    assert dict(history).keys() == {"a"}


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda u: pickle.loads(pickle.dumps(u))], ids=["deepcopy", "pickle"]
)
def test_undefined_keeps_its_reason_in_copies(copied):
    reading = copied(Undefined("no neuron is heavy"))
    assert math.isnan(reading) and reading.reason == "no neuron is heavy"


ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), st.floats()), max_size=12)


@settings(deadline=None, derandomize=True)
@given(ROWS)
def test_columns_are_the_rows_with_nan_in_the_gaps(rows):
    history = History(enumerate(rows))
    for name in history:
        expected = [row.get(name, math.nan) for row in rows]
        np.testing.assert_array_equal(history[name], expected)
    for (step, read), (number, row) in zip(history.rows(), enumerate(rows), strict=True):
        assert step == number
        given = {k: v for k, v in read.items() if not math.isnan(v)}
        assert given == {k: v for k, v in row.items() if not math.isnan(v)}


@settings(deadline=None, derandomize=True)
@given(ROWS, ROWS)
def test_extend_equals_repeated_append(before, after):
    """Columns of the second lot hold NaN where a row lacks a metric, as a table must."""
    names = sorted({name for row in after for name in row})
    one = History(enumerate([*before, *({n: r.get(n, math.nan) for n in names} for r in after)]))
    many = History(enumerate(before))
    steps = np.arange(len(before), len(before) + len(after))
    table = {name: np.array([row.get(name, math.nan) for row in after]) for name in names}
    many.extend(steps, table)
    assert many.steps.tolist() == one.steps.tolist() and many.count == len(before) + len(after)
    assert set(many) == set(one)
    for name in one:
        np.testing.assert_array_equal(many[name], one[name])


@pytest.mark.parametrize("start", [0, 1, 1023, 1024, 2499, 2500, 9999])
def test_rows_begin_at_the_given_record(start):
    history = History()
    history.extend(np.arange(0, 5000, 2), {"a": np.arange(2500.0)})
    expected = [(2 * i, {"a": float(i)}) for i in range(start, 2500)]
    assert list(history.rows(start)) == expected
