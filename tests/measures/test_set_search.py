"""The best set of neurons among all 2^p, on tables of any numbers."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.measures.set_search import ThresholdSets, best_of_subsets

P, CLUSTERS = 7, 3


def smallest_zeta(needed, mass, gains, offset):
    """By trying all sets."""
    best = np.inf
    for chosen in itertools.product([False, True], repeat=P):
        inside = np.array(chosen)
        margin = (gains[inside].sum(axis=0) + offset).min()
        if margin > 0:
            best = min(best, max([*needed[inside], mass[~inside].sum() / margin]))
    return best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(0, 1), st.booleans())
def test_contested_neurons_are_settled_exactly(seed, harm, has_offset):
    rng = np.random.default_rng(seed)
    rows = 8
    needed, mass = rng.lognormal(size=(rows, P)), rng.lognormal(size=(rows, P))
    gains = rng.standard_normal((rows, P, CLUSTERS)) * rng.choice([0.1, 1, 5], (rows, P, 1))
    gains = np.where(gains < 0, harm * gains, gains)  # by how much a neuron hurts some cluster
    offset = 0.2 * rng.standard_normal((rows, CLUSTERS)) * has_offset
    tables = [torch.from_numpy(table) for table in (needed, mass, gains, offset)]
    sets = ThresholdSets(tables[0], tables[2], tables[3])
    zeta = sets.best(tables[1])
    contested = sets.contested(zeta, tables[1])
    for count in set(contested.sum(dim=1).tolist()) - {0}:
        some = contested.sum(dim=1) == count
        found = best_of_subsets(
            zeta[some],
            tables[0][some],
            tables[1][some],
            contested[some],
            tables[2][some],
            tables[3][some],
        )
        expected = [
            smallest_zeta(*row)
            for row in zip(needed[some], mass[some], gains[some], offset[some], strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert (found <= zeta[some] * (1 + 1e-12)).all()
