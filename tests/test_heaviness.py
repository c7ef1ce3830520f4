"""zeta* against a search over every set of neurons, written without the code under test."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.geometry import ClusterGeometry
from phasetrack.measures.heaviness import certificate

CENTRES = [[1, -1, 0, 0], [-1, 1, 0, 0], [1, 1, 0, 0], [-1, -1, 0, 0]]
XOR4 = ClusterGeometry(CENTRES, [1, 1, -1, -1])


def brute_force(W, a):
    """Smallest zeta over all 2^p sets, by the definition."""
    rows, p, best = W.tolist(), len(a), math.inf
    needed = []
    for w, second in zip(rows, a.tolist(), strict=True):
        along1, along2 = abs(w[0] - w[1]) / math.sqrt(2), abs(w[0] + w[1]) / math.sqrt(2)
        sig, opp = (along1, along2) if second >= 0 else (along2, along1)
        needed.append((math.hypot(w[2], w[3]) + opp) / sig if sig else math.inf)
    for size in range(1, p + 1):
        for chosen in itertools.combinations(range(p), size):
            margin = min(
                sum(
                    s * a[j].item() * max(0, sum(u * v for u, v in zip(rows[j], c, strict=True)))
                    for j in chosen
                )
                for c, s in zip(CENTRES, (1, 1, -1, -1), strict=True)
            )
            if margin > 0:
                rest = sum(sum(v * v for v in rows[j]) for j in set(range(p)) - set(chosen))
                best = min(best, max(max(needed[j] for j in chosen), rest / margin))
    return best


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(4, 7), st.integers(0, 2**31), st.floats(-1.5, 1.5), st.floats(-1, 1))
def test_certificate_is_the_best_of_all_sets(p, seed, log_a, log_perp):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(p, 4, generator=generator, dtype=torch.float64)
    W[:, 2:] *= 10**log_perp
    # one neuron of the right sign near each centre, so that most networks have a finite zeta*
    W[:4, :2] = torch.tensor(CENTRES, dtype=torch.float64)[:, :2] + 0.3 * W[:4, :2]
    a = 10**log_a * torch.rand(p, generator=generator, dtype=torch.float64)
    a[2:4] *= -1
    assert certificate(W, a, XOR4).item() == pytest.approx(brute_force(W, a), rel=1e-9)


def test_broadcasts_over_leading_dimensions():
    W, a = torch.randn(3, 2, 6, 4), torch.randn(3, 2, 6)
    together = certificate(W, a, XOR4)
    apart = torch.stack([certificate(w, b, XOR4) for w, b in zip(W[0], a[0], strict=True)])
    torch.testing.assert_close(together[0], apart)


def test_decomposition_is_orthogonal_and_sums_to_w():
    W, a = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    parts = XOR4.decompose(W, a)
    torch.testing.assert_close(sum(parts), W)
    for one, other in itertools.combinations(parts, 2):
        assert (one * other).sum(dim=1).abs().max() < 1e-12
