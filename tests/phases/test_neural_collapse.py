"""Neural collapse: readings against a naive computation, labels, features collapsed by hand and by training."""

import math

import numpy as np
import pytest
import torch
from helpers.optional_probes import check_reference, readings
from torch import nn

import phasetrack
from phasetrack.errors import ExpectedError
from phasetrack.phases.run_labels import Labels
from phasetrack.phases.vocabularies.neural_collapse import READINGS, NeuralCollapse
from phasetrack.probes import NeuralCollapseProbe
from phasetrack.studies.bench.detectors import VocabularyDetector
from phasetrack.studies.bench.runs import collapsed
from phasetrack.tracking.probes.optional import neural_collapse


def blobs(count=60, spread=0.3):
    source = torch.Generator().manual_seed(0)
    classes = torch.arange(count) % 3
    return torch.eye(3, 6)[classes] * 3 + spread * torch.randn(count, 6, generator=source), classes


def trained(net, optimizer, x, y, steps, **options):
    loss = nn.CrossEntropyLoss()
    geometry = phasetrack.ClusterGeometry(3 * torch.eye(3, 6), range(3))
    with phasetrack.attach(
        net, optimizer, loss=loss, geometry=geometry, phases="neural-collapse", **options
    ) as tracker:
        seen = []
        for step in range(steps):
            if step < 12:
                seen.append([p.detach().double().clone().numpy() for p in net.parameters()])
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    return tracker, seen


def network(width=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def test_readings_are_those_of_the_definitions():
    x, y = blobs()
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    tracker, seen = trained(net, optimizer, x, y, 12, probes=[NeuralCollapseProbe(x, y)])
    check_reference(neural_collapse, tracker.history)
    columns = [readings(tracker.history, name) for name in READINGS]
    assert len(columns[0]) == 11
    for step in columns[0]:
        W, b, A, c = seen[step]
        h = np.maximum(x.double().numpy() @ W.T + b, 0)
        _, expected = collapsed._readings(h, A, y.numpy())
        decided = (h @ A.T + c).argmax(axis=1)
        centres = np.stack([h[y.numpy() == k].mean(axis=0) for k in range(3)])
        nearest = np.linalg.norm(h[:, None] - centres, axis=2).argmin(axis=1)
        expected = (*expected[:-1], float((decided != nearest).mean()))
        found = [column[step] for column in columns]
        assert found[0] == pytest.approx(float((decided != y.numpy()).mean()))
        assert found[1:] == pytest.approx(list(expected), rel=1e-6)


def test_training_ends_in_collapse():
    x, y = blobs(30, spread=0.1)
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, weight_decay=5e-3)
    tracker, _ = trained(net, optimizer, x, y, 1200, probes=[NeuralCollapseProbe(x, y)])
    spoken = tracker.phases["neural-collapse"]
    assert spoken.label == "COLLAPSED", spoken.reason
    assert [b.name for b in spoken.boundaries] == ["terminal", "collapsed"]


def test_collapse_by_hand_is_dated_as_by_the_definitions():
    played = collapsed.collapsed(3, decades=1.0, steps=200)
    truth = {event.name: event.step for event in played.events}
    found = {one.name: one.onset for one in VocabularyDetector(NeuralCollapse()).find(played.rows)}
    assert set(truth) == {"terminal", "collapsed"}
    assert found == pytest.approx(truth, rel=0.2)


def test_features_that_stay_apart_are_not_collapsed():
    played = collapsed.collapsed(3, decades=0.0, steps=40)
    assert played.events == [] and VocabularyDetector(NeuralCollapse()).find(played.rows) == []


def labelled(*rows):
    labels, found = Labels(NeuralCollapse()), []
    for step, row in enumerate(rows):
        labels.update(step, dict(zip(READINGS, row, strict=True)))
        found.append(labels.label)
    return found


def test_phase_is_terminal_from_no_error_and_collapsed_from_four_small_readings():
    apart, together = (0.5, 0.5, 0.5, 0.5, 0.5), (0.05, 0.05, 0.05, 0.05, 0.0)
    one_is_large = (0.05, 0.05, 0.05, 0.5, 0.0)
    found = labelled((0.3, *apart), (0.0, *apart), (0.0, *one_is_large), (0.0, *together))
    assert found == ["FITTING", "TERMINAL", "TERMINAL", "COLLAPSED"]
    assert labelled((0.3, *together), (0.3, *together)) == ["FITTING"] * 2
    assert labelled((math.nan, *apart)) == ["UNDETERMINED"]


@pytest.mark.parametrize(
    "classes", [torch.tensor([0, 2, 2]), torch.zeros(3, dtype=int), torch.arange(2)]
)
def test_classes_without_a_sample_are_refused(classes):
    with pytest.raises(ExpectedError, match="index per sample"):
        NeuralCollapseProbe(torch.ones(3, 4), classes)
