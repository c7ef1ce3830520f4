"""Labels, boundaries and alerts from histories of plain numbers."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError, Phase, PhaseClassifier, Thresholds
from phasetrack.phases.classifier import crossing, first_crossing, relabel

ZETA, DRIFT, LOSS = "heaviness/zeta_star", "linearization/slope_drift", "loss/train"
HEAVY_MASS, BALANCE = "heaviness/heavy_mass", "margin/balance"
START = 2 * math.log(2)


def row(zeta=50.0, drift=0.01, loss=START, **others):
    readings = {ZETA: zeta, DRIFT: drift, LOSS: loss, "linearization/value_error": drift / 2}
    readings |= {HEAVY_MASS: 0.0, BALANCE: 0.5, "heaviness/signal_share": 0.01}
    return readings | others


def healthy(steps=150):
    """zeta* falls from 148 by e^0.1 a step; drift and loss follow; crosses 1 at step 50."""
    for step in range(steps):
        gamma = 1e-3 * math.exp(0.1 * step)
        yield (
            step,
            row(
                zeta=math.exp(5 - 0.1 * step),
                drift=math.tanh(gamma / 2),
                loss=2 * math.log1p(math.exp(-min(gamma, 700))),
                **{"heaviness/signal_share": min(1.0, 0.004 * math.exp(0.15 * step))},
            ),
        )


def label(rows, thresholds=None, escape=None):
    return list(relabel(rows, thresholds or Thresholds(), escape))


def labels(verdicts):
    """The labels in order, each stretch once."""
    names = [verdict.phase.name for _, verdict in verdicts]
    return [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]


def boundaries(verdicts):
    return {b.name: b for _, verdict in verdicts for b in verdict.boundaries}


def alerts(verdicts):
    return [alert.name for _, verdict in verdicts for alert in verdict.alerts]


def series(name, values, **others):
    return [(step, row(**{**others, name: value})) for step, value in enumerate(values)]


def test_healthy_run():
    verdicts = label(healthy(), escape=60)
    assert labels(verdicts) == ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
    assert alerts(verdicts) == []
    found = boundaries(verdicts)
    assert found["signal_heavy"].onset == pytest.approx(50)
    assert found["signal_heavy"].detected == 53
    changes = [v.transition for _, v in verdicts if v.transition]
    assert [(t.before, t.after) for t in changes] == [
        (Phase.SIGNAL_FINDING, Phase.SIGNAL_HEAVY),
        (Phase.SIGNAL_HEAVY, Phase.FITTED),
    ]


@pytest.mark.parametrize("every", [3, 7, 20])
def test_onset_does_not_depend_on_the_recording_interval(every):
    rows = [r for r in healthy() if r[0] % every == 0]
    assert boundaries(label(rows))["signal_heavy"].onset == pytest.approx(50)


def test_hysteresis():
    values = [2, 0.9, 0.85, 0.79, 0.9, 0.99, 0.79, 1.01, 0.9, 0.8]
    names = [verdict.phase.name for _, verdict in label(series("zeta", values))]
    finding, heavy = "SIGNAL_FINDING", "SIGNAL_HEAVY"
    assert names == [*[finding] * 3, *[heavy] * 4, *[finding] * 2, heavy]


def test_onset_is_the_last_crossing_of_one():
    verdicts = label(series("zeta", [4, 0.9, 2, 0.5]))
    (boundary,) = [b for _, v in verdicts for b in v.boundaries if b.name == "signal_heavy"]
    assert boundary.onset == pytest.approx(2.5) and boundary.detected == 3


def test_fitted_has_hysteresis_too():
    names = [v.phase.name for _, v in label(series("loss", [1.4, 0.05, 0.09, 0.11], zeta=0.1))]
    assert names == ["SIGNAL_HEAVY", "FITTED", "FITTED", "SIGNAL_HEAVY"]


def test_linear_exit_holds_until_the_value_error_is_half_of_its_level_again():
    wiggle = label(series("drift", [0.02, 0.1, 0.4, 0.11, 0.4]))
    exits = [b for _, v in wiggle for b in v.boundaries if b.name == "linear_exit"]
    assert len(exits) == 1 and exits[0].detected == 2
    assert exits[0].onset == pytest.approx(1.5)  # value error 0.05 to 0.2, level 0.1, in the log
    assert (exits[0].low, exits[0].high) == (1, 2)
    back = label(series("drift", [0.02, 0.4, 0.1, 0.4]))
    assert [(step, v.left) for step, v in back if v.left] == [(2, ("linear_exit",))]
    assert [step for step, v in back if v.boundaries] == [1, 3]


@pytest.mark.parametrize(
    "readings, reason",
    [
        (row(zeta=math.nan), "zeta. could not be read"),
        (row(drift=math.nan), "the slope drift could not be read"),
        ({LOSS: 1.0}, "zeta. could not be read"),
        (row(zeta=3.0, drift=0.5), "neither signal-heavy nor first-order"),
    ],
    ids=["no zeta", "no drift", "nothing", "large start"],
)
def test_undetermined_says_why(readings, reason):
    verdict = PhaseClassifier().update(0, readings)
    assert verdict.phase is Phase.UNDETERMINED
    assert re.search(reason, verdict.reason)


STUCK = {"heaviness/signal_share": 0.011}
FAILURES = {
    "SADDLE": [(step, row(**STUCK)) for step in range(130)],
    "IMBALANCED": [
        (s, row(loss=1.4 - 0.06 * s, **{HEAVY_MASS: 0.9, BALANCE: math.nan})) for s in range(15)
    ],
    "NON_SIGNAL_GROWTH": [
        (
            s,
            row(
                **{
                    "growth/perp_rate": 0.2,
                    "growth/signal_rate": 0.25,
                    "growth/perp_factor": 1.0 + s / 10,
                }
            ),
        )
        for s in range(20)
    ],
    "DIVERGED": series("loss", [1.4, 2.0, 14.1, 20.0]),
    "LAZY": [
        (step, reading | {"kernel/drift": 0.01, "kernel/linearisation_error": 0.02})
        for step, reading in series("loss", [1.4, 0.5, 0.04, 0.03], zeta=3.0)
    ],
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_is_named_once_with_its_numbers(name):
    verdicts = label(FAILURES[name], escape=60)
    assert alerts(verdicts) == [name]
    (alert,) = (alert for _, verdict in verdicts for alert in verdict.alerts)
    assert len(alert.evidence) >= 2 and not any(map(math.isinf, alert.evidence.values()))
    assert "SIGNAL_HEAVY" not in labels(verdicts)


def test_saddle_waits_for_two_escape_times_and_needs_one():
    verdicts = label(FAILURES["SADDLE"], escape=60)
    assert [step for step, verdict in verdicts if verdict.alerts] == [120]
    assert alerts(label(FAILURES["SADDLE"])) == []


def test_a_falling_balance_is_imbalanced():
    def falling(rate, loss):
        balances = {HEAVY_MASS: 0.9, BALANCE: 0.9}
        first = [(0, row(loss=1.4, **balances))]
        return first + [
            (s, row(loss=loss, **(balances | {BALANCE: 0.9 * rate**s}))) for s in range(1, 12)
        ]

    assert alerts(label(falling(0.9, 1.0))) == ["IMBALANCED"]
    assert alerts(label(falling(0.99, 1.0))) == []
    assert alerts(label(falling(0.9, 1.4))) == []  # nothing is learned yet


def test_missing_balance_raises_no_imbalance():
    rows = [(s, {ZETA: 5.0, DRIFT: 0.0, LOSS: 1.3, HEAVY_MASS: 0.9}) for s in range(15)]
    assert alerts(label(rows)) == []


@pytest.mark.parametrize("loss", [math.nan, math.inf], ids=str)
def test_loss_that_is_not_finite_has_diverged(loss):
    verdicts = label(series("loss", [1.4, loss, loss, 1.0], zeta=0.1))
    assert alerts(verdicts) == ["DIVERGED"]
    assert verdicts[2][1].phase is Phase.UNDETERMINED
    assert verdicts[2][1].reason.startswith("diverged at step 1: loss")
    assert verdicts[3][1].phase is Phase.SIGNAL_HEAVY  # one batch locks no label


READING = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 3)


@given(st.lists(st.tuples(READING, READING, READING, READING, READING), min_size=1, max_size=40))
def test_any_numbers_give_consistent_labels(numbers):
    rows = [
        (step, row(zeta, drift, loss, **{HEAVY_MASS: mass, BALANCE: balance}))
        for step, (zeta, drift, loss, mass, balance) in enumerate(numbers)
    ]
    verdicts = label(rows, escape=10)
    before = None
    for step, verdict in verdicts:
        changed = before is not None and verdict.phase is not before
        assert (verdict.transition is not None) == changed
        if verdict.transition:
            assert verdict.transition.before is before and verdict.transition.step == step
        assert bool(verdict.reason) == (verdict.phase is Phase.UNDETERMINED)
        for boundary in verdict.boundaries:
            assert boundary.detected == step and 0 <= boundary.onset <= step
        before = verdict.phase
    assert len(set(alerts(verdicts))) == len(alerts(verdicts))


@pytest.mark.parametrize(
    "points, level, expected",
    [
        ([(0, 4.0), (2, 0.25)], 1.0, 1.0),
        ([(3, 0.5)], 1.0, 3.0),
        ([(0, 4.0), (1, 3.0)], 1.0, math.nan),
        ([(0, math.inf), (1, 0.5)], 1.0, 1.0),
        ([(0, 4.0), (1, math.nan), (2, 0.25)], 1.0, 1.0),
        ([(0, 1.0), (1, -1.0)], 0.0, 0.5),
    ],
    ids=["in the log", "at once", "never", "from infinity", "across a gap", "linear"],
)
def test_first_crossing(points, level, expected):
    assert first_crossing(points, level) == pytest.approx(expected, nan_ok=True)


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 1))
@settings(deadline=None, derandomize=True)
def test_a_crossing_lies_between_its_ends(low, high, share):
    level = low + share * (high - low)
    assert 3 - 1e-9 <= crossing(3, high, 5, low, level) <= 5 + 1e-9


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"zeta_enter": 0.0}, "zeta_enter: 0 is not a finite number > 0."),
        ({"zeta_enter": 2.0}, "zeta_exit: 1 is not a finite number >= 2."),
        ({"patience": 0}, "patience: 0 is not an integer from 1 to 10000."),
        ({"fitted_exit": 0.5}, "fitted_exit: 0.5 is not a finite number >= 1."),
        ({"loss_target": math.nan}, "loss_target: nan is not a finite number > 0."),
    ],
)
def test_wrong_thresholds_are_explained(changes, message):
    with pytest.raises(ExpectedError, match=message):
        Thresholds(**changes)
