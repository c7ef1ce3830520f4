"""Optional probes read what a naive computation in float64 reads off the raw weights, at few steps."""

import math

import numpy as np
import pytest
import torch
from helpers.optional_probes import TASK, check_reference, followed, network, readings
from torch import nn

import phasetrack.probes
from phasetrack.errors import ExpectedError
from phasetrack.probes import (
    FourierProbe,
    GeneralisationProbe,
    OverlapProbe,
    PlateauProbe,
    RankProbe,
    SharpnessProbe,
)
from phasetrack.tracking.probes.optional import (
    fourier,
    generalisation,
    overlap,
    plateau,
    rank,
    sharpness,
)

X, Y = TASK.sample(40, seed=0, step=0)
UNIT = (Y > 0).float()


def test_probes_are_attributes_of_the_public_module():
    assert "OverlapProbe" in dir(phasetrack.probes)
    with pytest.raises(AttributeError, match="OverlupProbe"):
        _ = phasetrack.probes.OverlupProbe


def test_overlap_is_the_cosine_with_the_leading_span():
    directions = torch.randn(2, 16)
    tracker, seen = followed(
        network(), [OverlapProbe(directions, ["a", "b"])], nn.BCEWithLogitsLoss(), X, UNIT
    )
    check_reference(overlap, tracker.history)
    unit = directions.double().numpy() / np.linalg.norm(directions, axis=1, keepdims=True)
    for step, value in readings(tracker.history, "overlap/span").items():
        W = seen[step][0].numpy()
        leading = np.linalg.svd(W)[2][:2]
        each = np.linalg.norm(leading @ unit.T, axis=0)
        assert value == pytest.approx(each.min())
        assert readings(tracker.history, "overlap/span/b")[step] == pytest.approx(each[1])
        cosines = np.abs(W @ unit.T) / np.linalg.norm(W, axis=1, keepdims=True)
        assert readings(tracker.history, "overlap/neuron")[step] == pytest.approx(
            cosines.max(axis=0).min()
        )


def test_declared_directions_let_the_search_be_told_without_a_probe():
    geometry = phasetrack.SpanGeometry(torch.eye(2, 16), ["a", "b"])
    net, loss = network(), nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with phasetrack.attach(net, optimizer, loss=loss, geometry=geometry) as tracker:
        for _ in range(3):
            loss(net(X).squeeze(-1), Y).backward()
            optimizer.step()
    assert tracker.phases["search-descent"].applies
    assert len(readings(tracker.history, "overlap/span/b")) == 3


def test_random_spans_stay_under_the_chance_level():
    rng = np.random.default_rng(0)
    for dim, k in ((32, 1), (64, 3)):
        basis = np.linalg.qr(rng.standard_normal((2000, dim, k)))[0]
        beyond = np.linalg.norm(basis[:, 0], axis=1) > overlap.overlap.span_chance(dim, k)
        assert beyond.mean() <= 0.01


@pytest.mark.parametrize(("given", "names"), [(torch.zeros(1, 16), None), (torch.ones(1, 16), [])])
def test_directions_without_length_or_name_are_refused(given, names):
    with pytest.raises(ExpectedError):
        OverlapProbe(given, names)


@pytest.mark.parametrize("trained", ["both", "first"])
def test_sharpness_is_the_largest_eigenvalue_of_the_whole_hessian(trained):
    net = network(width=4)
    weights = net.parameters() if trained == "both" else net[0].parameters()
    optimizer = torch.optim.SGD(weights, lr=0.3)
    tracker, seen = followed(
        net, [SharpnessProbe(X, UNIT)], nn.BCEWithLogitsLoss(), X, UNIT, optimizer=optimizer
    )
    check_reference(sharpness, tracker.history)
    shapes = [p.shape for p in net.parameters()]
    read = readings(tracker.history, "sharpness/value")
    assert list(read) == list(range(11))
    for step in (0, 10):
        flat = torch.cat([p.flatten() for p in seen[step]])
        size = len(flat) if trained == "both" else 4 * 16 + 4

        def loss(part, flat=flat, size=size):
            pieces = torch.cat([part, flat[size:]]).split([math.prod(s) for s in shapes])
            W, b, A, c = (p.view(s) for p, s in zip(pieces, shapes, strict=True))
            f = torch.relu(X.double() @ W.T + b) @ A[0] + c
            return nn.functional.binary_cross_entropy_with_logits(f, UNIT.double())

        hessian = torch.autograd.functional.hessian(loss, flat[:size])
        largest = float(torch.linalg.eigvalsh(hessian)[-1])
        assert read[step] == pytest.approx(largest, rel=2e-3)
        product = readings(tracker.history, "sharpness/eta_lambda")[step]
        assert product == pytest.approx(0.3 * largest, rel=2e-3)


def test_edge_of_other_optimizers_is_left_out_with_a_reason():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    tracker, _ = followed(
        net, [SharpnessProbe(X, UNIT)], nn.BCEWithLogitsLoss(), X, UNIT, optimizer=optimizer
    )
    assert len(readings(tracker.history, "sharpness/value")) == 11
    assert readings(tracker.history, "sharpness/eta_lambda") == {}
    assert "without momentum" in tracker.undefined["sharpness/eta_lambda"]


def test_targets_in_a_column_count_as_those_of_one_output():
    probes = [SharpnessProbe(X, UNIT[:, None]), GeneralisationProbe((X, UNIT[:, None]), (X, UNIT))]
    tracker, _ = followed(network(), probes, nn.BCEWithLogitsLoss(), X, UNIT, steps=2)
    one, _ = followed(
        network(), [SharpnessProbe(X, UNIT)], nn.BCEWithLogitsLoss(), X, UNIT, steps=2
    )
    assert readings(tracker.history, "sharpness/value") == readings(one.history, "sharpness/value")
    read = [readings(tracker.history, f"generalisation/{n}") for n in ("train", "held_out")]
    assert read[0] == read[1]


def test_unexplained_share_is_the_error_over_that_of_the_commonest_class():
    held_out = TASK.sample(30, seed=1, step=0)
    x, y = held_out[0], (held_out[1] > 0).float()
    tracker, seen = followed(
        network(), [GeneralisationProbe((X, UNIT), (x, y))], nn.BCEWithLogitsLoss(), X, UNIT
    )
    check_reference(generalisation, tracker.history)
    for step, value in readings(tracker.history, "generalisation/held_out").items():
        W, b, A, c = seen[step]
        f = torch.relu(x.double() @ W.T + b) @ A[0] + c
        wrong = ((f > 0) != (y > 0)).double().mean()
        constant = min(y.mean(), 1 - y.mean())
        assert value == pytest.approx(float(wrong / constant))
        norm = readings(tracker.history, "generalisation/squared_norm")[step]
        assert norm == pytest.approx(sum(float(p.square().sum()) for p in seen[step]))


def test_given_sets_let_grokking_be_told_without_a_probe():
    net, loss = network(), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sets = {"sample": (X, UNIT), "held_out": (X[:20], UNIT[:20])}
    with phasetrack.attach(net, optimizer, loss=loss, geometry=TASK.geometry, **sets) as tracker:
        for _ in range(3):
            loss(net(X).squeeze(-1), UNIT).backward()
            optimizer.step()
    assert tracker.phases["grokking"].applies
    assert len(readings(tracker.history, "generalisation/held_out")) == 3


def test_unexplained_share_of_a_regression_is_the_loss_over_that_of_the_mean():
    y = X[:, 0] * X[:, 1] + 0.3 * X[:, 2]
    tracker, seen = followed(
        network(), [GeneralisationProbe((X, y), (X, y))], nn.MSELoss(), X, y, steps=3, lr=1e-3
    )
    for step, value in readings(tracker.history, "generalisation/train").items():
        W, b, A, c = seen[step]
        f = torch.relu(X.double() @ W.T + b) @ A[0] + c
        variance = float(y.double().var(correction=1))
        assert value == pytest.approx(float((f - y).square().mean()) / variance, rel=1e-5)


def test_classes_are_explained_by_their_logits():
    y = (X[:, 0] > 0).long() + 2 * (X[:, 1] > 0).long()
    net, loss = network(outputs=4), nn.CrossEntropyLoss()
    geometry = phasetrack.ClusterGeometry(torch.eye(4, 16), range(4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    probe = GeneralisationProbe((X, y), (X, y))
    with phasetrack.attach(net, optimizer, loss=loss, geometry=geometry, probes=[probe]) as tracker:
        wrong = float((net(X).argmax(dim=1) != y).double().mean())
        loss(net(X), y).backward()
        optimizer.step()
    commonest = int(torch.bincount(y).max()) / len(y)
    read = readings(tracker.history, "generalisation/train")
    assert read[0] == pytest.approx(wrong / (1 - commonest))


def test_ranks_count_neurons_and_eigenvalues():
    tracker, seen = followed(network(), [RankProbe()], nn.BCEWithLogitsLoss(), X, UNIT)
    check_reference(rank, tracker.history)
    for step, value in readings(tracker.history, "rank/numerical").items():
        W, _, A, _ = (p.numpy() for p in seen[step])
        lengths = np.linalg.norm(W, axis=1)
        gram = (W.T * np.abs(A[0]) / lengths) @ W
        eigenvalues = np.linalg.eigvalsh(gram)
        assert value == (eigenvalues >= 0.1 * eigenvalues[-1]).sum()
        stable = readings(tracker.history, "rank/stable")[step]
        assert stable == pytest.approx(eigenvalues.sum() / eigenvalues[-1])
        sizes = np.abs(A[0]) * lengths
        assert readings(tracker.history, "rank/active")[step] == (sizes >= 0.1 * sizes.max()).sum()
        number = sizes.sum() ** 2 / (sizes**2).sum()
        assert readings(tracker.history, "rank/neurons")[step] == pytest.approx(number)


def test_frequencies_are_those_of_both_residues():
    tracker, seen = followed(network(), [FourierProbe(8)], nn.BCEWithLogitsLoss(), X, UNIT, steps=2)
    check_reference(fourier, tracker.history)
    W = seen[0][0].numpy().reshape(12, 2, 8)
    power = (np.abs(np.fft.rfft(W, axis=2)) ** 2).sum(axis=1)[:, 1:] * [2, 2, 2, 1]
    read = readings(tracker.history, "fourier/specialisation")[0]
    assert read == pytest.approx(power.max(axis=1).sum() / power.sum())


# --- the slope of the loss -----------------------------------------------------------------


def slopes(losses, block=16, cut=None):
    """The readings of a loss that is given step by step; attached anew before the step `cut`."""
    net = nn.Sequential(nn.Linear(16, 1, bias=False), nn.Identity(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.zero_()
        net[2].weight.fill_(1.0)
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=0.0), nn.MSELoss()
    x = torch.zeros(1, 16)

    def attached():
        return phasetrack.attach(
            net, optimizer, loss=loss, geometry=TASK.geometry, probes=[PlateauProbe()], block=block
        )

    tracker = attached()
    for step, value in enumerate(losses):
        if step == cut:
            state = tracker.state_dict()
            tracker.detach()
            tracker = attached()
            tracker.load_state_dict(state)
        optimizer.zero_grad()
        loss(net(x).squeeze(-1), torch.tensor([math.sqrt(value)])).backward()
        optimizer.step()
    tracker.detach()
    return tracker


def test_slope_of_a_power_is_its_exponent():
    history = slopes([3 * (t + 1) ** -0.7 for t in range(300)]).history
    check_reference(plateau, history)
    found = readings(history, "plateau/slope")
    assert 15 <= len(found) <= 25 and min(found) > 30
    assert list(found.values()) == pytest.approx([0.7] * len(found), rel=0.01)
    last = max(found)
    share = readings(history, "plateau/share")[last]
    assert share == pytest.approx((last + 1) ** -0.7, rel=0.06)


def test_slope_is_the_same_for_every_block_and_through_a_resume():
    losses = [1 + math.sin(t) / 3 for t in range(100)]
    one = slopes(losses).history
    for other in (slopes(losses, block=1).history, slopes(losses, cut=57).history):
        for metric in plateau.METRICS:
            assert readings(one, metric.name) == readings(other, metric.name) != {}


def test_trend_of_the_loss_is_no_noise():
    history = slopes([3 * math.exp(-t / 20) for t in range(100)]).history
    slope, error = (readings(history, f"plateau/{n}") for n in ("slope", "slope_error"))
    assert max(error[step] / slope[step] for step in slope) < 0.1


def test_noise_shows_in_the_error_of_the_slope():
    rng = np.random.default_rng(0)
    history = slopes(rng.gamma(4.0, 0.25, 600)).history
    slope, error = (readings(history, f"plateau/{n}") for n in ("slope", "slope_error"))
    ratios = np.array([slope[step] / error[step] for step in slope])
    assert 0.4 < np.sqrt((ratios**2).mean()) < 2.0


def test_loss_of_zero_has_no_slope_and_a_reason():
    tracker = slopes([0.0] * 90)
    assert readings(tracker.history, "plateau/slope") == {}
    assert "positive" in tracker.undefined["plateau/slope"]
