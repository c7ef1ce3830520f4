"""NC1 to NC4 against the definitions of Papyan, Han and Donoho by loops, and on features collapsed by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError
from phasetrack.measures import neural_collapse as collapse


def simplex(K, p, rng):
    """A simplex equiangular tight frame: K rows in R^p, in a random position."""
    rotation, _ = np.linalg.qr(rng.standard_normal((p, p)))
    return (np.eye(K) - 1 / K) @ rotation[:K]


def definitions(h, y, A, bias):
    """The figures' quantities of the paper, for as many samples in each class."""
    K, (m, p) = len(A), h.shape
    mu = np.array([h[y == c].mean(axis=0) for c in range(K)])
    g = h.mean(axis=0)
    Sw, Sb = np.zeros((p, p)), np.zeros((p, p))
    for row, c in zip(h, y, strict=True):
        Sw += np.outer(row - mu[c], row - mu[c]) / m
    for row in mu:
        Sb += np.outer(row - g, row - g) / K
    norms = [np.linalg.norm(row - g) for row in mu]
    cosines = [
        (mu[c] - g) @ (mu[e] - g) / (norms[c] * norms[e])
        for c in range(K)
        for e in range(K)
        if c != e
    ]
    heads, centred = A / np.linalg.norm(A), (mu - g) / np.linalg.norm(mu - g)
    decided = (h @ A.T + bias).argmax(axis=1)
    nearest = [int(np.argmin([np.linalg.norm(row - c) for c in mu])) for row in h]
    return [
        np.trace(Sw @ np.linalg.pinv(Sb, rcond=1e-10)) / K,
        np.std(norms) / np.mean(norms),
        np.std(cosines),
        np.mean(np.abs(np.array(cosines) + 1 / (K - 1))),
        np.linalg.norm(heads - centred) ** 2,
        np.mean(decided != nearest),
    ]


def measured(h, y, A, bias):
    h, y, A, bias = (torch.from_numpy(np.asarray(table)) for table in (h, y, A, bias))
    means = collapse.class_means(h, y, A.shape[-2])
    readings = [
        collapse.within_over_between(h, y, means),
        collapse.norm_spread(means.centred),
        collapse.angle_spread(means.centred),
        collapse.simplex_distance(means.centred),
        collapse.duality_gap(A, means),
        collapse.centre_disagreement(h, h @ A.transpose(-1, -2) + bias, means),
    ]
    return torch.stack(readings, dim=-1).numpy()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31),
    st.integers(2, 5),
    st.integers(2, 8),
    st.integers(1, 4),
    st.sampled_from([0.0, 100.0]),
)
def test_against_the_definitions(seed, K, p, each, offset):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(K), each))
    h = rng.standard_normal((K, p))[y] + rng.standard_normal((len(y), p)) + offset
    A, bias = rng.standard_normal((K, p)), rng.standard_normal(K)
    expected = definitions(h, y, A, bias)
    assert measured(h, y, A, bias) == pytest.approx(np.array(expected), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("K, p", [(2, 3), (3, 3), (4, 10), (10, 32)])
@pytest.mark.parametrize("counts", ["equal", "unequal"])
def test_features_collapsed_by_hand_read_zero(K, p, counts):
    rng = np.random.default_rng(0)
    frame = simplex(K, p, rng)
    y = np.repeat(np.arange(K), 5 if counts == "equal" else np.arange(K) + 1)
    h = 3 * frame[y] + rng.standard_normal(p)  # a global mean that is not 0
    bias = -(0.5 * frame) @ h.mean(axis=0)
    if counts == "unequal":
        bias = -(0.5 * frame) @ (h - 3 * frame[y])[0]
    assert measured(h, y, 0.5 * frame, bias) == pytest.approx(np.zeros(6), abs=1e-10)


def test_within_class_spread_in_closed_form():
    rng = np.random.default_rng(1)
    K, p, e = 4, 6, 0.1
    frame = simplex(K, p, rng)
    directions = np.linalg.svd(frame)[2][: K - 1]
    # of each class a pair of samples at +-e along each of the K - 1 directions of the means
    steps = np.concatenate([e * directions, -e * directions])
    h = (frame[:, None] + steps[None]).reshape(-1, p)
    y = torch.arange(K).repeat_interleave(len(steps))
    features = torch.from_numpy(h)
    means = collapse.class_means(features, y, K)
    # Sw has e^2 / (K - 1) in each direction and Sb 1 / K, so that the trace is K e^2
    found = collapse.within_over_between(features, y, means).item()
    assert found == pytest.approx(e**2)
    # spread that the means do not see is left out
    outside = features + torch.from_numpy(
        np.linalg.svd(frame)[2][-1] * rng.standard_normal((len(h), 1))
    )
    within = collapse.within_over_between(outside, y, means).item()
    assert within == pytest.approx(found)


def test_classes_count_alike_whatever_their_samples():
    rng = np.random.default_rng(2)
    h, y = rng.standard_normal((9, 5)), np.repeat(np.arange(3), 3)
    A, bias = rng.standard_normal((3, 5)), np.zeros(3)
    more = np.concatenate([h, h[:3], h[:3]]), np.concatenate([y, y[:3], y[:3]])
    assert measured(*more, A, bias)[:5] == pytest.approx(measured(h, y, A, bias)[:5])


def test_scale_and_shift_of_features_do_not_matter():
    rng = np.random.default_rng(3)
    h, y = rng.standard_normal((12, 5)), np.tile(np.arange(3), 4)
    A, bias = rng.standard_normal((3, 5)), np.zeros(3)
    plain, moved = measured(h, y, A, bias), measured(1e-6 * h + 2.0, y, A, bias)
    assert moved[:5] == pytest.approx(plain[:5], rel=1e-6)


def test_leading_dimensions_are_a_batch_with_lost_and_degenerate_networks():
    rng = np.random.default_rng(4)
    h, y = rng.standard_normal((3, 12, 5)), np.tile(np.arange(3), 4)
    A, bias = rng.standard_normal((3, 3, 5)), np.zeros(3)
    h[1, 0, 0] = np.nan
    h[2] = 1.0
    found = measured(h, y, A, bias)
    assert found[0] == pytest.approx(measured(h[0], y, A[0], bias))
    assert np.isnan(found[1]).all()
    assert np.isnan(found[2][:5]).all()


@pytest.mark.parametrize("labels, K", [([0, 0, 1, 1], 3), ([0, 1, 2, 2], 2), ([0, 0], 1)])
def test_class_without_samples_is_refused(labels, K):
    with pytest.raises(ExpectedError, match="labels"):
        collapse.class_means(torch.zeros(len(labels), 2), torch.tensor(labels), K)
