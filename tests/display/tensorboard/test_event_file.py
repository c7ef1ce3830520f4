"""Event files as TensorBoard's own writer makes them."""

import io

from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from phasetrack.display.tensorboard import event_file
from phasetrack.display.tensorboard.event_file import EventFile, _framed


@given(st.binary(max_size=300))
def test_records_are_framed_as_by_tensorboard(event):
    file = io.BytesIO()
    RecordWriter(file).write(event)
    assert _framed(event) == file.getvalue()


def test_fast_run_flushes_after_some_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(event_file, "FLUSH_SECONDS", 1e9)
    monkeypatch.setattr(event_file, "FLUSH_BYTES", 1000)
    file = EventFile.new(tmp_path)
    for step in range(200):
        file.write(Event(step=step, file_version="x" * 50))
    (path,) = tmp_path.iterdir()
    written = path.stat().st_size
    file.close()
    assert path.stat().st_size - 1100 < written < path.stat().st_size
