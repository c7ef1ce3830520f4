"""A history is read as it grows, each byte once, and damage is named."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.tensorboard_plugin import live_history
from phasetrack.tensorboard_plugin.live_history import LiveHistory


def line(step, **readings):
    return json.dumps({"step": step, **readings}) + "\n"


def test_what_is_added_is_read_and_nothing_twice(tmp_path):
    path = tmp_path / "history.jsonl"
    live = LiveHistory(path)
    assert not live.refresh() and "No such file" in live.problem
    path.write_text(line(0, a=1.0) + line(1, a=2.0))
    live = LiveHistory(path)
    assert live.refresh() and not live.refresh()
    with path.open("a") as file:
        file.write(line(2, a=3.0, b=4.0) + '{"step": 3, "a"')
    assert live.refresh()
    assert live.history.steps.tolist() == [0, 1, 2] and not live.problem
    with path.open("a") as file:
        file.write(": 5.0}\n")
    assert live.refresh()
    assert live.history["a"].tolist() == [1.0, 2.0, 3.0, 5.0]
    np.testing.assert_array_equal(live.history["b"], [np.nan, np.nan, 4.0, np.nan])


@given(st.lists(st.integers(1, 60), max_size=12), st.integers(1, 30))
@settings(max_examples=40)
def test_wherever_the_writer_was_cut_off_the_same_is_read(tmp_path_factory, cuts, count):
    content = "".join(line(3 * step, a=step / 7) for step in range(count)).encode()
    path = tmp_path_factory.mktemp("live") / "history.jsonl"
    path.write_bytes(b"")
    live, position = LiveHistory(path), 0
    for cut in [*cuts, len(content)]:
        with path.open("ab") as file:
            file.write(content[position : position + cut])
        position = min(position + cut, len(content))
        live.refresh()
        assert not live.problem
        assert len(live.history.steps) == content[:position].count(b"\n")
    assert live.history["a"].tolist() == [step / 7 for step in range(count)]


@pytest.mark.parametrize("how", ["shorter", "another file"])
def test_a_replaced_file_is_read_anew(tmp_path, how):
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=1.0) + line(1, a=2.0))
    live = LiveHistory(path)
    live.refresh()
    if how == "another file":
        other = tmp_path / "other"
        other.write_text(line(0, a=7.0) + line(1, a=8.0) + line(2, a=9.0))
        other.replace(path)
    else:
        path.write_text(line(0, a=7.0))
    live.refresh()
    assert live.history["a"].tolist() == ([7.0, 8.0, 9.0] if how == "another file" else [7.0])


DAMAGED = {
    "no JSON": "{\n",
    "no object": "[1]\n",
    "no step": '{"a": 1}\n',
    "text": '{"step": 2, "a": "high"}\n',
    "step again": line(1, a=3.0),
    "step infinite": '{"step": Infinity}\n',
    "step huge": '{"step": ' + "9" * 30 + "}\n",
    "deep": "[" * 100_000 + "\n",
    "long integer": '{"step": 2, "a": ' + "9" * 5000 + "}\n",
    "bytes": b"\xff\xfe\n",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_line_is_named_and_what_is_before_it_stays(tmp_path, text):
    path = tmp_path / "history.jsonl"
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes((line(0, a=1.0) + line(1, a=2.0)).encode() + content + line(5, a=1.0).encode())
    live = LiveHistory(path)
    live.refresh()
    assert live.history.steps.tolist() == [0, 1]
    assert live.problem.startswith("history.jsonl, line 3: ") and len(live.problem) <= 300
    assert not live.refresh()


def test_an_endless_line_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(live_history, "LONGEST_LINE", 1000)
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=1.0) + "x" * 5000)
    live = LiveHistory(path)
    live.refresh()
    assert live.history.steps.tolist() == [0] and "longer than 1000" in live.problem
