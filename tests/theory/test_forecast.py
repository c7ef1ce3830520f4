"""The forecast: its drawing of neurons, its bands, and theory.md's fixed points."""

import math

import numpy as np
import pytest
import torch
from helpers import references as naive

from phasetrack import ExpectedError, RunSettings, predict
from phasetrack.phases.history import History
from phasetrack.phases.summary import loss_halving_step
from phasetrack.theory import forecast
from phasetrack.theory.forecast import BAND, _rank, draw_neurons
from phasetrack.theory.forecast_range import ForecastRange

SMALL = RunSettings(d=64, width=128, batch=1024)


@pytest.fixture(scope="module")
def small():
    return predict(naive.xor(64), SMALL)


def test_neurons_are_drawn_from_the_sphere_without_drawing_it():
    neurons = draw_neurons(naive.xor(50), 20000, 0.3, 1, np.random.default_rng(0))
    np.testing.assert_allclose(neurons.mass.numpy(), 0.09)
    np.testing.assert_allclose(neurons.second_layer.abs().numpy(), 0.3)
    assert abs(neurons.second_layer.sign().mean().item()) < 5 / math.sqrt(20000)
    # each squared coordinate is Beta(1/2, (d - 1)/2): mean 1/d, variance 2 (d - 1)/(d^2 (d + 2))
    shares = neurons.coordinates.square().numpy() / 0.09
    error = math.sqrt(2 * 49 / (2500 * 52) / shares.size)
    assert shares.mean() == pytest.approx(1 / 50, abs=5 * error)


def test_two_dimensions_leave_no_noise():
    neurons = draw_neurons(naive.xor(2), 10, 0.1, 1, np.random.default_rng(0))
    assert not neurons.perp.any()


def test_fixed_points(small):
    """theory.md 6b: onset at 32.3 and half of the loss at 72 for d = 64, m = 1024."""
    assert small.signal_heavy_onset.value == pytest.approx(32.3, rel=0.08)
    assert small.loss_halving_step.value == pytest.approx(72, rel=0.05)
    assert small.phase.name == "FITTED"


def test_bands_are_ordered(small):
    for band in small.bands().values():
        assert band["low"] <= band["value"] <= band["high"]
    low, high = small.band("loss/train")
    median = small.median("loss/train")
    assert (low <= median).all() and (median <= high).all()


def test_the_start_is_the_first_step_of_a_run(small):
    first = small.at(0)
    assert first["forecast/loss"] == pytest.approx(2 * math.log(2), rel=1e-3)
    assert math.isnan(small.at(small.steps)["forecast/loss"])


def test_a_seed_gives_one_forecast_and_another_seed_another(small):
    again = predict(naive.xor(64), SMALL)
    other = predict(naive.xor(64), RunSettings(d=64, width=128, batch=1024, seed=1))
    assert all(
        (again.draws[name] == draws).all()
        for name, draws in small.draws.items()
        if not np.isnan(draws).any()
    )
    assert other.draws["loss/train"][0, 5] != small.draws["loss/train"][0, 5]


def test_a_quarter_of_the_step_takes_four_times_as_long(small):
    slow = predict(naive.xor(64), RunSettings(d=64, width=128, batch=1024, eta=0.05))
    ratio = slow.loss_halving_step.value / small.loss_halving_step.value
    assert ratio == pytest.approx(4, rel=0.06)


def test_a_forecast_is_no_longer_than_needed():
    def length(steps, **options):
        return predict(naive.xor(16), RunSettings(d=16, width=32, steps=steps, **options)).steps

    assert length(9) == 9
    assert length(10**6) == length(None) < 200
    limit = RunSettings(d=16).predicted_limit
    assert length(10**6, train="second") == limit


def test_a_frozen_first_layer_is_never_heavy():
    settings = RunSettings(d=64, width=128, train="second", steps=150)
    frozen = predict(naive.xor(64), settings)
    assert math.isnan(frozen.signal_heavy_onset.value)
    assert frozen.median("heaviness/zeta_star").min() > 1


def test_a_summary_has_the_keys_of_a_run(small):
    summary = small.as_summary()
    assert [s["phase"] for s in summary["timeline"]] == ["SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
    assert summary["alerts"] == []
    assert set(summary["forecast"]) >= {"signal_heavy_onset", "loss_halving_step"}
    assert {b["name"] for b in summary["boundaries"]} == {"signal_heavy", "linear_exit", "fitted"}


def test_no_draws_is_a_mistake():
    with pytest.raises(ExpectedError, match="draws: 0 is not an integer >= 1"):
        predict(naive.xor(16), SMALL, draws=0)


@pytest.mark.parametrize("k, d", [(2, 10), (2, 300)], ids=["d=10", "d=300"])
def test_mean_signal_share_of_drawn_neurons_is_chance(k, d):
    neurons = draw_neurons(naive.xor(d), 5000, 1.0, 2, np.random.default_rng(1))
    shares = neurons.coordinates.square().sum(dim=-1)
    error = shares.std().item() / math.sqrt(10000)
    assert shares.mean().item() == pytest.approx(k / d, abs=5 * error)
    # directions in the plane are even: no preferred axis
    assert neurons.coordinates.mean().abs().item() < 5 * math.sqrt(1 / d / 20000)


def test_draws_are_a_function_of_the_generator():
    one, again, other = (
        draw_neurons(naive.xor(9), 7, 0.1, 3, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert one.coordinates.shape == (3, 7, 2) and one.perp.shape == (3, 7)
    for name in ("coordinates", "perp", "second_layer"):
        assert (getattr(one, name) == getattr(again, name)).all()
    assert (one.coordinates != other.coordinates).all()
    assert (one.coordinates[0] != one.coordinates[1]).all()  # the draws differ from each other


def test_global_random_states_are_left_alone():
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    predict(naive.xor(16), RunSettings(d=16, width=8, steps=3))
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()


def test_half_of_the_step_takes_twice_as_long(small):
    slow = predict(naive.xor(64), RunSettings(d=64, width=128, batch=1024, eta=0.1))
    ratio = slow.signal_heavy_onset.value / small.signal_heavy_onset.value
    assert ratio == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("beyond", [0, 1, 10**6])
def test_there_is_nothing_beyond_the_end(small, beyond):
    shown = small.at(small.steps + beyond)
    assert set(shown) == {"forecast/zeta_star", "forecast/loss", "forecast/margin_min"}
    assert all(map(math.isnan, shown.values()))


@pytest.mark.parametrize("train", ["both", "first", "second"])
def test_steps_fix_the_length(train):
    run = predict(naive.xor(16), RunSettings(d=16, width=8, steps=7, train=train), draws=2)
    assert run.steps == 7
    assert {draws.shape for draws in run.draws.values()} == {(2, 7)}


@pytest.mark.parametrize("theta", [1e-3, 1e-6, 1e-7, 1e-8, 1e-9], ids="theta={:g}".format)
def test_the_linear_regime_ends_shortly_before_the_loss_halves(theta):
    """However small the start: f is tiny then, and so is the error of the first-order loss."""
    run = predict(naive.xor(64), RunSettings(d=64, width=64, batch=1024, theta=theta), draws=3)
    assert run.loss_halving_step.value - 15 < run.linear_exit.value < run.loss_halving_step.value


@pytest.mark.parametrize("count, share", [(9, 8 / 10), (19, 16 / 20), (200, 161 / 201)])
def test_a_further_draw_falls_in_the_band_in_eight_of_ten_cases(count, share):
    """Whatever the distribution: one more of count + 1 exchangeable draws."""
    rng = np.random.default_rng(0)
    draws = np.sort(rng.lognormal(size=(4000, count)), axis=1)
    low, high = (draws[:, _rank(level, count)] for level in BAND)
    further = rng.lognormal(size=4000)
    inside = ((low <= further) & (further <= high)).mean()
    assert inside == pytest.approx(share, abs=4 * math.sqrt(0.16 / 4000))
    assert share == pytest.approx(0.8, abs=0.002)


def test_loss_halved_is_half_of_the_first_loss_as_in_a_runs_summary():
    """Also where the first loss is not 2 log 2."""
    settings = RunSettings(d=16, width=8, theta=2.0)
    found = predict(naive.xor(16), settings, draws=1, limits=ForecastRange(output_spread=9.0))
    losses = found.draws["loss/train"][0]
    assert abs(losses[0] / (2 * math.log(2)) - 1) > 0.05
    history = History((step, {"loss/train": loss}) for step, loss in enumerate(losses))
    assert found.loss_halving_step.value == loss_halving_step(history)


@pytest.mark.parametrize("bias", [None, 0.1])
def test_states_read_together_read_as_alone(monkeypatch, bias):
    """20 steps: a full block of states, and a rest."""
    settings = RunSettings(d=16, width=16, batch=64, steps=20)
    together = predict(naive.xor(16), settings, draws=3, bias=bias)
    monkeypatch.setattr(forecast, "STEPS_AT_ONCE", 1)
    alone = predict(naive.xor(16), settings, draws=3, bias=bias)
    for metric, values in alone.draws.items():
        assert values.shape == (3, 20)
        np.testing.assert_allclose(together.draws[metric], values, rtol=1e-12, err_msg=metric)
