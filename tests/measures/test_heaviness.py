"""Signal-heaviness against its definition: a search over every set of neurons."""

import math

import numpy as np
import pytest
import torch
from helpers import references as naive
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.errors import ExpectedError
from phasetrack.measures import heaviness
from phasetrack.measures.heaviness import certificate, heavy_mass, needed_zeta, signal_share_of
from phasetrack.model.geometry import ClusterGeometry, Neurons

READINGS = (certificate, heavy_mass)
XOR6 = naive.xor(6)


def mostly_served(p, seed, log_a, log_perp):
    """A random network with a neuron of the right sign near each centre: often a finite zeta*."""
    W, a = naive.network(p, 6, seed, perp=10**log_perp)
    W[:4, :2] = naive.centres(6)[:, :2] + 0.3 * W[:4, :2]
    a = 10**log_a * np.abs(a)
    a[2:4] *= -1
    return W, a


@pytest.mark.parametrize("seed", range(5))
def test_a_neuron_serves_the_cluster_to_whose_margin_it_adds_most(seed):
    W, a = naive.network(16, 6, seed)
    gains = np.maximum(W @ naive.centres(6).T, 0) * a[:, None] * np.array(naive.LABELS)
    expected = np.where(gains.max(axis=1) > 0, gains.argmax(axis=1), -1)
    found = heaviness.served_of(Neurons.of(*naive.tensors(W, a), XOR6))
    assert found.tolist() == expected.tolist() and len(set(found.tolist())) == 4


def test_of_three_classes_a_neuron_serves_that_of_its_direction():
    geometry = ClusterGeometry(2 * torch.eye(3), [0, 1, 2])
    W = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [-1, 0, 0]])
    head = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]).T
    # the fourth tells another class at its cluster, the fifth is active nowhere
    assert heaviness.served_of(Neurons.of(W, head, geometry)).tolist() == [0, 1, 2, -1, -1]


@given(
    st.integers(4, 7),
    st.integers(0, 2**31),
    st.floats(-1.5, 1.5),
    st.floats(-1, 1),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from(["function", "paper"]),
)
def test_certificate_is_the_best_of_all_sets(p, seed, log_a, log_perp, H, mass):
    W, a = mostly_served(p, seed, log_a, log_perp)
    measured = certificate(*naive.tensors(W, a), XOR6, H, mass=mass).item()
    assert measured == pytest.approx(naive.certificate(W, a, H, mass), rel=1e-9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(-4, 4))
@pytest.mark.parametrize("reading", READINGS, ids=lambda f: f.__name__)
def test_the_split_of_a_neurons_scale_between_the_layers_changes_nothing(reading, seed, spread):
    W, a = mostly_served(9, seed, 0.5, -0.5)
    c = 10 ** np.random.default_rng(seed).uniform(-abs(spread), abs(spread), 9)
    one, other = naive.tensors(W, a), naive.tensors(c[:, None] * W, a / c)
    torch.testing.assert_close(reading(*one, XOR6), reading(*other, XOR6))


def test_both_masses_agree_where_layers_are_balanced():
    W, a = mostly_served(8, 2, 0.5, -0.5)
    a = np.sign(a) * np.linalg.norm(W, axis=1)
    both = [certificate(*naive.tensors(W, a), XOR6, mass=m).item() for m in ("function", "paper")]
    assert both[0] == pytest.approx(both[1])
    with pytest.raises(ExpectedError, match="'weight' is not a mass"):
        certificate(*naive.tensors(W, a), XOR6, mass="weight")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.permutations(range(4)), st.permutations(range(9)))
@pytest.mark.parametrize("reading", READINGS, ids=lambda f: f.__name__)
def test_invariant_under_the_symmetries_of_the_problem(reading, seed, columns, rows):
    W, a = mostly_served(9, seed, 0.5, -0.5)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], 4)
    moved = W[rows].copy()
    moved[:, 2:] = moved[:, 2:][:, columns] * signs  # a signed permutation without signal
    one = reading(*naive.tensors(W, a), XOR6)
    other = reading(*naive.tensors(moved, a[list(rows)]), XOR6)
    torch.testing.assert_close(one, other)


def test_needed_zeta_by_hand():
    W = torch.tensor([[1.0, -1.0, 3.0, 4.0], [1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    geometry = naive.xor(4)
    expected = [5 / math.sqrt(2), 1 / 3, math.inf]
    assert needed_zeta(W, torch.tensor([1.0, -1.0, 1.0]), geometry).tolist() == pytest.approx(
        expected
    )
    # H weighs perp by exp(6H); a zero second layer counts as positive
    (heavier,) = needed_zeta(W[:1], torch.zeros(1), geometry, H=0.5).tolist()
    assert heavier == pytest.approx(math.exp(3) * 5 / math.sqrt(2))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(-2, 0))
def test_heavy_mass_is_the_share_of_the_products_of_both_layers(seed, log_perp):
    W, a = naive.network(20, 6, seed, perp=10**log_perp)
    heavy = [naive.needed_zeta(w, second) <= 0.5 for w, second in zip(W, a, strict=True)]
    sizes = np.abs(a) * np.linalg.norm(W, axis=1)
    expected = sizes[np.array(heavy)].sum() / sizes.sum()
    assert heavy_mass(*naive.tensors(W, a), XOR6).item() == pytest.approx(expected)


def test_a_cluster_without_neurons_makes_zeta_infinite():
    W, a = naive.centres(6) + 0.01, np.array([1.0, 1.0, -1.0, -1.0])
    assert certificate(*naive.tensors(W, a), XOR6).isfinite()
    assert certificate(*naive.tensors(W[1:], a[1:]), XOR6) == math.inf


def test_zero_and_undefined_networks():
    zero = torch.zeros(3, 6), torch.zeros(3)
    assert certificate(*zero, XOR6) == math.inf
    assert heavy_mass(*zero, XOR6).isnan()
    W, a = naive.tensors(*naive.network(5, 6, 0))
    W[2, 3] = math.nan
    assert certificate(W, a, XOR6).isnan()


def test_a_perfect_network_needs_almost_nothing():
    W = torch.from_numpy(naive.centres(6))
    a = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    assert certificate(W, a, XOR6).item() == pytest.approx(0, abs=1e-12)


def test_broadcasts_over_leading_dimensions():
    W, a = naive.tensors(*naive.network(36, 6, 1))
    W, a = W.reshape(3, 2, 6, 6), a.reshape(3, 2, 6)
    for reading in (*READINGS, needed_zeta):
        together = reading(W, a, XOR6)
        apart = torch.stack([reading(w, b, XOR6) for w, b in zip(W[1], a[1], strict=True)])
        torch.testing.assert_close(together[1], apart)


def test_float32_weights_are_close_to_float64():
    W, a = naive.tensors(*mostly_served(8, 3, 0.5, -1.0))
    wide, narrow = certificate(W, a, XOR6), certificate(W.float(), a.float(), XOR6)
    assert narrow.item() == pytest.approx(wide.item(), rel=1e-5)


def test_over_budget_the_best_threshold_set_is_an_upper_bound(monkeypatch):
    W, a = naive.tensors(*mostly_served(8, 5, 1.0, 0.0))
    exact = certificate(W, a, XOR6)
    monkeypatch.setattr(heaviness, "SEARCH_BUDGET", 1)
    (found,) = heaviness.certificates_of(Neurons.of(W, a, XOR6), masses=("function",))
    assert found.zeta >= exact and found.is_bound
    low, high = heaviness.certificate_bounds(W, a, XOR6)
    assert low <= exact * (1 + 1e-9) and exact <= high * (1 + 1e-9) and high <= found.zeta


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(3, 7), st.integers(0, 2**31), st.floats(-1.5, 1))
def test_certificate_where_classes_share_directions(p, seed, log_perp):
    """AND: no opposing part, and a neuron that helps one cluster may hurt another (contested)."""
    centres, labels = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]), [1, -1, -1, -1]
    rng = np.random.default_rng(seed)
    W, a = rng.standard_normal((p, 4)), rng.standard_normal(p)
    W[:, 2:] *= 10**log_perp
    W[: min(p, 4), :2] = centres[:p] + 0.2 * W[: min(p, 4), :2]
    a[: min(p, 4)] = np.array([3, -1, -1, -1])[:p] * np.abs(a[: min(p, 4)])
    needed = np.linalg.norm(W[:, 2:], axis=1) / np.linalg.norm(W[:, :2], axis=1)
    best, sizes = math.inf, np.abs(a) * np.linalg.norm(W, axis=1)
    for chosen in range(1, 2**p):
        inside = [j for j in range(p) if chosen >> j & 1]
        gains = np.maximum(W[inside, :2] @ centres.T, 0) * a[inside, None] * labels
        margin = gains.sum(axis=0).min() / p
        rest = (sizes.sum() - sizes[inside].sum()) / p
        if margin > 0:
            best = min(best, max(needed[inside].max(), rest / margin))
    geometry = ClusterGeometry(np.hstack([centres, np.zeros((4, 2))]).tolist(), labels)
    assert certificate(*naive.tensors(W, a), geometry).item() == pytest.approx(best, rel=1e-9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.permutations(range(4)), st.permutations(range(9)))
def test_each_neuron_keeps_its_zeta_under_the_symmetries(seed, columns, rows):
    W, a = mostly_served(9, seed, 0.5, -0.5)
    moved = W.copy()
    moved[:, 2:] = W[:, 2:][:, columns] * np.random.default_rng(seed).choice([-1.0, 1.0], 4)
    one = needed_zeta(*naive.tensors(W, a), XOR6)[list(rows)]
    other = needed_zeta(*naive.tensors(moved[rows], a[list(rows)]), XOR6)
    torch.testing.assert_close(one, other)
    share = signal_share_of(Neurons.of(*naive.tensors(moved[rows], a[list(rows)]), XOR6))
    assert share.item() == pytest.approx((W[:, :2] ** 2).sum() / (W**2).sum())


@pytest.mark.parametrize("layer", ["W", "a"])
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["NaN", "inf"])
def test_a_weight_that_is_no_number_leaves_no_certificate(layer, value):
    W, a = naive.tensors(*mostly_served(8, 0, 0.5, -0.5))
    assert certificate(W, a, XOR6).isfinite()
    (W[5] if layer == "W" else a)[3] = value
    assert certificate(W, a, XOR6).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_small_remainder_beside_large_neurons_keeps_its_digits(dtype):
    """zeta* = (s/3) / (1/3), the left-out neuron's, while the two others need nothing."""
    geometry = ClusterGeometry([[1, 0, 0], [0, 1, 0]], [1, -1])
    small = 1e-4 if dtype == torch.float32 else 1e-9
    W = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, small]], dtype=dtype)
    a = torch.tensor([1, -1, 1], dtype=dtype)
    assert certificate(W, a, geometry).item() == pytest.approx(small, rel=1e-5, abs=0)


@pytest.mark.parametrize("reading", [needed_zeta, *READINGS], ids=lambda f: f.__name__)
def test_float32_readings_are_close_to_float64(reading):
    W, a = naive.tensors(*mostly_served(8, 3, 0.5, -1.0))
    narrow = reading(W.float(), a.float(), XOR6)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), reading(W, a, XOR6), rtol=1e-5, atol=0)


def test_H_makes_perp_count_for_more_and_nothing_else():
    W, a = naive.tensors(*mostly_served(8, 1, 0.5, -0.5))
    values = [certificate(W, a, XOR6, H).item() for H in (0.0, 0.05, 0.1, 0.3)]
    masses = [heavy_mass(W, a, XOR6, H).item() for H in (0.0, 0.05, 0.1, 0.3)]
    assert values == sorted(values) and masses == sorted(masses, reverse=True)
    W[:, 2:] = 0
    assert certificate(W, a, XOR6, 0.3) == certificate(W, a, XOR6)
