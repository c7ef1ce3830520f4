"""What tests of short runs share."""

import pytest


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing the picture at a run's end takes longer than a short run."""
    monkeypatch.setattr(
        "phasetrack.display.tensorboard.sink.TensorBoardSink._write_figure", lambda *_: None
    )
