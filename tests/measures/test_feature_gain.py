"""Gains and holders of features against loops over corners and neurons."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import references as naive
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError
from phasetrack.measures.feature_gain import Features, contributions, gains, holders
from phasetrack.model.geometry import Neurons
from phasetrack.tasks import XOR
from phasetrack.tasks.registry import make_task

TERMS = {"-x1 x2": (-1, 1, 2), "x3": (3,), "x1 x3 x4": (1, 3, 4)}


def by_loops(W, a, terms, k, d):
    """Mean over the corners of the first k coordinates of phi f, and each neuron's part of it."""
    parts = np.zeros((len(a), len(terms)))
    for corner in itertools.product((1, -1), repeat=k):
        x = np.zeros(d)
        x[:k] = corner
        for f, term in enumerate(terms.values()):
            phi = math.prod(-1 if i == -1 else corner[i - 1] for i in term)
            for j, (w, second) in enumerate(zip(W, a, strict=True)):
                parts[j, f] += phi * second * max(0.0, float(w @ x)) / len(a) / 2**k
    return parts


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(4, 7))
def test_contributions_are_the_fourier_coefficients(seed, p, d):
    W, a = naive.network(p, d, seed)
    neurons = Neurons.of(*naive.tensors(W, a), make_task("two-xors", d).geometry)
    parts = contributions(neurons, Features.products(d, 4, TERMS))
    expected = by_loops(W, a, TERMS, 4, d)
    np.testing.assert_allclose(parts.numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gains(parts).numpy(), expected.sum(axis=0), rtol=1e-9, atol=1e-12)


def test_gains_of_a_network_that_is_xor():
    """relu(x1 - x2) + relu(x2 - x1) - relu(x1 + x2) - relu(-x1 - x2) = -2 x1 x2."""
    W = torch.tensor([[1.0, -1, 0], [-1, 1, 0], [1, 1, 0], [-1, -1, 0]], dtype=torch.float64)
    a = torch.tensor([1.0, 1, -1, -1], dtype=torch.float64)
    neurons = Neurons.of(W, a, XOR(3).geometry)
    features = Features.products(3, 2, {"xor": (-1, 1, 2), "x1": (1,)})
    parts = contributions(neurons, features)
    assert gains(parts).tolist() == pytest.approx([0.5, 0.0])
    assert parts[:, 0].tolist() == pytest.approx([1 / 8] * 4)


def test_biases_and_scale_count():
    W, a = naive.tensors(*naive.network(5, 4, 1))
    plain = Neurons.of(W, a, XOR(4).geometry)
    bias = torch.linspace(-1, 1, 5, dtype=torch.float64)
    whole = Neurons(
        plain.geometry,
        plain.coordinates,
        plain.perp,
        a,
        bias=bias,
        scale=3.0,
        activation=torch.tanh,
    )
    corners = Features.products(4, 2, {"": (1, 2)}).points
    values = torch.tanh(corners @ W.T + bias) @ a * 3.0
    product = corners[:, 0] * corners[:, 1]
    found = gains(contributions(whole, Features.products(4, 2, {"": (1, 2)})))
    torch.testing.assert_close(found, (values * product).mean().unsqueeze(0))


def test_broadcasts_over_leading_dimensions():
    W, a = naive.tensors(*naive.network(12, 5, 2))
    features = Features.products(5, 2, {"a": (1,), "b": (1, 2)})
    together = Neurons.of(W.reshape(3, 4, 5), a.reshape(3, 4), XOR(5).geometry)
    alone = Neurons.of(W[8:], a[8:], XOR(5).geometry)
    parts = contributions(together, features)
    torch.testing.assert_close(parts[2], contributions(alone, features))
    assert torch.equal(holders(parts)[2], holders(contributions(alone, features)))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=9),
    st.sampled_from([0.3, 0.5, 0.9, 1.0]),
)
def test_holders_are_the_fewest_that_make_the_share(values, share):
    parts = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    chosen = holders(parts, share)[:, 0].tolist()
    useful = [max(v, 0) for v in values]
    held = sum(v for v, taken in zip(useful, chosen, strict=True) if taken)
    assert held >= share * sum(useful) - 1e-9
    fewer = sorted(useful, reverse=True)[: max(sum(chosen) - 1, 0)]
    assert not sum(useful) or sum(fewer) < share * sum(useful)
    assert sum(chosen) == 0 or sum(useful) > 0


def test_features_outside_the_span_are_refused():
    neurons = Neurons.of(*naive.tensors(*naive.network(3, 5, 0)), XOR(5).geometry)
    with pytest.raises(ExpectedError, match=r"features: .* lie outside the signal span"):
        contributions(neurons, Features.products(5, 3, {"x3": (3,)}))
    with pytest.raises(ExpectedError, match="terms: 'x3' names the coordinates"):
        Features.products(5, 2, {"x3": (3,)})
    with pytest.raises(
        ExpectedError, match=r"k: 6 coordinates cannot be enumerated\. Pass k from 1 to 5"
    ):
        Features.products(5, 6, {})
