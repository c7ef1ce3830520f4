"""A growing history is read once per byte, and errors name the damaged line."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phasetrack.storage import history_reader as history_file
from phasetrack.storage.history_reader import HistoryFile


def line(step, **readings):
    return json.dumps({"step": step, **readings}) + "\n"


def test_refresh_reads_only_added_lines(tmp_path):
    path = tmp_path / "history.jsonl"
    live = HistoryFile(path)
    live.refresh()
    assert "No such file" in live.problem and not live.looked
    path.write_text(line(0, a=1.0) + line(1, a=2.0))
    for _ in range(2):
        live.refresh()
        assert live.history.count == 2 and live.looked and not live.problem
    with path.open("a") as file:
        file.write(line(2, a=3.0, b=4.0) + '{"step": 3, "a"')
    live.refresh()
    assert live.history.steps.tolist() == [0, 1, 2] and not live.problem
    with path.open("a") as file:
        file.write(": 5.0}\n")
    live.refresh()
    assert live.history["a"].tolist() == [1.0, 2.0, 3.0, 5.0]
    np.testing.assert_array_equal(live.history["b"], [np.nan, np.nan, 4.0, np.nan])


@pytest.mark.parametrize("times", [1, 50], ids=["line by line", "decoded together"])
def test_the_last_of_equal_steps_counts(tmp_path, times):
    path = tmp_path / "history.jsonl"
    for first in range(0, 4 * times, 4):
        with path.open("a") as file:
            file.write(line(first, a=0.0, b=7.0) + line(first, a=1.0) + line(first + 2, a=2.0))
    file = HistoryFile(path)
    file.refresh()
    assert not file.problem
    assert file.history.steps.tolist() == list(range(0, 4 * times, 2))
    assert file.history["a"].tolist() == [1.0, 2.0] * times
    assert np.isnan(file.history["b"]).all()


def test_a_step_that_comes_again_later_is_another_generation(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=0.0) + line(1, a=1.0))
    file = HistoryFile(path)
    file.refresh()
    before = file.generation
    with path.open("a") as more:
        more.write(line(1, a=5.0) + line(2, a=6.0))
    file.refresh()
    assert file.generation != before
    assert file.history["a"].tolist() == [0.0, 5.0, 6.0]


@given(st.lists(st.integers(1, 60), max_size=12), st.integers(1, 30))
@settings(max_examples=40)
def test_history_is_the_same_however_its_writes_are_cut(tmp_path_factory, cuts, count):
    content = "".join(line(3 * step, a=step / 7) for step in range(count)).encode()
    path = tmp_path_factory.mktemp("live") / "history.jsonl"
    path.write_bytes(b"")
    live, position = HistoryFile(path), 0
    for cut in [*cuts, len(content)]:
        with path.open("ab") as file:
            file.write(content[position : position + cut])
        position = min(position + cut, len(content))
        live.refresh()
        assert not live.problem
        assert len(live.history.steps) == content[:position].count(b"\n")
    assert live.history["a"].tolist() == [step / 7 for step in range(count)]


@pytest.mark.parametrize("how", ["shorter", "another file"])
def test_replaced_file_is_read_from_its_beginning(tmp_path, how):
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=1.0) + line(1, a=2.0))
    live = HistoryFile(path)
    live.refresh()
    if how == "another file":
        other = tmp_path / "other"
        other.write_text(line(0, a=7.0) + line(1, a=8.0) + line(2, a=9.0))
        other.replace(path)
    else:
        path.write_text(line(0, a=7.0))
    live.refresh()
    assert live.history["a"].tolist() == ([7.0, 8.0, 9.0] if how == "another file" else [7.0])


def test_rewritten_file_is_read_from_its_beginning_even_if_longer(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text("".join(line(step, a=1.0) for step in range(50)))
    live = HistoryFile(path)
    live.refresh()
    before, inode = live.generation, path.stat().st_ino
    path.write_text("".join(line(2 * step, b=2.0 + step) for step in range(500)))
    assert path.stat().st_ino == inode
    live.refresh()
    assert not live.problem and live.generation != before
    assert list(live.history) == ["b"] and live.history["b"].tolist() == [
        2.0 + step for step in range(500)
    ]


def test_generation_changes_with_each_new_beginning(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=1.0))
    live, other = HistoryFile(path), HistoryFile(path)
    live.refresh()
    first = live.generation
    with path.open("a") as file:
        file.write(line(1, a=1.0))
    live.refresh()
    assert live.generation == first != other.generation and live.history.count == 2
    path.write_text(line(0, a=1.0))
    live.refresh()
    assert live.generation not in (first, other.generation)
    assert first < 2**53  # exact in a browser


def test_file_that_returns_is_continued(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=1.0))
    live = HistoryFile(path)
    live.refresh()
    generation = live.generation
    path.rename(tmp_path / "away")
    live.refresh()
    assert live.problem and live.history.count == 1
    (tmp_path / "away").rename(path)
    with path.open("a") as file:
        file.write(line(1, a=2.0))
    live.refresh()
    assert not live.problem and live.history["a"].tolist() == [1.0, 2.0]
    assert live.generation == generation


def test_repaired_line_is_read(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=1.0) + "x\n")
    live = HistoryFile(path)
    live.refresh()
    assert live.damage.startswith("line 2: ")
    path.write_text(line(0, a=1.0) + line(1, a=2.0))
    live.refresh()
    assert not live.damage and live.history["a"].tolist() == [1.0, 2.0]


DAMAGED = {
    "no JSON": "{\n",
    "no object": "[1]\n",
    "no step": '{"a": 1}\n',
    "text": '{"step": 2, "a": "high"}\n',
    "step of before": line(0, a=3.0),
    "step infinite": '{"step": Infinity}\n',
    "step huge": '{"step": ' + "9" * 30 + "}\n",
    "deep": "[" * 100_000 + "\n",
    "long integer": '{"step": 2, "a": ' + "9" * 5000 + "}\n",
    "bytes": b"\xff\xfe\n",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_lines_before_a_damaged_one_are_kept(tmp_path, text):
    path = tmp_path / "history.jsonl"
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes((line(0, a=1.0) + line(1, a=2.0)).encode() + content + line(5, a=1.0).encode())
    live = HistoryFile(path)
    live.refresh()
    assert live.history.steps.tolist() == [0, 1]
    assert live.problem.startswith("history.jsonl, line 3: ") and len(live.problem) <= 300
    live.refresh()
    assert live.history.count == 2


def test_overlong_line_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(history_file, "LONGEST_LINE", 1000)
    path = tmp_path / "history.jsonl"
    path.write_text(line(0, a=1.0) + "x" * 5000)
    live = HistoryFile(path)
    live.refresh()
    assert live.history.steps.tolist() == [0] and "longer than 1000" in live.problem


VALUES = st.floats() | st.integers(-(10**40), 10**40)
NAMES = st.sampled_from(["a", "b/c", "µ", "NaN", "x: NaN", "null", "d1"]) | st.text(max_size=5)
ODD_LINES = st.sampled_from(
    [
        "null",
        "",
        "{}",
        '{"step": 5.0, "a": 1}',
        '{"step": 7, "a": null}',
        '{"step": 7, "a": nan}',
        '{"step": 7, "a": "1.5"}',
        '{"step": 7, "a": true}',
        '{"step": 7, "a": 1e999}',
        '{"step": 7, "a": 01}',
        '{"step":7,"a":NaN,"b/c":-Infinity}',
        '{"step": 7, "a": 1, "a": 2}',
        '{"a": 1, "step": 7}',
        '{"step": 7, "a": [1]}',
        '{"step": 7, "a": ' + "9" * 5000 + "}",
        '{"step": 9007199254740993, "a": 1}',
        '{"step": 1000000000000000000000000000000, "a": 1}',
        '{"step": 7, "a": 1} {}',
    ]
)


def naive(content):
    """Read rows up to the first damaged line by Python's json alone; return its number too."""
    rows = []
    for number, text in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(text)
            step = int(row.pop("step"))
            if rows and step < rows[-1][0]:
                raise ValueError
            np.int64(step)
            readings = {name: float(value) for name, value in row.items()}
            if rows and step == rows[-1][0]:
                readings = dict.fromkeys(rows.pop()[1], math.nan) | readings
            rows.append((step, readings))
        except Exception:
            return rows, number
    return rows, None


@pytest.fixture
def eager(monkeypatch):
    """Use the decoder for every chunk."""
    monkeypatch.setattr(history_file, "LEAST_LINES", 1)
    monkeypatch.setattr(history_file, "CHUNK", 64)


@given(
    st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=30),
    st.lists(st.tuples(st.integers(0, 40), ODD_LINES), max_size=2),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_decoder_reads_the_same_values_as_json(tmp_path_factory, eager, rows, odd):
    lines = [
        json.dumps({"step": n} | {k: v for k, v in r.items() if k != "step"})
        for n, r in enumerate(rows)
    ]
    for place, text in odd:
        lines.insert(place, text)
    content = "".join(text + "\n" for text in lines).encode()
    path = tmp_path_factory.mktemp("blocks") / "history.jsonl"
    path.write_bytes(content)
    file = HistoryFile(path)
    file.refresh()
    expected, damaged = naive(content)
    assert file.history.steps.tolist() == [step for step, _ in expected]
    # metrics of a damaged line do not count
    assert set(file.history) == {name for _, row in expected for name in row}
    for name in file.history:
        column = [row.get(name, math.nan) for _, row in expected]
        np.testing.assert_array_equal(file.history[name], column)
    assert file.damage.startswith(f"line {damaged}: ") if damaged else not file.damage


def test_decoder_reads_all_but_the_first_lines_of_a_long_history(tmp_path, monkeypatch):
    """Python's json reads the first chunk, and no other one."""
    closely = []
    take = HistoryFile._add_line
    monkeypatch.setattr(HistoryFile, "_add_line", lambda f, t: (closely.append(t), take(f, t)))
    monkeypatch.setattr(history_file, "CHUNK", 10_000)
    path = tmp_path / "history.jsonl"
    values = np.random.default_rng(0).standard_normal((4000, 3)) * 10.0 ** np.arange(3)
    values[::3, 1], values[::5, 2] = np.nan, -np.inf
    with path.open("w") as out:
        for step, row in enumerate(values.tolist()):
            out.write(line(step, **dict(zip("abc", row, strict=True))))
    file = HistoryFile(path)
    file.refresh()
    np.testing.assert_array_equal(np.stack([file.history[n] for n in "abc"], axis=1), values)
    assert file.history.steps.tolist() == list(range(4000))
    assert 0 < len(closely) < 200 and not file.damage
