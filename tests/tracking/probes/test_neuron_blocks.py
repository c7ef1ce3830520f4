"""The probe of neuron blocks, in training on Gaussian inputs."""

import numpy as np
import pytest
from helpers.tracked_training import followed

from phasetrack import TwoLayerNet
from phasetrack.measures import neuron_blocks as gathering
from phasetrack.model.geometry import Neurons
from phasetrack.tasks.registry import make_task
from phasetrack.tracking.probes.neuron_blocks import GatheringProbe

D, P, M, STEPS = 8, 24, 64, 7
TASK = make_task("gaussian", D)
NAMES = TASK.geometry.names


def training(width, probes, **options):
    options = {"probes": probes, **options}
    return followed(TwoLayerNet(D, width), TASK, lr=0.3 * width, batch=M, steps=STEPS, **options)


@pytest.mark.parametrize("block", [1, 4])
def test_readings_are_those_of_the_weights(block):
    tracker, seen = training(P, [GatheringProbe()], block=block)
    before = None
    for step, (W, a) in enumerate(seen):
        neurons = Neurons.of(W.double(), a[0].double(), TASK.geometry)
        blocks = gathering.assigned(neurons)
        signals = gathering.signals(neurons, blocks)
        read = {name: tracker.history[name][step] for name in tracker.history}
        means = []
        for index, name in enumerate(NAMES):
            own = signals[blocks == index]
            assert read[f"gathering/neurons/{name}"] == len(own)
            assert read[f"gathering/signal/{name}"] == pytest.approx(float(own.mean()), rel=1e-4)
            means.append(float(own.mean()))
        assert read["gathering/block_spread"] == pytest.approx(
            np.std(means) / np.mean(means), rel=1e-3
        )
        if before is None:
            assert np.isnan(read["gathering/growing_blocks"])
        else:
            _, blocks_then, signals_then = before
            grown = gathering.signals(neurons, blocks_then) - signals_then
            assert read["gathering/growing_neurons"] == pytest.approx(
                float((grown > 0).double().mean()), abs=1.01 / P
            )
            growing = [float(grown[blocks_then == i].mean()) > 0 for i in range(4)]
            assert read["gathering/growing_blocks"] == np.mean(growing)
        before = neurons, blocks, signals
    assert "gathering/growing_blocks" in tracker.undefined


def test_a_cluster_without_neurons_is_undefined_with_its_reason():
    tracker, _ = training(2, [GatheringProbe()])
    assert np.isnan(tracker.history["gathering/block_spread"]).all()
    assert tracker.undefined["gathering/block_spread"] == "a cluster has no neurons"
    counts = sum(tracker.history[f"gathering/neurons/{name}"] for name in NAMES)
    assert (counts == 2).all()
