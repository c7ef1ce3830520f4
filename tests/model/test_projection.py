"""Weights seen through a span, against float64 done plainly."""

import numpy as np
import pytest
import torch
from helpers.torch_settings import threads
from hypothesis import given
from hypothesis import strategies as st

from phasetrack.model.projection import Projection, random_span, with_control


def span(d, columns, k, seed):
    """An orthonormal basis that lies in some of d coordinates."""
    rng = np.random.default_rng(seed)
    basis = np.zeros((d, k))
    basis[columns] = np.linalg.qr(rng.standard_normal((len(columns), k)))[0]
    return basis


@given(
    st.sampled_from(
        [
            (12, [0, 1], 2),  # fills its coordinates, at an end
            (12, [5, 6], 2),  # in the middle
            (12, [4, 5], 1),  # does not fill them
            (20, [3, 9, 17], 2),  # apart from each other
            (20, [3, 9, 17], 3),
            (6, [0, 1], 2),  # no small part of so few
            (9, list(range(9)), 4),
        ]
    ),
    st.integers(0, 9),
)
def test_parts_of_each_row(case, seed):
    d, columns, k = case
    basis, control = span(d, columns, k, seed), random_span(d, k).numpy()
    W = np.random.default_rng(seed).standard_normal((2, 5, d))
    projection = Projection(torch.from_numpy(basis), torch.from_numpy(control))
    seen = projection.coordinates(torch.from_numpy(W))
    expected = np.concatenate([W @ basis, W @ control], axis=-1)
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-12)
    rest = np.linalg.norm(W - W @ basis @ basis.T, axis=-1)
    distance = projection.distance(torch.from_numpy(W), seen)
    np.testing.assert_allclose(distance.numpy(), rest, rtol=1e-10, atol=1e-12)


@given(st.sampled_from([[5, 6], [3, 9], list(range(12))]), st.integers(1, 9), st.integers(1, 40))
def test_a_network_reads_the_same_to_the_bit_whatever_stands_beside_it(columns, count, p):
    basis = torch.from_numpy(span(12, columns, 2, seed=1)).float()
    projection = with_control(basis)
    W = torch.randn(count, p, 12, generator=torch.Generator().manual_seed(p))
    together = projection.coordinates(W)
    lengths = projection.distance(W, together)
    for network, seen, rest in zip(W, together, lengths, strict=True):
        alone = projection.coordinates(network.clone())
        assert torch.equal(alone, seen)
        assert torch.equal(projection.distance(network.clone(), alone), rest)


@pytest.mark.parametrize("d, p", [(1000, 31), (1000, 1), (64, 33), (7, 1)])
@pytest.mark.parametrize("k", [2, 4])
def test_so_it_does_where_threads_divide_the_sums(d, p, k):
    with threads(2):
        projection = with_control(torch.from_numpy(span(d, list(range(k)), k, seed=1)).float())
        W = torch.randn(8, p, d, generator=torch.Generator().manual_seed(p))
        coordinates, lengths = projection.parts(W)
        for network, seen, rest in zip(W, coordinates, lengths, strict=True):
            alone = projection.parts(network.clone())
            assert torch.equal(alone[0], seen) and torch.equal(alone[1], rest)


@pytest.mark.parametrize("columns", [[5, 6], [3, 9], list(range(12))], ids=str)
def test_the_deciding_coordinates_are_a_copy(columns):
    rows = torch.arange(36.0).view(3, 12)
    inside = Projection(torch.from_numpy(span(12, columns, 2, seed=0))).inside(rows)
    expected = rows[:, columns].clone()
    rows.zero_()
    assert torch.equal(inside, expected)


def test_what_is_left_keeps_its_digits_where_the_signal_dominates():
    basis = torch.eye(16, dtype=torch.float32)[:, :2]
    W = torch.zeros(1, 16)
    W[0, 0], W[0, 7] = 1e4, 1e-3
    projection = Projection(basis)
    distance = projection.distance(W, projection.coordinates(W))
    assert distance.item() == pytest.approx(1e-3, rel=1e-6)


def test_the_control_is_the_same_for_all_runs():
    one = random_span(7, 2)
    assert torch.equal(one, random_span(7, 2))
    torch.testing.assert_close(one.T @ one, torch.eye(2, dtype=torch.float64))
