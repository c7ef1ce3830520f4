"""HistorySink writes what its reader reads: steps ascend, also after the file was resumed."""

import pytest

from phasetrack import ExpectedError, Phase
from phasetrack.phases.history import History, Record
from phasetrack.storage.history_sink import HistorySink


def record(step):
    return Record(step, {"x": float(step)}, Phase.UNDETERMINED)


@pytest.mark.parametrize("step", [0, 2, 3])
def test_a_step_that_does_not_ascend_is_refused(step, tmp_path):
    sink = HistorySink(tmp_path / "history.jsonl")
    for written in (1, 3):
        sink.write(record(written))
    with pytest.raises(ExpectedError, match=f"Step {step} follows step 3"):
        sink.write(record(step))
    sink.write(record(4))
    assert sink.records().steps.tolist() == [1, 3, 4]
    sink.close({}, History())


def test_steps_ascend_from_the_state_that_is_resumed(tmp_path):
    sink = HistorySink(tmp_path / "history.jsonl")
    sink.write(record(1))
    state = sink.state_dict()
    sink.write(record(5))
    sink.check_state(state)
    sink.load_state_dict(state)
    with pytest.raises(ExpectedError, match="Step 1 follows step 1"):
        sink.write(record(1))
    sink.write(record(2))
    assert sink.records().steps.tolist() == [1, 2]
    sink.close({}, History())


def test_a_state_of_an_older_version_is_resumed(tmp_path):
    sink = HistorySink(tmp_path / "history.jsonl")
    sink.write(record(1))
    older = {key: value for key, value in sink.state_dict().items() if key != "last"}
    sink.check_state(older)
    sink.load_state_dict(older)
    sink.write(record(2))
    assert sink.records().steps.tolist() == [1, 2]
    sink.close({}, History())


@pytest.mark.parametrize("step", [-4, 4, 5])
def test_a_history_refuses_a_step_that_does_not_ascend(step):
    history = History([(-3, {"x": 1.0}), (5, {"x": 2.0})])
    with pytest.raises(ExpectedError, match=f"Step {step} follows step 5"):
        history.append(step, {"x": 3.0})
    assert history.steps.tolist() == [-3, 5] and history["x"].tolist() == [1.0, 2.0]
