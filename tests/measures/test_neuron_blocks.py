"""Blocks of neurons against loops, in float64."""

import math

import numpy as np
import pytest
import torch
from helpers import references as naive
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.measures import neuron_blocks as gathering
from phasetrack.model.geometry import Neurons


def by_loops(W, a, d):
    """Block, signal and whether it has gathered, of each neuron, by the definition."""
    rows = []
    for w, second in zip(W, a, strict=True):
        label = 1 if second >= 0 else -1
        along = [
            float(w @ c) / math.sqrt(2) if y == label else -math.inf
            for c, y in zip(naive.centres(d), naive.LABELS, strict=True)
        ]
        block = int(np.argmax(along))
        angle = math.acos(min(1.0, along[block] / np.linalg.norm(w)))
        rows.append((block, along[block], angle <= math.pi / 6))
    return rows


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31), st.integers(1, 12), st.integers(2, 6), st.sampled_from([0.1, 1.0, 9.0])
)
def test_blocks_signals_and_gathered_share(seed, p, d, signal):
    W, a = naive.network(p, d, seed, signal=signal)
    neurons, expected = Neurons.of(*naive.tensors(W, a), naive.xor(d)), by_loops(W, a, d)
    blocks = gathering.assigned(neurons)
    assert blocks.tolist() == [row[0] for row in expected]
    signals = gathering.signals(neurons, blocks)
    assert signals.tolist() == pytest.approx([row[1] for row in expected])
    mass = (W**2).sum(axis=1)
    share = sum(m for m, row in zip(mass, expected, strict=True) if row[2]) / mass.sum()
    assert float(gathering.gathered(neurons, blocks)) == pytest.approx(share)
    means, spreads = gathering.of_blocks(signals, blocks, 4)
    for index in range(4):
        own = [row[1] for row in expected if row[0] == index]
        assert int(gathering.sizes(blocks, 4)[index]) == len(own)
        if own:
            assert float(means[index]) == pytest.approx(np.mean(own))
            assert float(spreads[index]) == pytest.approx(np.std(own) / abs(np.mean(own)))
        else:
            assert means[index].isnan() and spreads[index].isnan()


def test_a_neuron_that_turns_away_from_its_clusters_has_no_more_signal_than_it_shows():
    """a > 0 and w along mu2: the clusters of its label are at right angles."""
    W = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    neurons = Neurons.of(W, torch.ones(1, dtype=torch.float64), naive.xor(3))
    blocks = gathering.assigned(neurons)
    assert blocks.item() in (0, 1)
    assert float(gathering.signals(neurons, blocks)) == pytest.approx(0.0, abs=1e-15)


def test_broadcasts_over_leading_dimensions():
    W, a = naive.tensors(*naive.network(12, 5, 2))
    together = Neurons.of(W.reshape(3, 4, 5), a.reshape(3, 4), naive.xor(5))
    alone = Neurons.of(W[8:], a[8:], naive.xor(5))
    blocks = gathering.assigned(together)
    assert torch.equal(blocks[2], gathering.assigned(alone))
    pair = gathering.of_blocks(gathering.signals(together, blocks), blocks, 4)
    other = gathering.of_blocks(gathering.signals(alone, blocks[2]), blocks[2], 4)
    for one, two in zip(pair, other, strict=True):
        torch.testing.assert_close(one[2], two, equal_nan=True)
    torch.testing.assert_close(
        gathering.gathered(together, blocks)[2], gathering.gathered(alone, blocks[2])
    )
