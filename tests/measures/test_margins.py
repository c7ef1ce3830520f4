"""Margins against loops over neurons and samples."""

import math

import numpy as np
import pytest
import torch
from helpers import references as naive
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.measures import margins
from phasetrack.model.geometry import Neurons


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(2, 9))
def test_clean_margins_are_label_times_output_at_the_centres(seed, p, d):
    W, a = naive.network(p, d, seed)
    tensors, geometry = naive.tensors(W, a), naive.xor(d)
    assert margins.clean_margins(*tensors, geometry).tolist() == pytest.approx(
        naive.margins(W, a, d)
    )
    assert margins.clean_margins(*tensors, geometry, scale=2.0).tolist() == pytest.approx(
        naive.margins(W, a, d, scale=2.0)
    )


def test_by_hand():
    W, a = torch.tensor([[1.0, -1.0, 5.0], [0.5, 0.5, 0.0]]), torch.tensor([2.0, -4.0])
    # w1 . mu1 = 2, w2 . mu2 = 1; f = (2 * 2) / 2 at mu1, (-4 * 1) / 2 at mu2, 0 at the others
    assert margins.clean_margins(W, a, naive.xor(3)).tolist() == pytest.approx(
        [2.0, 0.0, 2.0, 0.0], abs=1e-6
    )


def test_biases_count():
    W, a = naive.network(3, 4, 0)
    bias, output_bias = np.array([0.3, -0.2, 0.1]), 0.7
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(4))
    neurons = Neurons(
        neurons.geometry,
        neurons.coordinates,
        neurons.perp,
        neurons.second_layer,
        bias=torch.from_numpy(bias),
        output_bias=torch.tensor(output_bias),
        scale=0.5,
    )
    expected = [
        y * (0.5 * (a * np.maximum(0, W @ c + bias)).sum() + output_bias)
        for c, y in zip(naive.centres(4), naive.LABELS, strict=True)
    ]
    assert margins.clean_margins_of(neurons).tolist() == pytest.approx(expected)


def test_broadcasts_over_leading_dimensions():
    W, a = naive.tensors(*naive.network(12, 5, 2))
    together = margins.clean_margins(W.reshape(3, 4, 5), a.reshape(3, 4), naive.xor(5))
    torch.testing.assert_close(together[2], margins.clean_margins(W[8:], a[8:], naive.xor(5)))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 200))
def test_empirical_margins_are_means_and_low_order_statistics(seed, m):
    rng = np.random.default_rng(seed)
    outputs, labels, clusters = (
        rng.standard_normal(m),
        rng.choice([-1.0, 1.0], m),
        rng.integers(0, 4, m),
    )
    means, lows = margins.empirical_margins(*naive.tensors(outputs * labels, clusters), 4)
    for cluster in range(4):
        members = sorted((outputs * labels)[clusters == cluster])
        if not members:
            assert means[cluster].isnan() and lows[cluster].isnan()
            continue
        assert means[cluster].item() == pytest.approx(np.mean(members))
        assert lows[cluster].item() == members[max(1, round(0.05 * len(members))) - 1]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([1.0, 2.0, 4.0], 0.25),
        ([-1.0, 2.0], -0.5),
        ([-1.0, -2.0], math.nan),
        ([0.0, 0.0], math.nan),
    ],
)
def test_balance_is_min_over_max_where_a_margin_is_positive(values, expected):
    assert margins.balance(torch.tensor(values)).item() == pytest.approx(expected, nan_ok=True)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.permutations(range(7)), st.permutations(range(5)))
def test_clean_margins_know_no_order_of_neurons_and_no_noise(seed, rows, columns):
    W, a = naive.network(7, 7, seed)
    rng = np.random.default_rng(seed)
    moved, later = W[rows], a[list(rows)]
    moved[:, 2:] = moved[:, 2:][:, columns] * rng.choice([-1.0, 1.0], 5)
    expected = margins.clean_margins(*naive.tensors(W, a), naive.xor(7))
    torch.testing.assert_close(
        margins.clean_margins(*naive.tensors(moved, later), naive.xor(7)), expected
    )
    # the centres have no part outside the span: margins do not depend on perp at all
    moved[:, 2:] = rng.standard_normal((7, 5))
    torch.testing.assert_close(
        margins.clean_margins(*naive.tensors(moved, later), naive.xor(7)), expected
    )


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.permutations(range(60)))
def test_empirical_margins_know_no_order_of_samples(seed, order):
    rng = np.random.default_rng(seed)
    values, clusters = naive.tensors(rng.standard_normal(60), rng.integers(0, 3, 60))
    one = margins.empirical_margins(values, clusters, 3)
    other = margins.empirical_margins(values[order], clusters[order], 3)
    torch.testing.assert_close(one, other, equal_nan=True)


def test_an_empty_cluster_has_no_margin():
    means, lows = margins.empirical_margins(torch.tensor([2.0, 4.0]), torch.tensor([0, 2]), 4)
    torch.testing.assert_close(means, torch.tensor([2, math.nan, 4, math.nan]), equal_nan=True)
    torch.testing.assert_close(lows, means, equal_nan=True)


def test_balance_of_each_network_apart():
    together = margins.balance(torch.tensor([[1.0, 2.0], [-3.0, -1.0], [math.nan, 1.0]]))
    expected = torch.tensor([0.5, math.nan, math.nan])
    torch.testing.assert_close(together, expected, equal_nan=True)
