"""More than two classes: each neuron votes for the class of its largest head weight."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack import ClusterGeometry, ExpectedError, attach
from phasetrack.measures.heaviness import certificate, needed_zeta
from phasetrack.measures.margins import clean_margins

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


def brute_force(W, A):
    p, best = len(W), math.inf
    for size in range(1, p + 1):
        for inside in itertools.combinations(range(p), size):
            margin = min(margins(W, A, inside))
            if margin > 0:
                rest = sum((W[j] ** 2).sum() for j in range(p) if j not in inside) / p
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
