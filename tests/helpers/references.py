"""References, written naively in float64 numpy and apart from the code under test."""

import itertools
import math

import numpy as np
import torch

from phasetrack.model.geometry import ClusterGeometry

LABELS = (1, 1, -1, -1)


def centres(d):
    """Centres of the XOR clusters, by the definition: +-(e1 - e2) and +-(e1 + e2)."""
    table = np.zeros((4, d))
    table[:, :2] = [[1, -1], [-1, 1], [1, 1], [-1, -1]]
    return table


def xor(d):
    return ClusterGeometry(torch.from_numpy(centres(d)), LABELS, ["mu1", "-mu1", "mu2", "-mu2"])


def network(p, d, seed, signal=1.0, perp=1.0):
    """Random weights (p, d) and (p,), the first two coordinates scaled by `signal`."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((p, d))
    W[:, :2] *= signal
    W[:, 2:] *= perp
    return W, rng.standard_normal(p)


def tensors(*arrays):
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def output(W, a, x, scale=None):
    """f(x) = scale sum_j a_j relu(w_j . x), scale 1/p by default."""
    total = sum(second * max(0.0, float(w @ x)) for w, second in zip(W, a, strict=True))
    return total * (1 / len(a) if scale is None else scale)


def margins(W, a, d, scale=None):
    return [y * output(W, a, c, scale) for c, y in zip(centres(d), LABELS, strict=True)]


def parts(w, second):
    """|sig|, |opp| and |perp| of one neuron."""
    along1, along2 = abs(w[0] - w[1]) / math.sqrt(2), abs(w[0] + w[1]) / math.sqrt(2)
    sig, opp = (along1, along2) if second >= 0 else (along2, along1)
    return sig, opp, math.sqrt(sum(v * v for v in w[2:]))


def needed_zeta(w, second, H=0.0):
    sig, opp, perp = parts(w, second)
    return (math.exp(6 * H) * perp + opp) / sig if sig else math.inf


def certificate(W, a, H=0.0, mass="function"):
    """Smallest zeta over all 2^p sets S, by the definition in theory.md 3."""
    p, d = W.shape
    lengths = np.sqrt((W**2).sum(axis=1))
    sizes = lengths**2 if mass == "paper" else np.abs(a) * lengths
    needed = [needed_zeta(w, second, H) for w, second in zip(W, a, strict=True)]
    best = math.inf
    for size in range(1, p + 1):
        for chosen in itertools.combinations(range(p), size):
            inside = list(chosen)
            margin = min(margins(W[inside], a[inside], d, scale=1 / p))
            if margin > 0:
                outside = [j for j in range(p) if j not in chosen]
                rest = sizes[outside].sum() / p
                best = min(best, max(*(needed[j] for j in chosen), rest / margin))
    return best


def hypercube(d):
    """All 2^d points of {-1, +1}^d and their labels -x1 x2."""
    points = np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
    return points, -points[:, 0] * points[:, 1]


def loss(f, y):
    """2 log(1 + exp(-y f))."""
    return 2 * np.log1p(np.exp(-y * f))


def loss_slope(f, y):
    return -2 * y / (1 + np.exp(y * f))
