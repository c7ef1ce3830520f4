"""Growth rates by hand, and predictions against simulated SGD steps."""

import math

import numpy as np
import pytest
import torch
from helpers import references as naive

from phasetrack.measures import growth
from phasetrack.model.geometry import Neurons

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


def by_the_law(W, a, slopes, eta):
    """Squared sizes after one step of theory.md 6b without noise, in plain floats."""
    rows = []
    for w, second in zip(W, a, strict=True):
        s, plane, ds, da = naive.parts(w, second)[2], w[:2].copy(), 0.0, 0.0
        for centre, y, g in zip(naive.centres(len(w)), naive.LABELS, slopes, strict=True):
            u, k = float(w @ centre), y * g / 4
            firing = 0.5 * math.erfc(-u / s / math.sqrt(2))
            density = math.exp(-((u / s) ** 2) / 2) / math.sqrt(2 * math.pi)
            plane += eta * second * k * firing * centre[:2]
            ds += second * k * density
            da += k * (u * firing + s * density)
        sig, opp, _ = naive.parts(np.append(plane, 0.0), second)
        rows.append([sig**2, opp**2, (s + eta * ds) ** 2, (second + eta * da) ** 2])
    return np.transpose(rows)


@pytest.mark.parametrize("signal", [0.01, 1.0, 10.0], ids="signal={:g}".format)
def test_a_huge_batch_leaves_the_drift_alone(signal):
    W, a = naive.network(8, 30, 0, signal=signal)
    slopes = np.array([0.9, 0.5, 0.7, 1.0])
    predicted = growth.predicted_squares(
        table(W, a, 30), *naive.tensors(slopes), QUARTERS, (0.3, 0.3), 10**18
    )
    np.testing.assert_allclose(
        torch.stack(predicted).numpy(), by_the_law(W, a, slopes, 0.3), rtol=1e-9, atol=1e-12
    )


def test_noise_of_a_batch_is_the_variance_of_one_sample_over_its_size():
    """eta^2 a^2 q / m a coordinate: one is sig, one opp and d - 2 perp (theory.md 6b)."""
    W, a = naive.network(5, 20, 1)
    slopes, eta, m = np.array([0.9, 0.5, 0.7, 1.0]), 0.3, 10
    noisy, exact = (
        torch.stack(
            growth.predicted_squares(
                table(W, a, 20), *naive.tensors(slopes), QUARTERS, (eta, eta), size
            )
        ).numpy()
        for size in (m, 10**18)
    )
    for j, (w, second) in enumerate(zip(W, a, strict=True)):
        s, q, moment, mean = naive.parts(w, second)[2], 0.0, 0.0, 0.0
        for centre, y, g in zip(naive.centres(20), naive.LABELS, slopes, strict=True):
            u = float(w @ centre)
            firing = 0.5 * math.erfc(-u / s / math.sqrt(2))
            density = math.exp(-((u / s) ** 2) / 2) / math.sqrt(2 * math.pi)
            q += g**2 * firing / 4
            moment += g**2 * ((u**2 + s**2) * firing + u * s * density) / 4
            mean += y * g * (u * firing + s * density) / 4
        kick = second**2 * q
        expected = np.array([kick, kick, 18 * kick, moment - mean**2]) * eta**2 / m
        np.testing.assert_allclose((noisy - exact)[:, j], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "eta, frozen", [((0.0, 0.3), slice(3)), ((0.3, 0.0), slice(3, 4))], ids=["first", "second"]
)
def test_a_layer_that_is_not_trained_stays(eta, frozen):
    neurons = table(*naive.network(5, 20, 1), 20)
    now = torch.stack(growth.squares(neurons))
    later = torch.stack(growth.predicted_squares(neurons, torch.ones(4), QUARTERS, eta, 10))
    torch.testing.assert_close(later[frozen], now[frozen])
    moved = (later - now).abs().amax(dim=1) > 1e-6
    moved[frozen] = ~moved[frozen]
    assert moved.all()


def test_small_steps_conserve_the_balance_of_the_layers():
    """a^2 - |w|^2 of each neuron changes by O(eta^2) only (theory.md 6)."""
    neurons = table(*naive.network(20, 30, 2), 30)
    changes = []
    for eta in (1e-3, 1e-4):
        *parts, second = growth.predicted_squares(
            neurons, torch.ones(4), QUARTERS, (eta, eta), 10**18
        )
        before = neurons.second_layer.square() - neurons.mass
        changes.append((second - sum(parts) - before).abs().max().item())
    assert changes[1] < 1e-7 and changes[0] / changes[1] == pytest.approx(100, rel=0.01)


def test_votes_decide_which_part_is_signal():
    neurons = table(*naive.network(6, 5, 0), 5)
    own, swapped = growth.squares(neurons), growth.squares(neurons, 1 - neurons.votes)
    assert torch.equal(own.signal, swapped.opposing) and torch.equal(own.opposing, swapped.signal)
    assert torch.equal(own.perp, swapped.perp)


def test_rate_broadcasts():
    before, after = torch.ones(2, 3), torch.tensor([[4.0, 4, 4], [1, 1, 1]])
    group = torch.tensor([[True, False, True], [False, False, False]])
    first, second = growth.rate(before, after, group, 2.0)
    assert first.item() == pytest.approx(math.log(2) / 2) and second.isnan()
