"""The law of one neuron: against all 2^12 inputs, and against numerical integrals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import references as naive
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.measures.mean_field import activity_variance, expectations, law, mean_margins
from phasetrack.model.geometry import Neurons

X, Y = naive.hypercube(12)
QUARTERS = torch.full((4,), 0.25, dtype=torch.float64)


def descent(W, a):
    """Exact mean-field descent direction of the first-order loss -y f over the whole hypercube."""
    pre = X @ W.T
    active = (pre > 0) + 0.5 * (pre == 0)
    dW = a[:, None] * ((active * Y[:, None]).T @ X) / len(X)
    return dW, (np.maximum(pre, 0) * Y[:, None]).mean(axis=0)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(-2, 1))
def test_exact_direction_of_any_neuron(seed, log_signal):
    """theory.md 6's identity, +-a sqrt(2)/4 sign(c_i) Pr(|P| < sqrt(2)|c_i|), on all inputs."""
    W, a = naive.network(3, 12, seed, signal=10**log_signal)
    dW, _ = descent(W, a)
    for index, sign in ((0, 1.0), (2, -1.0)):
        direction = naive.centres(12)[index] / math.sqrt(2)
        c, noise = W @ direction, X[:, 2:] @ W[:, 2:].T
        share = (np.abs(noise) < math.sqrt(2) * np.abs(c)).mean(axis=0)
        expected = sign * a * math.sqrt(2) / 4 * np.sign(c) * share
        np.testing.assert_allclose(dW @ direction, expected, atol=1e-12)


def test_law_is_near_the_exact_direction():
    """At d = 12 the noise is only about Gaussian: close, and no more."""
    W, a = naive.network(200, 12, 0)
    dW, da = descent(W, a)
    motion = law(Neurons.of(*naive.tensors(W, a), naive.xor(12)), torch.ones(4), QUARTERS)
    drift = motion.coordinates.numpy() @ naive.xor(12).basis.numpy().T
    assert np.corrcoef(drift[:, :2].ravel(), dW[:, :2].ravel())[0, 1] > 0.99
    assert np.corrcoef(motion.second_layer.numpy(), da)[0, 1] > 0.99


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(-1, 1))
def test_law_against_integrals_over_the_noise(seed, log_perp):
    W, a = naive.network(2, 7, seed, perp=10**log_perp)
    slopes = np.random.default_rng(seed).uniform(0.1, 1.0, 4)
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(7))
    motion = law(neurons, *naive.tensors(slopes), QUARTERS)
    variance = activity_variance(neurons, motion)
    for j, (w, second) in enumerate(zip(W, a, strict=True)):
        s = naive.parts(w, second)[2]
        grid = np.linspace(-12, 12, 200_001)
        density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
        dw, ds, da, q = np.zeros(2), 0.0, 0.0, 0.0
        for k, (centre, y) in enumerate(zip(naive.centres(7), naive.LABELS, strict=True)):
            pre = w @ centre + s * grid
            active, activity = (pre > 0) * density, np.maximum(pre, 0) * density
            assert motion.firing[j, k].item() == pytest.approx(active.sum(), abs=1e-4)
            assert motion.activity[j, k].item() == pytest.approx(activity.sum(), abs=1e-6)
            second_moment = (np.maximum(pre, 0) * activity).sum()
            assert variance[j, k].item() == pytest.approx(
                second_moment - activity.sum() ** 2, abs=1e-5 * (1 + second_moment)
            )
            pull = y * slopes[k] / 4
            dw += second * pull * active.sum() * centre[:2]
            ds += second * pull * (active * grid).sum()
            da += pull * activity.sum()
            q += slopes[k] ** 2 / 4 * active.sum()
        drift = (neurons.geometry.basis @ motion.coordinates[j])[:2]
        assert drift.tolist() == pytest.approx(dw.tolist(), abs=3e-4)
        assert motion.perp[j].item() == pytest.approx(ds, abs=3e-4)
        assert motion.second_layer[j].item() == pytest.approx(da, abs=1e-5)
        assert motion.noise[j].item() == pytest.approx(q, abs=1e-4)


def test_first_phase_rate_at_the_start():
    """|sig| grows at |a| / (sqrt(2 pi) |perp|) = 0.399 while |a| = |perp| (theory.md 6)."""
    W, a = np.array([[1e-4, 0, 1.0, 0.0]]), np.array([1.0])
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(4))
    motion = law(neurons, torch.ones(4), QUARTERS)
    positive, negative = neurons.geometry.spans[1], neurons.geometry.spans[0]
    along = (motion.coordinates / neurons.coordinates)[0]
    assert along[positive].item() == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-6)
    assert along[negative].item() == pytest.approx(-1 / math.sqrt(2 * math.pi), rel=1e-6)


def test_second_phase_rate():
    """An aligned neuron grows at sqrt(2)/4 g per unit of the other layer (theory.md 6)."""
    W, a = 3.0 * naive.centres(4)[:1] / math.sqrt(2), np.array([2.0])
    W[0, 2] = 1e-3  # with no noise at all, rounding would decide who fires at 0
    motion = law(Neurons.of(*naive.tensors(W, a), naive.xor(4)), torch.full((4,), 0.5), QUARTERS)
    assert motion.coordinates.norm().item() == pytest.approx(math.sqrt(2) / 4 * 0.5 * 2.0)
    assert motion.second_layer.item() == pytest.approx(math.sqrt(2) / 4 * 0.5 * 3.0, rel=1e-3)


def test_mean_margins_average_over_the_noise():
    W, a = naive.network(5, 12, 4)
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(12))
    margins = mean_margins(neurons, law(neurons, torch.ones(4), QUARTERS).activity)
    f = np.maximum(X @ W.T, 0) @ a / 5
    for k, (centre, y) in enumerate(zip(naive.centres(12), naive.LABELS, strict=True)):
        members = (X[:, :2] == centre[:2]).all(axis=1)
        # Gaussian against Boolean noise
        assert margins[k].item() == pytest.approx((y * f[members]).mean(), abs=0.03)


def gaussian_mean(function, kink):
    """Mean of a function of z ~ N(0, 1) that is 0 before `kink` and smooth behind it."""
    low = min(max(kink, -12.0), 12.0)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    z = low + (12.0 - low) * (nodes + 1) / 2
    values = function(z) * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(weights @ values * (12.0 - low) / 2)


@pytest.mark.parametrize("log_perp", [-2, -1, 0, 1], ids="perp=1e{}".format)
@pytest.mark.parametrize("seed", range(3))
def test_law_to_rounding_against_integrals_from_the_kink_on(seed, log_perp):
    W, a = naive.network(3, 7, seed, perp=10**log_perp)
    rng = np.random.default_rng(seed)
    slopes, shares = rng.uniform(0.1, 1.0, 4), rng.dirichlet(np.ones(4))
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(7))
    motion = law(neurons, *naive.tensors(slopes, shares))
    variance = activity_variance(neurons, motion).numpy()
    for j, (w, second) in enumerate(zip(W, a, strict=True)):
        s = naive.parts(w, second)[2]
        u = naive.centres(7) @ w
        means = [
            [gaussian_mean(g, -v / s) for v in u]
            for g in (np.ones_like, lambda z: z)  # Pr(active) and E[z; active] on each cluster
        ]
        firing, tilt = np.array(means)
        activity = [gaussian_mean(lambda z, v=v, s=s: v + s * z, -v / s) for v in u]
        square = [gaussian_mean(lambda z, v=v, s=s: (v + s * z) ** 2, -v / s) for v in u]
        pull = shares * slopes * naive.LABELS
        drift = (neurons.geometry.basis @ motion.coordinates[j]).numpy()
        close = {"rtol": 1e-9, "atol": 1e-12}
        np.testing.assert_allclose(motion.firing[j].numpy(), firing, **close)
        np.testing.assert_allclose(motion.activity[j].numpy(), activity, **close)
        np.testing.assert_allclose(
            variance[j], square - np.square(activity), rtol=1e-9, atol=1e-12 * max(square)
        )
        np.testing.assert_allclose(drift, second * (pull * firing) @ naive.centres(7), **close)
        np.testing.assert_allclose(motion.perp[j].item(), second * pull @ tilt, **close)
        np.testing.assert_allclose(motion.second_layer[j].item(), pull @ activity, **close)
        np.testing.assert_allclose(motion.noise[j].item(), shares * slopes**2 @ firing, **close)


def test_law_without_noise_is_the_centres():
    """perp = 0: every sample of a cluster is its centre."""
    W, a = naive.network(6, 5, 0, perp=0.0)
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(5))
    motion = law(neurons, torch.ones(4), QUARTERS)
    pre = W @ naive.centres(5).T
    np.testing.assert_array_equal(motion.firing.numpy(), pre > 0)
    np.testing.assert_allclose(motion.activity.numpy(), np.maximum(pre, 0), atol=1e-14)
    assert activity_variance(neurons, motion).abs().max() < 1e-14
    torch.testing.assert_close(
        mean_margins(neurons, motion.activity), neurons.contributions.mean(dim=-2)
    )


@pytest.mark.parametrize("seed", range(5))
def test_exact_direction_is_the_law_with_the_exact_firing(seed):
    """The law's drift on the plane, a sum_c k_c Pr(active on c) c, is exact for any noise."""
    W, a = naive.network(3, 12, seed)
    dW, da = descent(W, a)
    where = [(X[:, :2] == centre[:2]).all(axis=1) for centre in naive.centres(12)]
    firing = np.array([(X[rows] @ W.T > 0).mean(axis=0) for rows in where]).T
    activity = np.array([np.maximum(X[rows] @ W.T, 0).mean(axis=0) for rows in where]).T
    k = np.array(naive.LABELS) / 4
    np.testing.assert_allclose(
        dW[:, :2], (a[:, None] * (k * firing)) @ naive.centres(12)[:, :2], atol=1e-12
    )
    np.testing.assert_allclose(da, activity @ k, atol=1e-12)


def test_law_broadcasts_over_leading_dimensions():
    W, a = naive.tensors(*naive.network(24, 6, 0))
    slopes, shares = naive.tensors(*np.random.default_rng(0).uniform(0.1, 1, (2, 2, 3, 4)))
    table = Neurons.of(W.reshape(2, 3, 4, 6), a.reshape(2, 3, 4), naive.xor(6))
    together = law(table, slopes, shares)
    row = Neurons.of(W.reshape(2, 3, 4, 6)[1, 2], a.reshape(2, 3, 4)[1, 2], naive.xor(6))
    for whole, apart in zip(together, law(row, slopes[1, 2], shares[1, 2]), strict=True):
        torch.testing.assert_close(whole[1, 2], apart)


@pytest.mark.parametrize(
    "activation",
    [torch.tanh, torch.nn.functional.gelu, torch.nn.functional.softplus],
    ids=["tanh", "GELU", "softplus"],
)
def test_means_of_smooth_activations_against_integrals(activation):
    rng = np.random.default_rng(0)
    u, s = rng.uniform(-2, 2, (5, 3)), rng.uniform(0.05, 1.0, 5)
    seen = expectations(*naive.tensors(u, s), activation)
    z = np.linspace(-10, 10, 20_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    at = u[..., None] + s[:, None, None] * z
    act = activation(torch.from_numpy(at)).numpy()
    slope = np.gradient(act, axis=-1) / np.gradient(at, axis=-1)
    expected = (slope, act, slope * z, slope**2, act**2)
    for found, values in zip(seen, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), values @ density, atol=1e-5)


def test_sums_over_nodes_meet_the_closed_form_of_relu():
    u, s = naive.tensors(np.linspace(-1, 1, 9)[:, None], np.full(9, 0.5))
    exact = expectations(u, s, torch.relu)
    summed = expectations(u, s, torch.nn.functional.relu)
    for one, other in zip(exact, summed, strict=True):
        torch.testing.assert_close(one, other, atol=0.07, rtol=0.0)  # NODES at the kink
    torch.testing.assert_close(exact.activity, summed.activity, atol=0.01, rtol=0.0)


def test_biases_shift_the_law_and_move_with_it():
    """A bias is the weight of one more coordinate that is 1 in every input."""
    W, a = naive.network(6, 7, 0)
    b = np.random.default_rng(1).normal(0, 0.5, 6)
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(7))
    motion = law(replace(neurons, bias=torch.from_numpy(b)), torch.ones(4), QUARTERS)
    centres = np.concatenate([naive.centres(7), np.ones((4, 1))], axis=1)
    u = np.concatenate([W, b[:, None]], axis=1) @ centres.T
    firing = torch.special.ndtr(torch.from_numpy(u) / neurons.perp.unsqueeze(-1)).numpy()
    drift = a[:, None] * (firing * naive.LABELS / 4) @ centres
    np.testing.assert_allclose(motion.bias.numpy(), drift[:, -1], atol=1e-12)
    plane = motion.coordinates.numpy() @ naive.xor(7).basis.numpy().T
    np.testing.assert_allclose(plane, drift[:, :-1], atol=1e-12)
