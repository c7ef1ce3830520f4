"""Fourier measures of first layers against explicit sums, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError
from phasetrack.measures import fourier_power as fourier


def basis(q):
    """Rows constant, cos 1, sin 1, cos 2, ..., each divided by its length, by the definition."""
    rows = [[1.0] * q]
    for k in range(1, q // 2 + 1):
        rows.append([math.cos(2 * math.pi * k * r / q) for r in range(q)])
        if 2 * k != q:
            rows.append([math.sin(2 * math.pi * k * r / q) for r in range(q)])
    table = np.array(rows)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(1, 4))
def test_components_and_powers(seed, q, n):
    table = np.random.default_rng(seed).standard_normal((2, q, n))
    norms = np.array([np.linalg.norm(basis(q) @ rows, axis=1) for rows in table])
    found = fourier.component_norms(torch.from_numpy(table))
    assert found.numpy() == pytest.approx(norms)
    assert found.square().sum(dim=1).numpy() == pytest.approx((table**2).sum(axis=(1, 2)))
    powers = [
        [sum(row[1 + 2 * (k - 1) : 1 + 2 * k] ** 2) for k in range(1, q // 2 + 1)] for row in norms
    ]
    power = fourier.frequency_power(torch.from_numpy(table))
    assert power.numpy() == pytest.approx(np.array(powers))
    each = [
        [[sum((basis(q)[1 + 2 * k : 3 + 2 * k] @ w) ** 2) for k in range(q // 2)] for w in rows.T]
        for rows in table
    ]
    neurons = fourier.neuron_power(torch.from_numpy(table))
    assert neurons.numpy() == pytest.approx(np.array(each))
    own = [sum(max(row) for row in rows) / sum(map(sum, rows)) for rows in each]
    assert fourier.specialisation(neurons).tolist() == pytest.approx(own)
    share = [sum(sorted(row)[-2:]) / sum(row) for row in powers]
    assert fourier.leading_share(power, 2).tolist() == pytest.approx(share)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=9).filter(lambda c: max(c) > 1e-3))
def test_gini_is_half_the_relative_mean_difference(values):
    n = len(values)
    differences = sum(abs(one - other) for one in values for other in values)
    expected = differences / (2 * n * sum(values))
    found = fourier.gini(torch.tensor(values, dtype=torch.float64)).item()
    assert found == pytest.approx(expected, abs=1e-12)
    ordered = sorted(values)
    listed = 1 - 2 * sum(
        c / sum(values) * (n - k + 0.5) / n for k, c in enumerate(ordered, start=1)
    )
    assert found == pytest.approx(listed, abs=1e-12)


def test_pure_frequencies_hold_all_power_and_white_tables_their_share():
    q, turn = 31, 2 * np.pi * np.arange(31) / 31
    waves = np.stack([np.cos(3 * turn), 2 * np.sin(3 * turn + 1), np.cos(7 * turn)], axis=1)
    power = fourier.frequency_power(torch.from_numpy(waves + 5.0))
    assert power.argsort(descending=True)[:2].tolist() == [2, 6]
    assert fourier.leading_share(power, 2).item() == pytest.approx(1)
    assert fourier.leading_share(power, 1).item() == pytest.approx(5 / 6)
    white = torch.from_numpy(np.random.default_rng(0).standard_normal((q, 2000)))
    assert fourier.leading_share(fourier.frequency_power(white), 3).item() == pytest.approx(
        3 / 15, rel=0.1
    )
    pure, flat = (
        fourier.gini(fourier.component_norms(t)).item() for t in (torch.from_numpy(waves), white)
    )
    assert pure > 0.85 and flat < 0.05


def test_neurons_of_one_frequency_each_are_specialised_though_together_they_use_all():
    turn = 2 * np.pi * np.arange(31) / 31
    waves = np.stack([np.cos(k * turn + k) for k in range(1, 16)], axis=1)
    assert fourier.specialisation(
        fourier.neuron_power(torch.from_numpy(waves))
    ).item() == pytest.approx(1)
    power = fourier.frequency_power(torch.from_numpy(waves))
    assert fourier.leading_share(power, 3).item() == pytest.approx(3 / 15)
    white = torch.from_numpy(np.random.default_rng(0).standard_normal((31, 2000)))
    harmonic = sum(1 / k for k in range(1, 16)) / 15
    found = fourier.specialisation(fourier.neuron_power(white)).item()
    assert found == pytest.approx(harmonic, rel=0.05)


def test_order_of_residues_decides():
    turn = 2 * np.pi * np.arange(31) / 31
    wave = np.cos(3 * turn)[:, None]
    mixed = np.random.default_rng(0).permutation(wave)
    shares = [
        fourier.leading_share(fourier.frequency_power(torch.from_numpy(t)), 1).item()
        for t in (wave, mixed)
    ]
    assert shares[0] == pytest.approx(1) and shares[1] < 0.5


def test_first_layer_splits_by_place():
    W = torch.arange(2 * 3 * 10, dtype=torch.float64).view(2, 3, 10)
    tables = fourier.residue_tables(W, 5)
    assert tables.shape == (2, 2, 5, 3)
    assert tables[1, 1, 4, 2] == W[1, 2, 9] and tables[0, 0, 3, 1] == W[0, 1, 3]
    with pytest.raises(ExpectedError, match="10 inputs are not one-hot codes of 4 residues"):
        fourier.residue_tables(W, 4)


def test_squared_norm_of_a_batch():
    W, a = torch.full((2, 3, 4), 2.0), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    assert fourier.squared_norm(W, a, rank=1).tolist() == [48 + 14, 48 + 1]
    assert fourier.squared_norm(W, a).item() == 96 + 15
    assert fourier.squared_norm(torch.tensor([3.0, 1.0]), rank=1).tolist() == [9, 1]


def test_no_power_is_undefined():
    table = torch.ones(5, 2, dtype=torch.float64) * 0
    assert fourier.leading_share(fourier.frequency_power(table), 1).isnan()
    assert fourier.specialisation(fourier.neuron_power(table)).isnan()
    assert fourier.gini(torch.zeros(3)).isnan()
