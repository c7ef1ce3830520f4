"""Event files as TensorBoard's own writer makes them."""

import io

from hypothesis import given
from hypothesis import strategies as st
from tensorboard.summary.writer.record_writer import RecordWriter

from phasetrack.sinks._events import _framed


@given(st.binary(max_size=300))
def test_records_are_framed_as_tensorboard_does(event):
    file = io.BytesIO()
    RecordWriter(file).write(event)
    assert _framed(event) == file.getvalue()
