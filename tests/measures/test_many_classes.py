"""More than two classes: each neuron votes for the class of its largest head weight."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack import ClusterGeometry, ExpectedError, attach
from phasetrack.measures.class_certificate import Network, Search, least_gains
from phasetrack.measures.heaviness import certificate, certificate_of, needed_zeta
from phasetrack.measures.margins import clean_margins, clean_margins_of
from phasetrack.model.geometry import Neurons

# three classes on orthogonal axes, the first with two clusters, plus two axes of noise
CENTRES = np.zeros((4, 5))
CENTRES[[0, 1, 2, 3], [0, 0, 1, 2]] = [1.0, -1.0, 1.0, 1.0]
CLASSES = [0, 0, 1, 2]
GEOMETRY = ClusterGeometry(torch.from_numpy(CENTRES), CLASSES)


def network(p, seed):
    """Random, with one neuron for each cluster: often a finite zeta*."""
    rng = np.random.default_rng(seed)
    W, A = rng.standard_normal((p, 5)), rng.standard_normal((3, p))
    W[:4] = CENTRES + 0.2 * W[:4]
    A[:, :4] *= 0.2
    A[CLASSES, range(4)] += 2.0
    return W, A


def logits(W, A, x, inside):
    return sum(A[:, j] * max(0.0, W[j] @ x) for j in inside) / len(W)


def margins(W, A, inside):
    found = []
    for c, y in zip(CENTRES, CLASSES, strict=True):
        out = logits(W, A, c, inside) if inside else np.zeros(3)
        found.append(out[y] - max(out[k] for k in range(3) if k != y))
    return found


def needed(w, head):
    axis = {0: 0, 1: 1, 2: 2}[int(np.argmax(head))]
    sig = abs(w[axis])
    opp = math.sqrt(sum(w[k] ** 2 for k in range(3) if k != axis))
    return (math.hypot(w[3], w[4]) + opp) / sig


def weight(w, head):
    """|A_j| |w_j|, the head's weights about their mean."""
    return np.linalg.norm(head - head.mean()) * np.linalg.norm(w)


def brute_force(W, A):
    p, best = len(W), math.inf
    for size in range(1, p + 1):
        for inside in itertools.combinations(range(p), size):
            margin = min(margins(W, A, inside))
            if margin > 0:
                rest = sum(weight(W[j], A[:, j]) for j in range(p) if j not in inside) / p
                best = min(best, max(*(needed(W[j], A[:, j]) for j in inside), rest / margin))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_against_the_definitions(seed):
    W, A = network(6, seed)
    tensors = torch.from_numpy(W), torch.from_numpy(A)
    assert clean_margins(*tensors, GEOMETRY).tolist() == pytest.approx(margins(W, A, range(6)))
    expected = [needed(w, head) for w, head in zip(W, A.T, strict=True)]
    assert needed_zeta(*tensors, GEOMETRY).tolist() == pytest.approx(expected)
    assert certificate(*tensors, GEOMETRY).item() == pytest.approx(brute_force(W, A))
    parts = GEOMETRY.decompose(*tensors)
    torch.testing.assert_close(sum(parts), tensors[0])
    perp = parts.perp.norm(dim=1) + parts.opp.norm(dim=1)
    assert (perp / parts.sig.norm(dim=1)).tolist() == pytest.approx(expected)


def drawn(p, K, n, d, seed, split=False):
    """Clusters of n classes, and a network that separates some of them: zeta* finite and infinite."""
    rng = np.random.default_rng(seed)
    classes = [*range(n), *rng.integers(0, n, K - n)]
    centres = np.eye(K, d) if split else rng.standard_normal((K, d))
    W, A = rng.standard_normal((p, d)), 0.3 * rng.standard_normal((n, p))
    for j in range(p):  # most neurons serve a cluster, as after some training
        W[j] = 0.2 * W[j] + 3 * centres[j % K]
        A[classes[j % K], j] += 2.0
    return ClusterGeometry(torch.from_numpy(centres), classes), classes, centres, W, A


def pairwise(active, A, classes):
    """What each neuron adds to the margin of each cluster against each rival, (p, K (n - 1))."""
    table = [
        active[:, c] * (A[y] - A[k]) for c, y in enumerate(classes) for k in range(len(A)) if k != y
    ]
    return np.array(table).T


def best_threshold_set(needed, mass, gains):
    ranked, best = np.argsort(needed), math.inf
    for size in range(1, len(needed) + 1):
        inside, rest = ranked[:size], mass[ranked[size:]].sum()
        margin = gains[inside].sum(axis=0).min()
        if margin > 0:
            best = min(best, max(needed[inside[-1]], rest / margin))
    return best


ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "gelu": torch.nn.functional.gelu}


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize(
    "p, K, n, split",
    [(40, 12, 12, True), (40, 20, 5, False), (30, 3, 3, False), (60, 30, 30, True)],
)
@pytest.mark.parametrize("seed", range(4))
def test_many_classes_against_a_table_of_all_pairs(act, p, K, n, split, seed):
    geometry, classes, centres, W, A = drawn(p, K, n, K + 5, seed, split)
    weights = torch.from_numpy(W), torch.from_numpy(A)
    bias = torch.from_numpy(0.1 * np.random.default_rng(seed).standard_normal(p))
    neurons = replace(Neurons.of(*weights, geometry), activation=ACTIVATIONS[act], bias=bias)
    active = ACTIVATIONS[act](torch.from_numpy(W @ centres.T) + bias[:, None]).numpy()
    gains = pairwise(active, A, classes)
    least = gains.sum(axis=0).reshape(K, n - 1).min(axis=1) / p
    np.testing.assert_allclose(clean_margins_of(neurons), least, rtol=1e-9, atol=1e-12)
    rival = least_gains(
        Network(
            np.ones(p),
            active,
            A.T.copy(),
            active.T @ A.T,
            np.zeros(n),
            np.array(classes),
        )
    )
    np.testing.assert_allclose(rival, gains.min(axis=1), rtol=1e-12)
    needed = needed_zeta(*weights, geometry).numpy()
    mass = (W**2).sum(axis=1)
    tables = (
        needed,
        active,
        A.T.copy(),
        active.T @ A.T,
        np.zeros(n),
        np.array(classes),
    )
    nobody = np.zeros(p, dtype=bool)
    search = Search(Network(*tables), nobody)
    for size in (mass, np.sqrt(mass)):  # the second by the bounds of the first
        expected = best_threshold_set(needed, size, gains)
        assert search.smallest(size) == pytest.approx(expected, rel=1e-9)
    heads = np.linalg.norm(A - A.mean(axis=0), axis=0)
    reach = heads * np.sqrt((W**2).sum(axis=1) + bias.numpy() ** 2)
    assert certificate_of(neurons).item() <= best_threshold_set(needed, reach, gains) * (1 + 1e-9)


def test_some_of_these_certificates_are_finite():
    drawn_ones = [drawn(40, 12, 12, 17, seed, split=True) for seed in range(4)]
    values = [certificate(*map(torch.from_numpy, one[3:]), one[0]).item() for one in drawn_ones]
    assert np.isfinite(values).all() and len(set(values)) == 4


@pytest.mark.parametrize("seed", range(8))
def test_subsets_of_contested_neurons_against_every_set(seed):
    """The smallest zeta over the subsets of some neurons is the least over exactly these sets."""
    _, classes, centres, W, A = drawn(9, 4, 3, 8, seed)
    active = np.maximum(W @ centres.T, 0)
    gains, mass = pairwise(active, A, classes), (W**2).sum(axis=1)
    rng = np.random.default_rng(seed)
    needed, tried = rng.random(9), np.zeros(9, dtype=bool)
    tried[rng.choice(9, 4, replace=False)] = True
    best, others = math.inf, sorted((~tried).nonzero()[0], key=lambda j: needed[j])
    for size in range(len(others) + 1):
        for count in range(5):
            for free in itertools.combinations(tried.nonzero()[0], count):
                inside = [*free, *others[:size]]
                margin = gains[inside].sum(axis=0).min() if inside else 0.0
                if margin > 0:
                    rest = mass.sum() - mass[inside].sum()
                    best = min(best, max(*needed[inside], rest / margin))
    tables = needed, active, A.T.copy(), active.T @ A.T, np.zeros(3), np.array(classes)
    assert Search(Network(*tables), tried).smallest(mass) == pytest.approx(best, rel=1e-9)


def test_networks_side_by_side_are_read_as_each_alone():
    ones = [drawn(30, 8, 8, 12, seed, split=True) for seed in range(5)]
    W, A = (torch.from_numpy(np.stack([one[place] for one in ones])) for place in (3, 4))
    W[1, 3, 3], A[2, 1, 1] = math.nan, math.inf
    geometry = ones[0][0]
    for measure in (certificate, clean_margins, needed_zeta):
        together = measure(W, A, geometry)
        alone = torch.stack([measure(w, a, geometry) for w, a in zip(W, A, strict=True)])
        assert torch.equal(together.nan_to_num(nan=-1), alone.nan_to_num(nan=-1))
    assert certificate(W, A, geometry).isnan().tolist() == [False, True, True, False, False]


def test_a_constant_added_to_all_classes_changes_nothing():
    W, A = (torch.from_numpy(t) for t in network(6, 0))
    moved = A + torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(certificate(W, A, GEOMETRY), certificate(W, moved, GEOMETRY))


def batch(m, step):
    rng = np.random.default_rng(step)
    clusters = rng.integers(0, 4, m)
    x = CENTRES[clusters] + 0.1 * rng.standard_normal((m, 5)) * [0, 0, 0, 1, 1]
    return torch.from_numpy(x), torch.tensor(CLASSES)[clusters]


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_attached_to_a_classifier(bias):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 12, bias=bias), nn.ReLU(), nn.Linear(12, 3, bias=bias)
    ).double()
    loss, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.5)
    losses, worst = [], []
    with attach(model, optimizer, loss=loss, geometry=GEOMETRY, strict=True) as tracker:
        for step in range(150):
            x, y = batch(64, step)
            with torch.no_grad():
                out = model(torch.from_numpy(CENTRES))
                others = out.scatter(1, torch.tensor(CLASSES).unsqueeze(1), -math.inf).amax(dim=1)
                worst.append((out[range(4), CLASSES] - others).min().item())
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            losses.append(value.item())
            optimizer.step()
    history = tracker.history
    np.testing.assert_allclose(history["loss/train"], losses)
    np.testing.assert_allclose(history["margin/min"], worst, atol=1e-9)
    assert history["error/train"][-1] == 0 and history["margin/min"][-1] > 1
    assert history["heaviness/zeta_star"][-1] < (30 if bias else 1)  # biases are not counted
    assert history["linearization/slope_drift"][-1] > 0.3


def test_heads_and_labels_must_agree():
    model, loss = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        ExpectedError, match="geometry: The geometry has labels of 3 classes, and 2 distinguishes 2"
    ):
        attach(model, optimizer, loss=loss, geometry=GEOMETRY)
    with pytest.raises(
        ExpectedError, match=r"labels: .*Pass both classes.*or all of 0, 1, ..., n - 1"
    ):
        ClusterGeometry(torch.eye(3), [0, 1, 3])
