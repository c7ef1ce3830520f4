"""Geometry: the signal span, the three parts of a neuron, clusters of samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import references as naive
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ClusterGeometry, ExpectedError
from phasetrack.model.geometry import Neurons

AND = ClusterGeometry([[1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]], [1, -1, -1, -1])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 9), st.booleans())
def test_decomposition_is_orthogonal_and_sums_to_w(seed, p, d, rotated):
    W, a = naive.tensors(*naive.network(p, d, seed))
    geometry = naive.xor(d)
    if rotated:  # a signal along no axis
        turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
        geometry = ClusterGeometry(naive.tensors(naive.centres(d) @ turn)[0], naive.LABELS)
    parts = geometry.decompose(W, a)
    torch.testing.assert_close(sum(parts), W)
    for one, other in itertools.combinations(parts, 2):
        assert (one * other).sum(dim=1).abs().max() < 1e-12 * max(1, W.square().sum().item())


@pytest.mark.parametrize(
    "second, sig, opp",
    [
        (1.0, [1.5, -1.5], [0.5, 0.5]),
        (0.0, [1.5, -1.5], [0.5, 0.5]),
        (-1.0, [0.5, 0.5], [1.5, -1.5]),
    ],
    ids=["positive", "zero", "negative"],
)
def test_signal_lies_along_the_clusters_that_the_neuron_votes_for(second, sig, opp):
    W = torch.tensor([[2.0, -1.0, 7.0]], dtype=torch.float64)
    parts = naive.xor(3).decompose(W, torch.tensor([second]))
    assert parts.sig[0].tolist() == pytest.approx([*sig, 0])
    assert parts.opp[0].tolist() == pytest.approx([*opp, 0])
    assert parts.perp[0].tolist() == pytest.approx([0, 0, 7])


def test_classes_that_share_directions_have_no_opposing_part():
    assert not AND.splits
    parts = AND.decompose(torch.tensor([[2.0, -1.0, 7.0]]), torch.tensor([-1.0]))
    assert parts.sig[0].tolist() == pytest.approx([2, -1, 0])
    assert not parts.opp.any()
    neurons = Neurons.of(torch.tensor([[2.0, -1.0, 7.0]]), torch.tensor([-1.0]), AND)
    assert neurons.sig.item() == pytest.approx(math.sqrt(5)) and neurons.opp.item() == 0


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(3, 40))
def test_neurons_are_what_the_weights_say(seed, d):
    W, a = naive.network(5, d, seed)
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(d))
    rows = zip(W, a, neurons.sig, neurons.opp, neurons.perp, neurons.mass, strict=True)
    for w, second, *measured in rows:
        expected = [*naive.parts(w, second), (w**2).sum()]
        assert [m.item() for m in measured] == pytest.approx(expected)


def test_a_tiny_perp_beside_a_large_signal_keeps_its_digits():
    W = torch.tensor([[1e4, -1e4, 1e-3, 0.0]], dtype=torch.float64)
    assert Neurons.of(W, torch.ones(1), naive.xor(4)).perp.item() == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("d", [2, 5, 30])
def test_samples_go_to_the_nearest_centre(d):
    inputs = np.random.default_rng(d).choice([-1.0, 1.0], (64, d))
    nearest = [int(np.argmin(((naive.centres(d) - x) ** 2).sum(axis=1))) for x in inputs]
    assert naive.xor(d).assign(*naive.tensors(inputs)).tolist() == nearest


def test_second_layer_may_come_as_linear_holds_it():
    W, a = naive.tensors(*naive.network(4, 6, 0))
    torch.testing.assert_close(
        naive.xor(6).decompose(W, a), naive.xor(6).decompose(W, a.unsqueeze(0))
    )


def test_chance_is_the_share_of_a_random_direction():
    W = torch.randn(20000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    neurons = Neurons.of(W, torch.ones(20000), naive.xor(8))
    share = (neurons.sig.square() + neurons.opp.square()) / neurons.mass
    assert share.mean().item() == pytest.approx(
        naive.xor(8).chance, abs=5 * share.std().item() / 141
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([[1, 0]], [1]), r"centres: Shape \(1, 2\) is not a table of at least two centres"),
        (([[1, 0], [1, 0]], [1, -1]), "centres: A centre appears twice"),
        (([[1, 0], [math.nan, 0]], [1, -1]), "centres: A centre has NaN or infinity"),
        (([[1, 0], [0, 1]], [1]), r"labels: Labels of shape \(1,\) do not fit 2 centres"),
        (
            ([[1, 0], [0, 1]], [1, 1]),
            r"labels: The labels take the values \[1.0\]. Pass both classes",
        ),
        (
            ([[1, 0], [0, 1]], [1, 2]),
            r"labels: The labels take the values \[1.0, 2.0\]. Pass both classes",
        ),
        (([[1, 0], [0, 1]], [1, -1], ["a", "a"]), "are not 2 distinct names"),
    ],
)
def test_wrong_clusters_are_explained(arguments, message):
    with pytest.raises(ExpectedError, match=message):
        ClusterGeometry(*arguments)


def test_weights_that_do_not_fit_are_explained():
    geometry = naive.xor(4)
    with pytest.raises(
        ExpectedError, match=r"W: Shape \(3, 5\) does not end in .*\(\.\.\., p, 4\)"
    ):
        geometry.decompose(torch.zeros(3, 5), torch.zeros(3))
    with pytest.raises(ExpectedError, match=r"a: Shape \(2,\) does not match W. Pass shape \(3,\)"):
        geometry.decompose(torch.zeros(3, 4), torch.zeros(2))
    with pytest.raises(
        ExpectedError, match=r"inputs: Shape \(9, 5\) does not end in the geometry's dimension 4"
    ):
        geometry.assign(torch.zeros(9, 5))


@pytest.mark.parametrize("K, d", [(2, 5), (3, 5), (4, 9)], ids=str)
def test_overlapping_classes_have_the_projection_on_the_whole_span_as_signal(K, d):
    rng = np.random.default_rng(K)
    centres, W = rng.standard_normal((K, d)), rng.standard_normal((6, d))
    geometry = ClusterGeometry(naive.tensors(centres)[0], [1] + [-1] * (K - 1))
    assert not geometry.splits and geometry.signal_dim == K
    parts = geometry.decompose(*naive.tensors(W, rng.standard_normal(6)))
    projected = [centres.T @ np.linalg.lstsq(centres.T, w, rcond=None)[0] for w in W]
    np.testing.assert_allclose(parts.sig.numpy(), projected, atol=1e-12)
    np.testing.assert_allclose(parts.perp.numpy(), W - projected, atol=1e-12)
    assert not parts.opp.any()


@pytest.mark.parametrize("geometry", [naive.xor(3), AND], ids=["xor", "and"])
def test_broadcasts_over_leading_dimensions(geometry):
    W, a = naive.tensors(*naive.network(24, 3, 0))
    W, a = W.reshape(2, 3, 4, 3), a.reshape(2, 3, 4)
    whole, one = geometry.decompose(W, a), geometry.decompose(W[1, 2], a[1, 2])
    table, row = Neurons.of(W, a, geometry), Neurons.of(W[1, 2], a[1, 2], geometry)
    for together, apart in zip(whole, one, strict=True):
        torch.testing.assert_close(together[1, 2], apart)
    for name in ("sig", "opp", "perp", "mass", "contributions"):
        torch.testing.assert_close(getattr(table, name)[1, 2], getattr(row, name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_readings_keep_the_dtype_of_the_weights(dtype):
    W, a = (t.to(dtype) for t in naive.tensors(*naive.network(4, 6, 0)))
    assert {part.dtype for part in naive.xor(6).decompose(W, a)} == {dtype}
    neurons = Neurons.of(W, a, naive.xor(6))
    assert {t.dtype for t in (neurons.sig, neurons.opp, neurons.perp, neurons.mass)} == {dtype}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(6, 40), st.booleans())
def test_any_input_goes_to_the_centre_that_is_nearest_in_the_span(seed, K, d, axes):
    rng = np.random.default_rng(seed)
    centres, inputs = rng.standard_normal((K, d)), rng.standard_normal((30, d))
    if axes:  # few columns carry signal
        centres[:, K:] = 0
    geometry = ClusterGeometry(naive.tensors(centres)[0], [1] + [-1] * (K - 1))
    # noise orthogonal to all centres adds the same to every distance
    nearest = [int(np.argmin(((centres - x) ** 2).sum(axis=1))) for x in inputs]
    assert geometry.assign(*naive.tensors(inputs)).tolist() == nearest


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int8], ids=str)
def test_the_dtype_of_inputs_does_not_move_centres(dtype):
    geometry = ClusterGeometry([[0.6, 0.0, 0.0], [0.0, 0.4, 0.0]], [1, -1])
    inputs = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=dtype)
    assert geometry.assign(inputs).tolist() == [0, 1]


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: ClusterGeometry([1.0, 2.0], [1, -1]),
            r"centres: Shape \(2,\) is not a table of at least two centres",
        ),
        (
            lambda: ClusterGeometry([[1, 0], [0, math.inf]], [1, -1]),
            "centres: A centre has NaN or infinity",
        ),
        (
            lambda: ClusterGeometry([[1, 0], [0, 1]], [1, -1, 1]),
            r"labels: Labels of shape \(3,\) do not fit 2 centres",
        ),
        (
            lambda: ClusterGeometry([[1, 0], [0, 1]], [1, math.nan]),
            r"labels: .*nan.*Pass both classes, as \{-1, \+1\} or \{0, 1\}",
        ),
        (
            lambda: ClusterGeometry([[1, 0], [0, 1], [1, 1]], [0, 1, 3]),
            r"labels: .*\[0.0, 1.0, 3.0\].*all of 0, 1, ..., n - 1",
        ),
        (
            lambda: ClusterGeometry([[1, 0], [0, 1]], [1, -1], ["a", "b", "c"]),
            r"names: \('a', 'b', 'c'\) are not 2 distinct names",
        ),
        (
            lambda: ClusterGeometry.from_directions([[1, 0], [0, 1]], [1]),
            r"directions: Shapes \(2, 2\) and \(1,\) of directions and labels do not fit",
        ),
        (
            lambda: ClusterGeometry.from_data(torch.zeros(3, 2), torch.zeros(2)),
            r"inputs: Shapes \(3, 2\), \(2,\) and \(2,\) of inputs, labels and clusters do not fit",
        ),
        (
            lambda: ClusterGeometry.from_data(
                torch.eye(2), torch.tensor([0, 1]), torch.tensor([7, 7])
            ),
            r"clusters: Cluster 7 has the labels \[0, 1\]",
        ),
        (
            lambda: naive.xor(4).decompose(torch.zeros(4), torch.zeros(1)),
            r"W: Shape \(4,\) does not end in .*\(\.\.\., p, 4\)",
        ),
        (
            lambda: Neurons.of(torch.zeros(3, 4), torch.zeros(2, 3), naive.xor(4)),
            r"a: Shape \(2, 3\) does not match W. Pass shape \(3,\)",
        ),
    ],
    ids=[
        "flat centres",
        "infinite centre",
        "too many labels",
        "NaN label",
        "skipped class",
        "too many names",
        "directions without labels",
        "data without labels",
        "mixed cluster",
        "flat W",
        "two heads for two classes",
    ],
)
def test_what_does_not_fit_is_named_with_what_is_allowed(make, message):
    with pytest.raises(ExpectedError, match=message):
        make()
