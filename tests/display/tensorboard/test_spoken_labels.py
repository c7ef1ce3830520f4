"""The tab's sentences about a run without zeta*."""

from phasetrack.display.tensorboard.incremental_labels import Labels
from phasetrack.display.tensorboard.spoken_labels import spoken
from phasetrack.phases.history import History
from phasetrack.phases.thresholds import Thresholds

LOSSES = [1.0] * 5 + [0.001] * 20


def labels():
    rows = [(step, {"loss/train": loss, "loss/samples": 1e4}) for step, loss in enumerate(LOSSES)]
    return Labels(Thresholds(), None).advance(History(rows))


def test_a_run_that_lasts_without_zeta_is_not_said_to_lack_features():
    told = spoken(labels(), {"steps": len(LOSSES), "stopped": "running"})
    assert told["phase"] == "FITTED" and "signal-heavy" not in told["story"]
    assert told["story"].startswith("The run lasts; so far:")
    assert "met its target" in told["story"]


def test_the_look_back_of_a_finished_run_is_told():
    back = {"trustworthy": False, "sentence": "No span could be trusted in hindsight."}
    silent = {"finds-then-tunes": {"applies": False, "phase": "FITTED"}}
    told = spoken(labels(), {"steps": 25, "hindsight": back, "vocabularies": silent})
    assert back["sentence"] in told["story"] and "signal-heavy" not in told["story"]
