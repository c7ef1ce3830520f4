"""The probe of features and their boundaries, in training."""

import numpy as np
import pytest
from helpers.tracked_training import followed

from phasetrack import TwoLayerNet
from phasetrack.measures.feature_gain import Features, contributions, gains, holders
from phasetrack.model.geometry import Neurons
from phasetrack.phases.history import History
from phasetrack.tasks.registry import make_task
from phasetrack.tracking.probes.feature_gain import AcquisitionProbe, acquisitions

D, P, M, STEPS = 16, 32, 128, 6
TASK = make_task("two-xors", D)
FEATURES = Features.products(D, 4, {"-x1 x2": (-1, 1, 2), "-x3 x4": (-1, 3, 4)})


def steps(net, probes, **options):
    """Train, and return the tracker and the weights before each step."""
    options = {"probes": probes, "strict": True, **options}
    return followed(net, TASK, lr=0.3 * P, batch=M, steps=STEPS, **options)


def test_readings_are_those_of_the_weights():
    tracker, seen = steps(TwoLayerNet(D, P), [AcquisitionProbe(FEATURES)])
    for step, (W, a) in enumerate(seen):
        parts = contributions(Neurons.of(W.double(), a[0].double(), TASK.geometry), FEATURES)
        for index, name in enumerate(FEATURES.names):
            value = tracker.history[f"acquisition/{name}"][step]
            assert value == pytest.approx(float(gains(parts)[index]), rel=1e-5, abs=1e-9)
            count = tracker.history[f"acquisition/{name}/neurons"][step]
            assert abs(count - int(holders(parts)[:, index].sum())) <= 1  # float32 ties


def history(columns):
    rows = enumerate(zip(*columns.values(), strict=True))
    return History((10 * step, dict(zip(columns, row, strict=True))) for step, row in rows)


def test_each_feature_has_its_own_boundary_in_their_order():
    found = acquisitions(
        history(
            {
                "acquisition/-x1 x2": [0.1, 0.1, 0.4, 0.7, 0.3],
                "acquisition/-x3 x4": [0.1, 0.25, 1.0, 1.0, 1.0],
            }
        ),
        FEATURES,
    )
    assert [(b.name, b.detected) for b in found] == [("-x3 x4", 20), ("-x1 x2", 30)]
    assert found[0].onset == pytest.approx(15.0)  # 0.25 to 1, level 0.5, in the log
    assert found[1].onset == pytest.approx(20 + 10 * np.log(0.5 / 0.4) / np.log(0.7 / 0.4))


def test_what_is_never_or_always_there():
    table = history(
        {"acquisition/-x1 x2": [0.1, -0.3, np.nan], "acquisition/-x3 x4": [0.6, 0.7, 0.8]}
    )
    (only,) = acquisitions(table, FEATURES)
    assert (only.name, only.onset, only.detected) == ("-x3 x4", 0.0, 0)
    assert acquisitions(table, FEATURES, level=0.9) == []
