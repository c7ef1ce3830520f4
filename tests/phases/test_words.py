"""Alerts and verdicts are sentences, and every alert has its words."""

import math

import pytest

from phasetrack.phases.alerts import CHECKS
from phasetrack.phases.labels import Alert
from phasetrack.phases.verdict import GRAVEST, story
from phasetrack.phases.words import ALERTS, alert_advice, alert_sentence, ended


def boundary(name, onset):
    return {"name": name, "onset": onset, "detected": math.ceil(onset)}


HEALTHY = {
    "phase": "FITTED",
    "steps": 144,
    "boundaries": [boundary("signal_heavy", 43.2), boundary("fitted", 140.9)],
    "loss_at": {"first": 1.39, "signal_heavy": 1.37, "fitted": 0.05},
    "thresholds": {"loss_target": 0.05},
    "forecast": {
        "signal_heavy_onset": {"value": 43.0, "low": 42.0, "high": 44.0},
        "fitted": {"value": 140.0, "low": 139.0, "high": 141.0},
    },
    "final": {"loss/train": 0.05, "heaviness/zeta_star": 0.3},
}


def test_every_alert_has_words():
    assert set(CHECKS) <= set(ALERTS) and set(ALERTS) == set(GRAVEST)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_meaning_numbers_causes_and_remedy(name):
    evidence = {key: 0.125 for key in ("loss/train", "heaviness/zeta_star", "growth/perp_factor")}
    alert = Alert(name, 7, evidence)
    assert alert.sentence.startswith(f"{name} at step 7: {ALERTS[name].title}; ")
    assert "{" not in alert.sentence and "Usual causes: " in alert.advice
    assert alert.sentence in repr(alert) and alert.advice in repr(alert)


def test_unknown_alert_keeps_its_numbers():
    assert alert_sentence("NEW", 3, {"loss/train": 0.25, "why": "text"}) == (
        "NEW at step 3: loss/train 0.25, why text."
    )
    assert alert_advice("NEW") == ""


def test_evidence_of_another_version_is_listed():
    assert alert_sentence("LAZY", 3, {"heaviness/zeta_star": 4.2}) == (
        "LAZY at step 3: the data were fitted without signal-heavy features; heaviness/zeta_star 4.2."
    )


def test_label_is_dated_by_its_onset_not_by_the_last_step():
    assert ended(HEALTHY) == "FITTED from step 140.9 on, 144 steps"
    assert ended({"phase": "SIGNAL_FINDING", "steps": 9}) == "SIGNAL_FINDING, 9 steps"


def test_healthy_run():
    told = story(HEALTHY)
    assert told.verdict.startswith("The features were found first, and then tuned")
    assert "from step 43, while the loss had hardly moved (1.37 of 1.39)" in told.why
    assert "target of 0.05 at step 141" in told.why
    assert "The forecast was met, within 1 percent." in told.why and told.advice == ""


def test_target_is_told_in_the_units_of_the_loop():
    assert "target of 0.025 at step 141" in story(HEALTHY | {"units": {"loss_target": 0.5}}).why


def test_missed_forecast_is_named():
    late = HEALTHY | {"boundaries": [boundary("signal_heavy", 64.5), boundary("fitted", 140.0)]}
    assert "50 percent later (step 64, forecast 42 to 44)" in story(late).why


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"boundaries": [boundary("fitted", 20.0)]}, "The data were fitted, but not by"),
        (
            {"boundaries": [boundary("fitted", 20.0), boundary("signal_heavy", 30.0)]},
            "The loss met its target first",
        ),
        (
            {"boundaries": [boundary("signal_heavy", 3.0)]},
            "The features were found; the loss has not",
        ),
        ({"boundaries": [], "phase": "SIGNAL_FINDING"}, "The features are not found yet"),
        ({"stopped": "stopped"}, "The run was stopped before its end; up to there: the features"),
        (
            {"alerts": [{"name": "SADDLE", "step": 9, "evidence": {}}], "boundaries": []},
            "No features are being found.",
        ),
        ({"final": {}, "steps": 0, "boundaries": []}, "Nothing was recorded."),
    ],
)
def test_verdict_of_other_runs(change, verdict):
    assert story(HEALTHY | change).verdict.startswith(verdict)


def test_missing_loss_is_explained():
    silent = {"phase": "UNDETERMINED", "steps": 5, "final": {"heaviness/zeta_star": 9.0}}
    reasons = {"undefined": {"loss/train": "no call of the loss was seen"}, "reason": "no drift"}
    told = story(silent | reasons)
    assert "the loss was not read (no call of the loss was seen)" in told.why
    assert told.advice == "The last label is UNDETERMINED: no drift."


def test_divergence_has_its_losses():
    evidence = {"loss/train": 99.0, "first loss/train": 1.4}
    alert = {"name": "DIVERGED", "step": 6, "evidence": evidence}
    told = story(HEALTHY | {"alerts": [alert]})
    assert told.verdict == "Training diverged."
    assert told.why == "The loss was 99 at step 6, after 1.4 at the start."


def without_zeta(**changes):
    paper = {"applies": False, "reason": "it needs zeta*", "phase": "UNDETERMINED"}
    other = {"applies": True, "phase": "RICH", "meaning": "The tangent kernel has moved."}
    return {
        "phase": "FITTED",
        "reason": "",
        "steps": 100,
        "boundaries": [{"name": "fitted", "onset": 50.0, "detected": 51}],
        "alerts": [],
        "vocabularies": {"finds-then-tunes": paper, "lazy-rich": other},
        "thresholds": {"loss_target": 0.05},
        **changes,
    }


def test_a_run_without_zeta_is_not_said_to_lack_features():
    told = story(without_zeta())
    assert told.verdict == "The tangent kernel has moved."
    assert told.why == "The loss met its target of 0.05 at step 50."
    assert "signal-heavy" not in told.text
    silent = story(without_zeta(vocabularies={"finds-then-tunes": {"applies": False}}))
    assert "cannot be said without clusters" in silent.verdict
    dropout = {"heaviness/zeta_star": "dropout acts between the layers"}
    unread = story(
        without_zeta(vocabularies={"finds-then-tunes": {"applies": False}}, undefined=dropout)
    )
    assert (
        unread.verdict
        == "Whether features are found cannot be said: dropout acts between the layers."
    )


@pytest.mark.parametrize(
    ("margin", "step", "later"), [(-0.02, 21, True), (0.3, 21, False), (-0.02, 99, False)]
)
def test_a_cluster_that_was_left_behind_and_served_later_is_told(margin, step, later):
    alert = {"name": "IMBALANCED", "step": step, "evidence": {"margin/min": margin}}
    why = story(HEALTHY | {"alerts": [alert]}).why
    assert (f"left behind at step {step} was served by step" in why) is later


def test_a_look_back_that_is_trusted_tells_the_story():
    back = {
        "trustworthy": True,
        "sentence": "In hindsight two directions.",
        "phase": "FITTED",
        "steps": 101,
        "boundaries": [
            {"name": "signal_heavy", "onset": 30.0, "detected": 32},
            {"name": "fitted", "onset": 50.0, "detected": 51},
        ],
        "vocabularies": {"finds-then-tunes": {"applies": True}},
    }
    told = story(without_zeta(hindsight=back))
    assert "The features were found first" in told.verdict
    assert told.why.startswith("In hindsight two directions.")
    span = {**back, "vocabularies": {"finds-then-tunes": {"applies": False}}}
    span["final"] = {"heaviness/signal_share": 0.43, "heaviness/chance": 0.05}
    told = story(without_zeta(hindsight=span))
    assert "43% of the first layer" in told.verdict and "features were found" not in told.text
    untrusted = {"trustworthy": False, "sentence": "No span could be trusted."}
    assert story(without_zeta(hindsight=untrusted)).why.endswith("No span could be trusted.")
