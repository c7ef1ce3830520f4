"""Active neurons and ranks against loops over singular values, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.measures import effective_ranks as ranks


def by_eigenvalues(matrix):
    """Singular values, falling, by the Gram matrix."""
    return np.sqrt(np.maximum(np.linalg.eigvalsh(matrix @ matrix.T)[::-1], 0))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6), st.floats(0.05, 0.9))
def test_ranks(seed, m, n, share):
    matrix = np.random.default_rng(seed).standard_normal((m, n))
    values = by_eigenvalues(matrix)[: min(m, n)]
    stable = (matrix**2).sum() / values[0] ** 2
    shares = values / values.sum()
    effective = math.exp(-sum(float(q * math.log(q)) for q in shares if q > 0))
    given = torch.from_numpy(matrix)
    assert ranks.stable_rank(given).item() == pytest.approx(stable)
    assert ranks.effective_rank(given).item() == pytest.approx(effective)
    assert ranks.numerical_rank(given, share).item() == sum(values >= share * values[0])


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_ranks_of_orthogonal_directions_count_them(size):
    matrix = size * torch.eye(5, 7, dtype=torch.float64)[:3]
    for rank in (ranks.stable_rank, ranks.effective_rank, ranks.numerical_rank):
        assert rank(matrix).item() == pytest.approx(3)


def test_ranks_of_a_batch_are_undefined_where_a_matrix_is_zero_or_lost():
    matrices = torch.stack([torch.eye(3), torch.zeros(3, 3), torch.full((3, 3), torch.inf)])
    for rank in (ranks.stable_rank, ranks.effective_rank, ranks.numerical_rank):
        found = rank(matrices.double())
        assert found[0].item() == pytest.approx(3) and found[1:].isnan().all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_active_neurons(seed, p, heads, many):
    rng = np.random.default_rng(seed)
    W, A = rng.standard_normal((2, p, 3)), rng.standard_normal((2, heads, p))
    A = A if many else A[:, 0]
    size = [
        [
            math.sqrt(sum(w**2)) * math.sqrt(sum(np.atleast_2d(a)[:, j] ** 2))
            for j, w in enumerate(V)
        ]
        for V, a in zip(W, A, strict=True)
    ]
    sizes = ranks.sizes(torch.from_numpy(W), torch.from_numpy(A))
    assert sizes.numpy() == pytest.approx(np.array(size))
    own = [sum(s >= 0.5 * max(row) for s in row) for row in size]
    assert ranks.active_neurons(sizes, share=0.5).tolist() == own
    fixed = [sum(s >= 0.5 * 1.5 for s in row) for row in size]
    assert ranks.active_neurons(sizes, reference=1.5, share=0.5).tolist() == fixed
    number = [sum(row) ** 2 / sum(s**2 for s in row) for row in size]
    assert ranks.participation(sizes).tolist() == pytest.approx(number)


def test_small_start_is_inactive_by_a_fixed_reference_alone():
    sizes = torch.tensor([[1e-6, 1e-6], [2.0, 1e-6]])
    assert ranks.active_neurons(sizes).tolist() == [2, 1]
    assert ranks.active_neurons(sizes, reference=torch.tensor([1.0, 1.0])).tolist() == [0, 1]


def test_function_ranks_ignore_rescaled_and_split_neurons():
    rng = np.random.default_rng(0)
    W, a = torch.from_numpy(rng.standard_normal((4, 5))), torch.from_numpy(rng.standard_normal(4))
    factors = torch.tensor([0.01, 1.0, 30.0, 7.0], dtype=torch.float64)
    rescaled = (factors.unsqueeze(1) * W, a / factors)
    split = torch.cat([W, W]), torch.cat([0.25 * a, 0.75 * a])
    x = torch.from_numpy(rng.standard_normal((9, 5)))
    for rank in (ranks.stable_rank, ranks.effective_rank):
        expected = rank(ranks.balanced_rows(W, a)).item()
        for V, b in (rescaled, split):
            assert torch.allclose(torch.relu(x @ V.T) @ b, torch.relu(x @ W.T) @ a)
            assert rank(ranks.balanced_rows(V, b)).item() == pytest.approx(expected)
        assert rank(rescaled[0]).item() != pytest.approx(rank(W).item(), rel=0.01)


def test_balanced_linear_network_has_the_roots_of_its_maps_singular_values():
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.standard_normal((4, 3)))
    right, _ = np.linalg.qr(rng.standard_normal((5, 3)))
    roots = np.diag([2.0, 1.0, 0.5])
    A, W = torch.from_numpy(left @ roots), torch.from_numpy(roots @ right.T)
    product = ranks.linear_map(W, A, scale=0.5)
    assert ranks.singular_values(product).tolist()[:3] == pytest.approx([2.0, 0.5, 0.125])
    rows = ranks.singular_values(ranks.balanced_rows(W, A))
    assert rows.tolist() == pytest.approx([2.0, 1.0, 0.5])
    assert ranks.numerical_rank(product, share=0.1).item() == 2
    one = ranks.linear_map(W.expand(2, 3, 5), A[0].expand(2, 3))
    assert one.shape == (2, 1, 5) and torch.allclose(one[1, 0], A[0] @ W)


def test_neuron_without_weights_counts_as_nothing():
    W = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    a = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert ranks.balanced_rows(W, a).tolist() == [[0, 0], [2, 0]]
    assert ranks.active_neurons(ranks.sizes(W, a)).item() == 1


@pytest.mark.parametrize("rank", [None, 1, 2, 9])
def test_span_is_that_of_the_leading_singular_vectors(rank):
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((2, 4, 3))
    found = ranks.spans(torch.from_numpy(matrix), rank).numpy()
    for rows, basis in zip(matrix, found, strict=True):
        vectors = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, : rank or 3]
        assert basis.T @ basis == pytest.approx(vectors @ vectors.T)


def test_rank_of_a_linear_network_grows_by_one_at_each_modes_half_way_time():
    # singular values s, balanced start u: a mode is half grown after log(s / u - 1) / (2 s eta) steps
    modes, u, eta = np.array([4.0, 2.0, 1.0]), 0.001, 0.01
    left, right = (
        np.linalg.qr(np.random.default_rng(k).standard_normal((5, 3)))[0] for k in (0, 1)
    )
    target = left @ np.diag(modes) @ right.T
    A, W = left * math.sqrt(u), right.T * math.sqrt(u)
    halves = np.log(modes / u - 1) / (2 * modes * eta)
    seen = []
    for step in range(400):
        product = ranks.linear_map(torch.from_numpy(W), torch.from_numpy(A))
        own = ranks.singular_values(product)[:3].numpy() if step else np.full(3, u)
        full = own >= 0.5 * modes
        seen.append((int(full.sum()), ranks.numerical_rank(product, share=0.1).item()))
        gap = target - A @ W
        A, W = A + eta * gap @ W.T, W + eta * A.T @ gap
    grown = [next(t for t, (count, _) in enumerate(seen) if count == n) for n in (1, 2, 3)]
    assert grown == pytest.approx(halves, abs=4)
    # between two modes, well after the first and before the second has a tenth of the first
    assert [seen[t][1] for t in (130, 230, 390)] == [1, 2, 3]
    assert seen[0][1] == 3  # the start is as small in every direction
