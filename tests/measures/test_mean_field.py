"""The law of one neuron: against all 2^12 inputs, and against numerical integrals."""

import math

import naive
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.geometry import Neurons
from phasetrack.measures.mean_field import activity_variance, law, mean_margins

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
