"""Saved neurons: few files evenly spaced over a run of any length, read without unpickling."""

import io
import zipfile

import numpy as np
import pytest

from phasetrack import ExpectedError
from phasetrack.phases.classifier import Phase
from phasetrack.phases.history import Record
from phasetrack.storage import neuron_sink as neurons
from phasetrack.storage.neuron_sink import NeuronSink, read_neurons, saved_neurons


def record(step, width=5):
    values = {"neurons/signal": 1.0, "neurons/perp": 2.0, "neurons/second_layer": -3.0}
    distributions = {name: np.full(width, factor * step) for name, factor in values.items()}
    return Record(step, {}, Phase.SIGNAL_FINDING, distributions=distributions)


@pytest.mark.parametrize("count", [1, 99, 100, 101, 1000, 6401])
def test_saved_steps_are_few_and_evenly_spaced(tmp_path, count):
    sink = NeuronSink(tmp_path)
    for step in range(count):
        sink.write(record(3 * step))
    steps = saved_neurons(tmp_path)
    assert steps[0] == 0 and len(steps) < neurons.MOST_SAVED
    assert len(steps) >= min(count, neurons.MOST_SAVED // 2)
    assert len(set(np.diff(steps).tolist())) <= 1
    assert 3 * (count - 1) - steps[-1] < (steps[1] - steps[0] if len(steps) > 1 else 1)


def test_saved_values_are_read_back(tmp_path):
    NeuronSink(tmp_path).write(record(7))
    assert read_neurons(tmp_path, 7) == {
        "signal": [7.0] * 5,
        "perp": [14.0] * 5,
        "second_layer": [-21.0] * 5,
    }


def test_the_cluster_of_a_neuron_is_saved_where_there_are_clusters(tmp_path):
    known = record(7)
    served = {**known.distributions, "neurons/cluster": np.array([0.0, 3, -1, 1, 0])}
    NeuronSink(tmp_path).write(Record(7, {}, known.phase, distributions=served))
    assert read_neurons(tmp_path, 7)["cluster"] == [0.0, 3.0, -1.0, 1.0, 0.0]


def test_record_without_neurons_saves_no_file(tmp_path):
    NeuronSink(tmp_path).write(Record(0, {}, Phase.SIGNAL_FINDING))
    assert saved_neurons(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_unsaved_steps_and_links_are_refused(tmp_path):
    NeuronSink(tmp_path / ".").write(record(7))
    with pytest.raises(ExpectedError, match="step: 8 is not a saved step"):
        read_neurons(tmp_path, 8)
    link = tmp_path / "neurons" / "step-000000009.npz"
    link.symlink_to(tmp_path / "neurons" / "step-000000007.npz")
    with pytest.raises(ExpectedError, match="step: 9 is not a saved step"):
        read_neurons(tmp_path, 9)


def test_file_with_too_many_neurons_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(neurons, "MOST_NEURONS", 10)
    NeuronSink(tmp_path).write(record(7, width=11))
    with pytest.raises(ExpectedError, match="11 neurons, more than 10"):
        read_neurons(tmp_path, 7)


def pickled():
    file = io.BytesIO()
    columns = {name: np.array([{"a": 1}], dtype=object) for name in neurons.COLUMNS}
    np.savez(file, **columns)
    return file.getvalue()


def bomb():
    """Return a small file that unpacks beyond the limit."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in neurons.COLUMNS:
            archive.writestr(f"{name}.npy", bytes(200_000))
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"no zip", pickled(), bomb(), b"PK\x03\x04"], ids=lambda c: str(len(c))
)
def test_damaged_files_are_named(tmp_path, monkeypatch, content):
    monkeypatch.setattr(neurons, "LARGEST_FILE", 100_000)
    NeuronSink(tmp_path).write(record(7))
    (tmp_path / "neurons" / "step-000000007.npz").write_bytes(content)
    with pytest.raises(ExpectedError, match=r"step-000000007\.npz' is damaged"):
        read_neurons(tmp_path, 7)
