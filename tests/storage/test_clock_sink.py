"""Times beside the history: sparse and monotonic, and readable from a damaged file."""

import json

from phasetrack.phases.classifier import Phase
from phasetrack.phases.history import History, Record
from phasetrack.storage import clock_sink as clock
from phasetrack.storage.clock_sink import ClockSink, read_clock


def written(path, monkeypatch, times):
    sink, now = ClockSink(path), iter(times)
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(now))
    for step, _ in enumerate(times):
        sink.write(Record(step, {}, Phase.SIGNAL_FINDING))
    sink.close({}, History())
    return read_clock(path)


def test_first_and_last_record_and_one_per_second_are_written(tmp_path, monkeypatch):
    times = [100.0, 100.5, 101.0, 101.2, 101.9, 102.5, 102.75]
    pairs = written(tmp_path / "clock.jsonl", monkeypatch, times)
    assert pairs == [[0, 0.0], [2, 1.0], [5, 2.5], [6, 2.75]]


def test_run_of_one_step_has_one_line(tmp_path, monkeypatch):
    assert written(tmp_path / "clock.jsonl", monkeypatch, [7.0]) == [[0, 0.0]]


def test_run_without_steps_has_no_line(tmp_path, monkeypatch):
    assert written(tmp_path / "clock.jsonl", monkeypatch, []) == []


def test_damaged_and_disordered_lines_are_left_out(tmp_path):
    path = tmp_path / "clock.jsonl"
    good = [{"step": 0, "seconds": 0.0}, {"step": 10, "seconds": 2.0}, {"step": 20, "seconds": 3.0}]
    back = [{"step": 5, "seconds": 2.5}, {"step": 15, "seconds": 1.0}]
    odd = [
        '{"step": 1, "seconds": NaN}',
        '{"step": 5, "seconds": 1e999}',
        '{"step": 1e999, "seconds": 1}',
    ]
    lines = [json.dumps(good[0]), "{", "[1]", *odd, json.dumps(good[1]), *map(json.dumps, back)]
    path.write_text("\n".join([*lines, json.dumps(good[2]), '{"step": 30, "sec']))
    assert read_clock(path) == [[0, 0.0], [10, 2.0], [20, 3.0]]
    assert read_clock(tmp_path / "none") == []
