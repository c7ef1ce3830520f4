"""Labels, boundaries and alerts at their edges, against a naive reading of the definition."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasetrack import ExpectedError, Phase, PhaseClassifier, Thresholds
from phasetrack.phases.classifier import relabel
from phasetrack.phases.thresholds import COUNTS

ZETA, DRIFT, LOSS = "heaviness/zeta_star", "linearization/slope_drift", "loss/train"
ERROR, SHARE = "linearization/value_error", "heaviness/signal_share"
MASS, BALANCE = "heaviness/heavy_mass", "margin/balance"
PERP, SIGNAL, FACTOR = "growth/perp_rate", "growth/signal_rate", "growth/perp_factor"
LEAST = "margin/min"
DRIFT_OF_KERNEL, LINEARISATION = "kernel/drift", "kernel/linearisation_error"
ALERTS = ("SADDLE", "IMBALANCED", "NON_SIGNAL_GROWTH", "DIVERGED", "LAZY")


def rows(count=40, start=0, every=1, **columns):
    """Readings of a quiet run; a column is a number or a function of the recorded step's index."""
    quiet = {ZETA: 9.0, DRIFT: 0.0, LOSS: 1.4, ERROR: 0.0, SHARE: 0.01, MASS: 0.0, BALANCE: 0.5}
    names = {
        "zeta": ZETA,
        "drift": DRIFT,
        "loss": LOSS,
        "error": ERROR,
        "share": SHARE,
        "mass": MASS,
        "balance": BALANCE,
        "perp": PERP,
        "signal": SIGNAL,
        "factor": FACTOR,
        "least": LEAST,
    }
    for index in range(count):
        given = {n: c(index) if callable(c) else c for n, c in columns.items()}
        yield start + every * index, quiet | {names[n]: value for n, value in given.items()}


def label(data, escape=None, **thresholds):
    return list(relabel(data, Thresholds(**thresholds), escape))


def alerts(verdicts):
    return [(a.name, a.step) for _, verdict in verdicts for a in verdict.alerts]


def boundaries(verdicts, name):
    return [b for _, v in verdicts for b in v.boundaries if b.name == name]


def phases(verdicts):
    return [verdict.phase.name for _, verdict in verdicts]


# --- labels ----------------------------------------------------------------------------------


def test_heaviness_is_entered_at_the_threshold_and_left_above_it():
    values = [0.8000001, 0.8, 1.0, 1.0000001]
    assert phases(label(rows(4, zeta=lambda i: values[i]))) == [
        "SIGNAL_FINDING",
        "SIGNAL_HEAVY",
        "SIGNAL_HEAVY",
        "SIGNAL_FINDING",
    ]


def test_zeta_between_the_thresholds_keeps_the_phase():
    wiggle = [0.81, 0.99] * 10
    below = label(rows(21, zeta=lambda i: [0.4, *wiggle][i]))
    above = label(rows(21, zeta=lambda i: [2.0, *wiggle][i]))
    assert phases(below) == ["SIGNAL_HEAVY"] * 21 and phases(above) == ["SIGNAL_FINDING"] * 21
    assert len(boundaries(below, "signal_heavy")) == 1
    assert boundaries(above, "signal_heavy") == []


def test_a_second_entry_is_a_second_boundary_with_its_own_onset():
    values = [4.0, 0.25, 4.0, 0.25]
    found = boundaries(label(rows(4, every=10, zeta=lambda i: values[i])), "signal_heavy")
    assert [(b.onset, b.detected) for b in found] == [
        (pytest.approx(5), 10),
        (pytest.approx(25), 30),
    ]


def test_a_gap_in_zeta_leaves_the_phase_as_it_was():
    values = [2.0, 0.4, math.nan, 0.6, math.nan, 2.0, math.nan]
    names = phases(label(rows(7, zeta=lambda i: values[i])))
    assert names == ["SIGNAL_FINDING", *["SIGNAL_HEAVY"] * 4, "SIGNAL_FINDING", "UNDETERMINED"]


def test_a_large_drift_is_undetermined_until_the_run_is_heavy():
    data = rows(
        4, zeta=lambda i: [8.0, 8.0, 8.0, 0.3][i], drift=lambda i: [0.25, 0.26, 0.9, 0.9][i]
    )
    verdicts = label(data)
    assert phases(verdicts) == ["SIGNAL_FINDING", *["UNDETERMINED"] * 2, "SIGNAL_HEAVY"]
    assert verdicts[1][1].reason == (
        "zeta* 8 is above 0.8 and the slope drift 0.26 above 0.25: "
        "neither signal-heavy nor first-order"
    )


def test_infinite_zeta_is_not_missing():
    verdicts = label(rows(2, zeta=lambda i: [math.inf, 0.1][i]))
    assert phases(verdicts) == ["SIGNAL_FINDING", "SIGNAL_HEAVY"]
    (boundary,) = boundaries(verdicts, "signal_heavy")
    assert boundary.onset == boundary.detected == 1  # nothing to interpolate from


def test_a_run_that_starts_heavy_begins_at_its_first_record():
    (boundary,) = boundaries(label(rows(3, start=20, zeta=0.2)), "signal_heavy")
    assert boundary.onset == boundary.detected == 20


@pytest.mark.parametrize(
    "name, columns, onset",
    [
        ("signal_heavy", {"zeta": lambda i: [4.0, 0.25][i]}, 105.0),
        ("linear_exit", {"error": lambda i: [0.01, 1.0][i]}, 105.0),
        ("linear_exit", {"error": lambda i: [0.0, 0.2][i]}, 105.0),
        ("fitted", {"loss": lambda i: [0.5, 0.005][i]}, 105.0),
    ],
    ids=["zeta", "value error", "value error from zero", "loss"],
)
def test_onsets_lie_between_two_records(name, columns, onset):
    (boundary,) = boundaries(label(rows(2, start=100, every=10, **columns)), name)
    assert boundary.onset == pytest.approx(onset) and boundary.detected == 110


def test_fitted_is_left_only_above_its_own_exit():
    values = [1.4, 0.05, 0.1, 0.1000001, 0.05]
    verdicts = label(rows(5, zeta=0.3, loss=lambda i: values[i]))
    names = ["SIGNAL_HEAVY", "FITTED", "FITTED", "SIGNAL_HEAVY", "FITTED"]
    assert phases(verdicts) == names and len(boundaries(verdicts, "fitted")) == 2


def test_thresholds_of_files_keep_their_levels_and_lose_retired_names():
    assert Thresholds.recorded({"zeta_enter": 0.5, "zeta_records": 3}) == Thresholds(zeta_enter=0.5)
    with pytest.raises(TypeError, match="zeta_level"):
        Thresholds.recorded({"zeta_level": 0.5})


def test_thresholds_decide():
    data = list(rows(30, zeta=lambda i: 3 * math.exp(-0.1 * i)))
    found = [boundaries(label(data, zeta_enter=z), "signal_heavy")[0] for z in (0.9, 0.5, 0.2)]
    assert [b.detected for b in found] == [13, 18, 28]
    assert {round(b.onset, 6) for b in found} == {round(10 * math.log(3), 6)}
    assert boundaries(label(data, zeta_enter=0.1), "signal_heavy") == []


# --- alerts ----------------------------------------------------------------------------------


def saddle(**changes):
    return label(rows(**({"count": 130, "share": 0.01} | changes)), escape=60)


def test_saddle_needs_no_growth_and_time():
    assert alerts(saddle()) == [("SADDLE", 120)]
    assert alerts(saddle(share=lambda i: 0.01 + i * 1e-4)) == []  # doubled at step 100
    assert alerts(saddle(share=lambda i: 0.6 + 0.3 * (i > 50))) == []  # the rest fell to a quarter
    assert alerts(saddle(share=lambda i: 0.6 + 0.1 * (i > 50))) == [("SADDLE", 120)]
    assert alerts(saddle(loss=lambda i: 1.4 - 0.01 * min(i, 20))) == []  # no saddle: it went down
    assert alerts(saddle(loss=lambda i: 1.4 + 0.2 * (i > 0))) == []
    assert alerts(saddle(zeta=0.4)) == []
    assert alerts(saddle(count=120)) == []
    (alert,) = saddle()[120][1].alerts
    assert alert.evidence == {
        SHARE: 0.01,
        f"first {SHARE}": 0.01,
        "predicted escape step": 60,
        "loss/train by its first value": pytest.approx(1),
    }


def learned(i):
    """A loss that is under nine tenths of its start from the second record on."""
    return 1.4 if i == 0 else 1.0


def imbalanced(**changes):
    return label(rows(**({"count": 25, "mass": 0.9, "loss": learned} | changes)))


def test_imbalanced_leaves_time_to_clusters_that_are_learned_later():
    """A late cluster has a small positive margin that grows; before anything is learned none counts."""
    assert alerts(imbalanced(balance=0.01, least=lambda i: 1e-3 * 1.1**i)) == []
    assert alerts(imbalanced(balance=-0.01, least=-1e-3)) == [("IMBALANCED", 9)]
    assert alerts(imbalanced(balance=-0.01, least=-1e-3, loss=1.39)) == []
    late = imbalanced(balance=-0.01, least=lambda i: -1e-3 if i < 9 else 1e-4)
    assert alerts(late) == []


def test_imbalanced_waits_for_a_cluster_that_catches_up():
    def rising(i):
        return min(-1 + 0.05 * i, -0.2)  # until record 16

    assert alerts(imbalanced(balance=rising, count=25)) == []
    assert alerts(imbalanced(balance=rising, count=30)) == [("IMBALANCED", 25)]


def test_imbalanced_by_a_cluster_that_no_neuron_serves():
    assert alerts(imbalanced(balance=math.nan)) == [("IMBALANCED", 9)]
    assert alerts(imbalanced(balance=-0.2)) == [("IMBALANCED", 9)]
    assert alerts(imbalanced(balance=0.1)) == []
    assert alerts(imbalanced(balance=0.0, mass=0.5)) == []
    (alert,) = imbalanced(balance=0.05)[9][1].alerts
    assert alert.evidence == pytest.approx(
        {MASS: 0.9, LEAST: math.nan, BALANCE: 0.05, f"{BALANCE} 10 records ago": 0.05}, nan_ok=True
    )


@pytest.mark.parametrize("column, relief", [("mass", 0.4), ("balance", 0.5)])
def test_imbalanced_must_last_without_a_break(column, relief):
    bad = {"mass": 0.9, "balance": 0.0, "loss": learned}
    changed = bad | {column: lambda i: relief if i == 8 else bad[column]}
    assert alerts(label(rows(18, **changed))) == []
    assert alerts(label(rows(19, **changed))) == [("IMBALANCED", 18)]


def test_imbalanced_by_a_balance_that_falls_to_half():
    """At 0.9 a record it falls to 0.387 of itself in 10 records; at 0.93 to 0.52."""
    assert alerts(imbalanced(balance=lambda i: 0.9**i, count=15)) == [("IMBALANCED", 9)]
    assert alerts(imbalanced(balance=lambda i: 0.93**i, count=15)) == []
    broken = imbalanced(balance=lambda i: 0.9**i + (0.1 if i % 5 == 0 else 0), count=15)
    assert alerts(broken) == []


@pytest.mark.parametrize(
    "changes, raised",
    [
        ({}, True),
        ({"perp": 0.1}, False),
        ({"perp": 0.0, "signal": -1.0}, False),
        ({"factor": 1.9}, False),
        ({"perp": math.nan}, False),
        ({"signal": math.nan}, False),
        ({"zeta": 0.4}, False),
        # the signal outgrows the rest: odds from 1 / 99 to 1 / 4, or to 1 / 19
        ({"share": lambda i: 0.01 if i == 0 else 0.2}, False),
        ({"share": lambda i: 0.01 if i == 0 else 0.05}, True),
        ({"count": 9}, False),
        # 2.1 over 10 records: what single steps do is noise
        ({"perp": lambda i: 0.0 if i % 3 == 2 else 0.3}, True),
        (
            {"perp": lambda i: -1.0 if i == 5 else 0.3, "signal": lambda i: 0.8 if i % 2 else 0.0},
            False,
        ),
    ],
    ids=[
        "all",
        "slow",
        "still",
        "small",
        "no perp",
        "no signal",
        "heavy",
        "ahead",
        "behind",
        "short",
        "noisy",
        "less",
    ],
)
def test_non_signal_growth(changes, raised):
    usual = {"count": 15, "perp": 0.2, "signal": 0.4, "factor": 2.0}
    verdicts = label(rows(**(usual | changes)))
    assert alerts(verdicts) == ([("NON_SIGNAL_GROWTH", 9)] if raised else [])
    if raised:
        (alert,) = verdicts[9][1].alerts
        noisy = "perp" in changes
        over = ", mean of 10 records"
        odds = 99 / 19 if "share" in changes else 1.0
        assert alert.evidence == pytest.approx(
            {
                PERP + over: 0.21 if noisy else 0.2,
                SIGNAL + over: 0.4,
                FACTOR: 2.0,
                "signal against the rest, by its first value": odds,
            }
        )


@pytest.mark.parametrize(
    "value, raised",
    [(13.9, False), (14.1, True), (math.nan, True), (math.inf, True), (-math.inf, True)],
    ids=str,
)
def test_diverged(value, raised):
    verdicts = label(rows(6, loss=lambda i: value if i in (3, 4) else 1.4))
    assert alerts(verdicts) == ([("DIVERGED", 3)] if raised else [])
    during = ["UNDETERMINED" if raised else "SIGNAL_FINDING"] * 2
    assert phases(verdicts) == ["SIGNAL_FINDING"] * 3 + during + ["SIGNAL_FINDING"]
    if raised:
        assert verdicts[4][1].reason.startswith("diverged at step 3: loss")
        assert verdicts[4][1].reason.endswith("1.4 at the first recorded step")


def test_missing_loss_has_not_diverged():
    data = [(step, {ZETA: 5.0, DRIFT: 0.0}) for step in range(5)]
    assert alerts(label(data)) == []


def test_first_recorded_loss_is_the_reference_of_divergence():
    """The first call was not seen, say of a plain function; DIVERGED compares with the next."""
    data = list(rows(6, loss=lambda i: [math.nan, 1.4, 1.4, 1.4, 1e6, 1e6][i]))
    del data[0][1][LOSS]
    assert alerts(label(data)) == [("DIVERGED", 4)]


@pytest.mark.parametrize(
    "drift, error, raised",
    [(0.1, 0.9, True), (5.0, 0.5, True), (0.11, 0.51, False), (math.nan, math.nan, False)],
)
def test_lazy_is_fitted_with_the_first_kernel_or_by_the_linearisation(drift, error, raised):
    """By the last reading of the kernel, which most records lack; zeta* does not matter."""
    data = list(rows(4, loss=lambda i: [1.4, 0.5, 0.04, 0.04][i], zeta=3.0))
    data[1][1].update({DRIFT_OF_KERNEL: drift, LINEARISATION: error})
    verdicts = label(data)
    assert alerts(verdicts) == ([("LAZY", 2)] if raised else [])
    if raised:
        (alert,) = verdicts[2][1].alerts
        assert alert.evidence == {LOSS: 0.04, DRIFT_OF_KERNEL: drift, LINEARISATION: error}
    moved = [(3, data[3][1] | {DRIFT_OF_KERNEL: 3.0, LINEARISATION: 1.0})]
    assert alerts(label([*data[:2], *moved])) == []


def test_a_resumed_classifier_remembers_the_last_kernel():
    one, data = PhaseClassifier(), list(rows(3, loss=lambda i: [1.4, 0.5, 0.04][i]))
    data[0][1].update({DRIFT_OF_KERNEL: 0.01, LINEARISATION: 0.01})
    for step, readings in data[:2]:
        one.update(step, readings)
    other = PhaseClassifier()
    other.load_state_dict(one.state_dict())
    assert [a.name for a in other.update(*data[2]).alerts] == ["LAZY"]


def healthy(every=1):
    """theory.md 7's d = 512 run in closed form: zeta* crosses 1 at step 49."""
    for step in range(0, 160, every):
        gamma = 0.6 * math.exp(0.066 * (step - 80)) if step < 80 else 0.6 + 0.07 * (step - 80)
        heavy = 1 / (1 + math.exp(-0.1 * (step - 55)))
        yield (
            step,
            {
                ZETA: math.exp(0.1 * (49 - step)),
                DRIFT: math.tanh(gamma / 2),
                LOSS: 2 * math.log1p(math.exp(-gamma)),
                ERROR: gamma / 4,
                SHARE: 1 / (1 + 250 * math.exp(-0.13 * step)),
                MASS: heavy,
                BALANCE: 0.1 + 0.8 * heavy,
                PERP: 0.02,
                SIGNAL: 0.35,
                FACTOR: 1.2,
            },
        )


@pytest.mark.parametrize("every", [1, 4, 9])
def test_healthy_run_raises_no_alert_at_any_recording_interval(every):
    verdicts = label(healthy(every), escape=84)
    assert alerts(verdicts) == []
    changes = [
        (v.transition.before.name, v.transition.after.name) for _, v in verdicts if v.transition
    ]
    assert changes == [("SIGNAL_FINDING", "SIGNAL_HEAVY"), ("SIGNAL_HEAVY", "FITTED")]
    (heavy,) = boundaries(verdicts, "signal_heavy")
    below = 49 + 10 * math.log(1 / 0.8)
    assert heavy.onset == pytest.approx(49) and 0 <= heavy.detected - below <= every
    exact = {b.name: b.onset for _, v in label(healthy()) for b in v.boundaries}
    for name in ("linear_exit", "fitted"):
        (boundary,) = boundaries(verdicts, name)
        assert boundary.onset == pytest.approx(exact[name], abs=0.2)


# --- properties ------------------------------------------------------------------------------

ANY = st.floats() | st.sampled_from([0.0, 0.01, 0.04, 0.3, 0.6, 0.9, 1.5, 20.0])
NAMES = (ZETA, DRIFT, LOSS, ERROR, SHARE, MASS, BALANCE, PERP, SIGNAL, FACTOR)
READINGS = st.fixed_dictionaries({}, optional={name: ANY for name in NAMES})
FINITE = st.lists(st.floats(0, 4), min_size=1, max_size=30)


@given(st.lists(READINGS, min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 4))
def test_no_reading_breaks_the_labels(readings, every, patience):
    data = [(every * index, reading) for index, reading in enumerate(readings)]
    verdicts = label(data, escape=2.0, patience=patience)
    online = PhaseClassifier(Thresholds(patience=patience), 2.0)
    assert [online.update(step, reading) for step, reading in data] == [v for _, v in verdicts]
    for (_, before), (step, after) in itertools.pairwise(verdicts):
        change = after.transition
        assert (change is None) == (before.phase is after.phase)
        if change:
            assert (change.step, change.before, change.after) == (step, before.phase, after.phase)
    assert verdicts[0][1].transition is None
    names = [name for name, _ in alerts(verdicts)]
    assert len(names) == len(set(names)) and set(names) <= set(ALERTS)
    for step, verdict in verdicts:
        assert bool(verdict.reason) == (verdict.phase is Phase.UNDETERMINED)
        assert all(alert.evidence and alert.step == step for alert in verdict.alerts)


@given(FINITE, st.integers(1, 5))
def test_onset_lies_in_its_interval_between_the_records(values, every):
    """A line through them crosses 1 within its interval, before the boundary is detected."""
    verdicts = label(rows(len(values), every=every, zeta=lambda i: values[i]))
    for boundary in boundaries(verdicts, "signal_heavy"):
        now = boundary.detected // every
        assert values[now] <= 0.8
        assert 0 <= boundary.low <= boundary.onset <= boundary.high <= boundary.detected


@given(FINITE)
def test_labels_are_those_of_the_definition(values):
    expected, heavy = [], False
    for value in values:
        heavy = value <= 0.8 or (heavy and value <= 1)
        expected.append("SIGNAL_HEAVY" if heavy else "SIGNAL_FINDING")
    assert phases(label(rows(len(values), zeta=lambda i: values[i]))) == expected


@given(FINITE, st.sampled_from(["error", "loss"]))
def test_the_other_onsets_lie_between_two_records(values, column):
    name = {"error": "linear_exit", "loss": "fitted"}[column]
    values = [2.0, *values] if column == "loss" else [0.0, *values]
    for boundary in boundaries(label(rows(len(values), **{column: lambda i: values[i]})), name):
        assert boundary.detected - 1 <= boundary.onset <= boundary.detected


# --- thresholds ------------------------------------------------------------------------------

POSITIVE = [name for name in Thresholds.__dataclass_fields__ if name not in COUNTS]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "1", True, None], ids=repr)
@pytest.mark.parametrize("name", POSITIVE)
def test_each_threshold_is_a_positive_number(name, value):
    shown = f"{value:g}" if type(value) is float else repr(value)
    with pytest.raises(ExpectedError) as caught:
        Thresholds(**{name: value})
    assert str(caught.value) == f"{name}: {shown} is not a finite number > 0."


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patience": 2.0}, "patience: 2.0 is not an integer from 1 to 10000."),
        ({"zeta_exit": 0.4}, "zeta_exit: 0.4 is not a finite number >= 0.8."),
        ({"fitted_exit": 0.99}, "fitted_exit: 0.99 is not a finite number >= 1."),
        ({"diverged_factor": 1.0}, "diverged_factor: 1 is not a finite number > 1."),
    ],
    ids=["patience", "zeta", "fitted", "diverged"],
)
def test_thresholds_that_do_not_fit_together_are_explained(changes, message):
    with pytest.raises(ExpectedError) as caught:
        Thresholds(**changes)
    assert str(caught.value) == message


def test_phase_values_are_those_of_the_history():
    assert [phase.value for phase in Phase] == [0, 1, 2, 3]
    assert np.array([phase.value for phase in Phase]).dtype.kind == "i"
