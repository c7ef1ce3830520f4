"""Growth rates by hand, and predictions against simulated SGD steps."""

import math

import naive
import numpy as np
import pytest
import torch

from phasetrack.geometry import Neurons
from phasetrack.measures import growth

QUARTERS = torch.full((4,), 0.25, dtype=torch.float64)


def table(W, a, d):
    return Neurons.of(*naive.tensors(W, a), naive.xor(d))


def test_rate_of_a_root_mean_square_by_hand():
    before = torch.tensor([1.0, 3.0, 100.0])
    after = torch.tensor([9.0, 7.0, 0.0])
    group = torch.tensor([True, True, False])
    # the sum of squares goes from 4 to 16, the root mean square by a factor 2, in time 0.5
    assert growth.rate(before, after, group, 0.5).item() == pytest.approx(math.log(2) / 0.5)


@pytest.mark.parametrize("group", [[False], [True]], ids=["empty group", "zero part"])
def test_rate_of_nothing_is_undefined(group):
    assert growth.rate(torch.zeros(1), torch.ones(1), torch.tensor(group), 1.0).isnan()


def test_squares_and_balance_are_what_the_weights_say():
    W, a = naive.network(6, 5, 0)
    neurons = table(W, a, 5)
    for j, (w, second) in enumerate(zip(W, a, strict=True)):
        expected = [part**2 for part in (*naive.parts(w, second), second)]
        assert [part[j].item() for part in growth.squares(neurons)] == pytest.approx(expected)
    group = torch.tensor([True, False, True, False, False, False])
    expected = math.sqrt((a[[0, 2]] ** 2).sum() / (W[[0, 2]] ** 2).sum())
    assert growth.layer_balance(neurons, group).item() == pytest.approx(expected)
    assert growth.layer_balance(neurons, torch.zeros(6, dtype=torch.bool)).isnan()


def test_first_phase_rate_per_step():
    """log(1 + eta * 0.399) / eta = 0.384 at eta = 0.2 (theory.md 6)."""
    W, a = naive.network(4000, 512, 0, signal=1e-3)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    neurons = table(W, np.sign(a), 512)
    later = growth.predicted_squares(neurons, torch.ones(4), QUARTERS, (0.2, 0.2), 10**15)
    everyone = torch.ones(4000, dtype=torch.bool)
    now = growth.squares(neurons)
    rate = growth.rate(now.signal, later.signal, everyone, 0.2)
    assert rate.item() == pytest.approx(0.384, abs=0.001)
    assert growth.rate(now.opposing, later.opposing, everyone, 0.2) < -0.4


def test_prediction_is_the_mean_of_simulated_steps():
    """Squared sizes after one real SGD step on the paper's loss, averaged over many batches."""
    d, m, eta, trials = 24, 40, 0.7, 4000
    rng = np.random.default_rng(0)
    W, a = naive.network(3, d, 1, signal=0.5)
    # so small an output that |dl/df| is 1
    W, a = 1e-3 * W, 1e-3 * a
    total = np.zeros((trials, 4, 3))
    for trial in range(trials):
        x = rng.choice([-1.0, 1.0], (m, d))
        y = -x[:, 0] * x[:, 1]
        pre = x @ W.T
        moved_W = W + eta * a[:, None] * (((pre > 0) * y[:, None]).T @ x) / m
        moved_a = a + eta * (np.maximum(pre, 0) * y[:, None]).mean(axis=0)
        # sig and opp go by the sign of a before the step
        sizes = [naive.parts(w, second) for w, second in zip(moved_W, a, strict=True)]
        total[trial, :3] = np.square(sizes).T
        total[trial, 3] = moved_a**2
    predicted = growth.predicted_squares(table(W, a, d), torch.ones(4), QUARTERS, (eta, eta), m)
    mean, error = total.mean(axis=0), total.std(axis=0) / math.sqrt(trials)
    for part in range(3):
        # noise that is Boolean, not Gaussian, and kicks that share clusters: a few percent
        np.testing.assert_allclose(
            predicted[part].numpy(), mean[part], atol=5 * error[part].max(), rtol=0.05
        )
    np.testing.assert_allclose(predicted.second_layer.numpy(), mean[3], rtol=0.05)
