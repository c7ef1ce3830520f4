"""Bounds on zeta* where too many neurons are contested, and biases in the definition."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from phasetrack import ClusterGeometry, TwoLayerNet
from phasetrack.measures import heaviness
from phasetrack.measures.heaviness import certificate, certificate_bounds, needed_zeta
from phasetrack.model.geometry import Neurons
from phasetrack.tasks import make_task


def start(task, d, p, seed):
    """A network at its start, where most neurons are contested."""
    net = TwoLayerNet(d, p, seed=seed)
    W, a = net.first.weight.detach().double(), net.second.weight.detach().double()[0]
    return W, a, make_task(task, d).geometry


def relaxed(W, a, geometry, zeta):
    """Whether relaxed sets attain zeta: a linear program over 0 <= s <= 1, by HiGHS."""
    neurons = Neurons.of(W, a, geometry)
    gains, mass = neurons.contributions.numpy(), (a.abs() * W.norm(dim=1)).numpy()
    allowed = (needed_zeta(W, a, geometry) <= zeta).numpy()
    values = zeta * gains[allowed] + mass[allowed, None]
    rows = np.hstack([-values.T, np.ones((values.shape[1], 1))])
    cost = np.append(np.zeros(len(values)), -1.0)
    limits = [(0, 1)] * len(values) + [(None, None)]
    optimize = pytest.importorskip("scipy.optimize")  # not where the lowest versions are tried
    found = optimize.linprog(cost, A_ub=rows, b_ub=np.zeros(len(rows)), bounds=limits)
    return -found.fun >= mass.sum()


@pytest.mark.parametrize("task", ["xor", "and", "majority", "two-xors"])
def test_bounds_enclose_the_relaxation(task):
    W, a, geometry = start(task, 32, 64, 3)
    low, high = map(float, certificate_bounds(W, a, geometry))
    assert 0 < low < high < 1.15 * low
    assert high <= certificate(W, a, geometry).item()
    assert not relaxed(W, a, geometry, low * 0.999)
    assert relaxed(W, a, geometry, low * 1.001)


def test_exact_values_are_their_own_bounds():
    W, a, geometry = start("xor", 32, 6, 1)
    W[:4] = geometry.centres + 0.1 * W[:4]
    a[:4] = torch.tensor([1.0, 1, -1, -1])
    low, high = certificate_bounds(W, a, geometry)
    assert low == high == certificate(W, a, geometry)
    assert low.isfinite()


def test_a_cluster_that_no_neuron_serves_has_no_set():
    W, a, geometry = start("xor", 32, 64, 0)
    served = (W @ geometry.centres[0] > 0) & (a > 0)
    low, high = certificate_bounds(W[~served], a[~served], geometry)
    assert low == high == math.inf


def test_bounds_of_several_networks_of_three_classes(monkeypatch):
    geometry = ClusterGeometry(torch.eye(3, 6).tolist(), [0, 1, 2])
    rng = np.random.default_rng(0)
    W, A = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((4, 8, 6), (4, 3, 8)))
    exact = certificate(W, A, geometry)
    monkeypatch.setattr(heaviness, "SEARCH_BUDGET", 1)
    low, high = certificate_bounds(W, A, geometry)
    assert exact.isfinite().any() and (low < high).any()
    assert (low <= exact * (1 + 1e-9)).all() and (exact <= high * (1 + 1e-9)).all()


@pytest.mark.parametrize("bias", [0.0, 0.5, -0.5])
@pytest.mark.parametrize("head_bias", [0.0, 0.03, -0.03])
def test_biases_are_wholly_in(bias, head_bias):
    """Every set by hand: first-layer biases in margins and masses, the head's in every margin."""
    rng = np.random.default_rng(4)
    W, a, geometry = start("xor", 6, 8, 0)
    W[:4] = geometry.centres + 0.3 * W[:4]
    a[:4] = a[:4].abs() * torch.tensor([4.0, 4, -4, -4])
    biases = bias * torch.from_numpy(rng.random(8))
    neurons = replace(
        Neurons.of(W, a, geometry), bias=biases, output_bias=torch.tensor(head_bias).double()
    )
    needed, best = needed_zeta(W, a, geometry), math.inf
    for size in range(9):
        for inside in map(list, itertools.combinations(range(8), size)):
            active = torch.relu(W[inside] @ geometry.centres.T + biases[inside, None])
            f = (a[inside, None] * active).sum(dim=0) / 8 + head_bias
            margin = (f * geometry.labels).min()
            outside = [j for j in range(8) if j not in inside]
            mass = a.abs() * (W.square().sum(dim=1) + biases.square()).sqrt()
            rest = mass[outside].sum() / 8
            if margin > 0:
                best = min(best, max(needed[inside].max(), rest / margin).item())
    assert heaviness.certificate_of(neurons).item() == pytest.approx(best)
    assert math.isfinite(best)


def test_a_bias_takes_part_in_the_scale_that_layers_share():
    W, a, geometry = start("xor", 6, 8, 0)
    W[:4] = geometry.centres + 0.3 * W[:4]
    a[:4] = torch.tensor([4.0, 4, -4, -4])
    c = torch.linspace(0.1, 9, 8).double()
    bias = torch.linspace(-0.3, 0.2, 8).double()
    one = replace(Neurons.of(W, a, geometry), bias=bias)
    other = replace(Neurons.of(W * c[:, None], a / c, geometry), bias=bias * c)
    torch.testing.assert_close(heaviness.certificate_of(one), heaviness.certificate_of(other))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("d", "p"), [(16, 32), (64, 128)])
def test_a_set_is_found_where_no_threshold_set_serves(seed, d, p):
    torch.manual_seed(seed)
    first, second = torch.nn.Linear(d, p), torch.nn.Linear(p, 1)
    geometry = make_task("xor", d).geometry
    weights = (t.detach().double() for t in (first.weight, second.weight[0]))
    neurons = Neurons.of(*weights, geometry)
    # f is taken as the mean over the neurons there, and torch's is the sum
    bias = second.bias.detach().double()[0] * neurons.output_scale
    neurons = replace(neurons, output_bias=bias)
    (by_function, by_weights) = heaviness.certificates_of(neurons)
    low, high = map(float, heaviness.certificate_bounds_of(neurons))
    assert low <= by_function.zeta.item() < 10 * high < math.inf
    if by_weights.zeta.isinf():
        assert by_function.is_bound
