"""Modular addition: every pair once, labelled by its sum, and samples by counter from the trained pairs."""

import itertools
import math

import pytest
import torch

from phasetrack import ExpectedError
from phasetrack.measures.direction_overlap import overlaps
from phasetrack.measures.fourier_power import frequency_power, residue_tables
from phasetrack.tasks import ModularAddition


def decoded(x, y, q):
    """Triples (a, b, class) from one-hot rows, by the definition."""
    triples = []
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        ones = [i for i, value in enumerate(row) if value == 1]
        assert len(ones) == 2 and sum(row) == 2 and ones[0] < q <= ones[1]
        triples.append((ones[0], ones[1] - q, label))
    return triples


@pytest.mark.parametrize("q, share", [(2, 0.5), (5, 0.3), (6, 0.99), (7, 1e-9)])
def test_every_pair_is_trained_on_or_held_out(q, share):
    task = ModularAddition(q, share=share, seed=3)
    parts = [decoded(*part, q) for part in (task.train, task.held_out)]
    everything = [(a, b, (a + b) % q) for a, b in itertools.product(range(q), repeat=2)]
    assert sorted(parts[0] + parts[1]) == everything
    assert len(parts[0]) == min(max(round(share * q * q), 1), q * q - 1)


def test_seed_decides_the_split_alone():
    one, same, other = (ModularAddition(7, seed=seed).train for seed in (1, 1, 2))
    assert torch.equal(one[0], same[0]) and not torch.equal(one[0], other[0])
    with torch.random.fork_rng():
        torch.manual_seed(5)
        before = torch.get_rng_state()
        assert torch.equal(ModularAddition(7, seed=1).train[0], one[0])
        assert torch.equal(torch.get_rng_state(), before)


def test_samples_come_from_the_trained_pairs_whatever_the_pieces():
    task = ModularAddition(5, share=0.4, seed=1)
    at = {"seed": 3, "step": 5, "dtype": torch.float64}
    x, y = task.sample(300, **at)
    pieces = [task.sample(n, start=s, **at) for s, n in ((0, 37), (37, 1), (38, 262))]
    assert torch.equal(torch.cat([piece[0] for piece in pieces]), x)
    assert torch.equal(torch.cat([piece[1] for piece in pieces]), y)
    assert x.dtype == torch.float64 and y.dtype == torch.int64
    assert set(decoded(x, y, 5)) == set(decoded(*task.train, 5))  # 10 pairs, 300 draws
    assert not torch.equal(task.sample(300, seed=3, step=6)[1], y)


def test_directions_are_the_waves_of_each_place():
    task = ModularAddition(7)
    found = task.directions([2, 3])
    assert torch.allclose(found @ found.T, torch.eye(8, dtype=torch.float64), atol=1e-12)
    wave = torch.tensor([math.cos(2 * math.pi * 2 * r / 7) for r in range(7)], dtype=torch.float64)
    neuron = torch.cat([wave, torch.zeros(7, dtype=torch.float64)]).unsqueeze(0)
    assert overlaps(neuron, found).tolist() == pytest.approx([1] + 7 * [0], abs=1e-12)
    power = frequency_power(residue_tables(found[:4], 7)).sum(dim=0)
    assert power.tolist() == pytest.approx([0, 4, 0], abs=1e-12)
    assert ModularAddition(6).directions([3]).shape == (2, 12)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"modulus": 1}, "modulus: 1 is not"),
        ({"modulus": 5, "share": 0.0}, "share: 0 is not"),
        ({"modulus": 5, "share": 1.0}, "share: 1 leaves no pair held out"),
        ({"modulus": 5, "seed": -1}, "seed: -1 is not"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(ExpectedError, match=said):
        ModularAddition(**arguments)


def test_frequency_out_of_range_is_named():
    with pytest.raises(ExpectedError, match="frequencies: 4 is not"):
        ModularAddition(7).directions([4])
