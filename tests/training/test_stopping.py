"""A run's end, asked of the tracker only where the losses make it possible."""

import math

import numpy as np
import pytest

from phasetrack import RunSettings, train
from phasetrack.phases.classifier import Alert, Phase, Thresholds
from phasetrack.training.stopping import End

SETTINGS = RunSettings(d=8, width=8, batch=1024)
SMALL_BATCHES = RunSettings(d=8, width=8, batch=16)
LIMITS = Thresholds(loss_target=0.05, diverged_factor=10.0)


class Tracker:
    """What an `End` sees of a tracker; counts how often it is asked."""

    thresholds = LIMITS

    def __init__(self, phase=Phase.UNDETERMINED, alerts=()):
        self._phase, self._alerts, self.asked = phase, [Alert(name, 0, {}) for name in alerts], 0

    @property
    def alerts(self):
        self.asked += 1
        return self._alerts

    @property
    def phase(self):
        self.asked += 1
        return self._phase


@pytest.mark.parametrize("loss", [0.0504, 0.049, 13.9, 14.0, math.nan, math.inf])
def test_only_a_loss_near_an_end_is_suspect(loss):
    tracker = Tracker()
    end = End(tracker, SETTINGS)
    for usual in (1.4, 1.3, 1.5):
        end.note(usual)
    assert end.reason() == "" and tracker.asked == 0
    end.note(loss)
    end.note(1.4)  # once is enough
    assert end.reason() == "" and (tracker.asked > 0) is (loss != 13.9)


@pytest.mark.parametrize("low, suspect", [(1, False), (60, False), (63, True)])
def test_a_lucky_batch_is_not_suspect(low, suspect):
    """63 batches of 16 are a thousand samples."""
    tracker = Tracker()
    end = End(tracker, SMALL_BATCHES)
    for loss in [1.4] * 100 + [0.01] * low:
        end.note(loss)
    end.reason()
    assert (tracker.asked > 0) is suspect


def test_a_small_loss_ends_no_run_of_a_number_of_steps():
    tracker = Tracker()
    end = End(tracker, RunSettings(d=8, width=8, batch=16, steps=100))
    for loss in (1.4, 0.01, 13.0):
        end.note(loss)
    assert end.reason() == "" and tracker.asked == 0


def test_where_losses_are_not_noted_the_tracker_is_asked_every_time():
    assert End(Tracker(Phase.FITTED), SETTINGS).reason() == ""
    assert End(Tracker(Phase.FITTED), SETTINGS, suspect=True).reason() == "fitted"


@pytest.mark.parametrize(
    "phase, alerts, steps, reason",
    [
        (Phase.FITTED, [], None, "fitted"),
        (Phase.FITTED, [], 100, ""),
        (Phase.SIGNAL_HEAVY, [], None, ""),
        (Phase.UNDETERMINED, ["LAZY", "DIVERGED"], None, "diverged"),
        (Phase.FITTED, ["DIVERGED"], 100, "diverged"),
        (Phase.SIGNAL_FINDING, ["LAZY"], None, ""),
    ],
)
def test_reasons(phase, alerts, steps, reason):
    settings = RunSettings(d=8, width=8, batch=16, steps=steps)
    assert End(Tracker(phase, alerts), settings, suspect=True).reason() == reason


@pytest.mark.parametrize(
    "settings, stopped",
    [
        (RunSettings(d=16, width=64, batch=128), "fitted"),
        (RunSettings(d=8, width=16, batch=32, eta=200.0, steps=200), "diverged"),
        (RunSettings(d=16, width=64, batch=128, micro_batch=50, every=3), "fitted"),
    ],
    ids=["fitted", "diverged", "in pieces"],
)
def test_a_run_ends_where_one_does_that_is_asked_at_every_look(
    settings, stopped, tmp_path, monkeypatch
):
    once = train(settings, out=tmp_path, name="once")
    monkeypatch.setattr("phasetrack.training.run.End", lambda *run, **_: End(*run, suspect=True))
    always = train(settings, out=tmp_path, name="always")
    assert once["stopped"] == stopped
    for key in ("stopped", "steps", "phase", "timeline", "boundaries", "alerts"):
        np.testing.assert_equal(once.get(key), always.get(key), err_msg=key)
    lines = [(tmp_path / name / "history.jsonl").read_bytes() for name in ("once", "always")]
    assert lines[0] == lines[1]
