"""Overlaps with given directions against loops and projections, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.measures import direction_overlap as overlap


def cosine(w, u):
    return float(w @ u / np.sqrt((w @ w) * (u @ u)))


def projected_share(W, u):
    """Share of u in the row span of W, by least squares."""
    fit = W.T @ np.linalg.lstsq(W.T, u, rcond=None)[0]
    return float(fit @ fit / (u @ u))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 3), st.integers(2, 7))
def test_overlaps_and_shares(seed, p, k, d):
    rng = np.random.default_rng(seed)
    W, directions = rng.standard_normal((p, d)), 3 * rng.standard_normal((k, d))
    given = torch.from_numpy(W), torch.from_numpy(directions)
    expected = [[cosine(w, u) for u in directions] for w in W]
    assert overlap.cosines(*given).numpy() == pytest.approx(np.array(expected))
    assert overlap.overlaps(*given).numpy() == pytest.approx(np.abs(expected).max(axis=0))
    shares = [projected_share(W, u) for u in directions]
    assert overlap.recovered(*given).numpy() == pytest.approx(np.array(shares), abs=1e-12)


def test_leading_dimensions_are_a_batch():
    rng = np.random.default_rng(0)
    W = torch.from_numpy(rng.standard_normal((2, 3, 4, 6)))
    directions = torch.from_numpy(rng.standard_normal((2, 6)))
    for measure in (overlap.cosines, overlap.overlaps, overlap.recovered):
        whole = measure(W, directions)
        assert torch.allclose(whole[1, 2], measure(W[1, 2], directions))
        each = directions.expand(2, 3, 2, 6)
        assert torch.allclose(measure(W, each), whole)


def test_leading_span_sees_a_signal_in_many_neurons():
    rng = np.random.default_rng(1)
    W = 0.1 * rng.standard_normal((40, 8))
    W[:, 0] += 3 * rng.standard_normal(40)
    given = torch.from_numpy(W), torch.eye(8, dtype=torch.float64)[:2]
    assert overlap.recovered(*given).tolist() == pytest.approx([1, 1])  # 40 neurons span all
    learned, other = overlap.recovered(*given, rank=1).tolist()
    leading = np.linalg.svd(W)[2][0]
    assert [learned, other] == pytest.approx([leading[0] ** 2, leading[1] ** 2])
    assert learned > 0.99 and other < 0.01


def test_repeated_neurons_span_no_more_than_one():
    W = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64).repeat(5, 1)
    shares = overlap.recovered(W, torch.eye(3, dtype=torch.float64))
    assert shares.tolist() == pytest.approx([0.5, 0.5, 0.0])


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e200])
def test_size_of_neurons_does_not_matter(size):
    W = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    directions = torch.eye(2, dtype=torch.float64)
    assert overlap.overlaps(size * W, directions).tolist() == pytest.approx([0.6, 0.8])
    assert overlap.recovered(size * W, directions).tolist() == pytest.approx([0.36, 0.64])


def test_no_weights_overlap_with_nothing_and_lost_ones_are_undefined():
    directions = torch.eye(2, dtype=torch.float64)
    W = torch.zeros(2, 3, 2, dtype=torch.float64)
    W[1, 0, 0] = torch.nan
    assert overlap.overlaps(W, directions)[0].tolist() == [0, 0]
    assert overlap.recovered(W, directions)[0].tolist() == [0, 0]
    assert overlap.recovered(W, directions)[1].isnan().all()
    assert overlap.overlaps(W, directions)[1].isnan().all()


@pytest.mark.parametrize("dim, width, count", [(8, 4, 1), (64, 32, 2), (400, 10, 3)])
def test_random_neurons_pass_the_chance_level_as_rarely_as_it_says(dim, width, count):
    rng = np.random.default_rng(2)
    W = torch.from_numpy(rng.standard_normal((400, width, dim)))
    seen = overlap.overlaps(W, torch.eye(dim, dtype=torch.float64)[:count]).amax(dim=-1)
    above = float((seen > overlap.chance(width, dim, count, probability=0.2)).double().mean())
    assert above <= 0.2
    # nor is it far above the largest of them
    assert overlap.chance(width, dim, count) < 1.4 * float(seen.max()) or dim == 8
