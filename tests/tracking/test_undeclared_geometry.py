"""Loops of people who declare nothing: what is recorded, found at the start, and found at the end."""

import io
import json

import numpy as np
import pytest
import torch
from torch import nn

import phasetrack
from phasetrack import ClusterGeometry, ExpectedError, SpanGeometry
from phasetrack.measures import heaviness
from phasetrack.tasks import ModularAddition

D = 16


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(inputs=D, width=32, outputs=1, scale=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(scale)
    return net


def loop(net, loss, batch, steps, optimizer=None, given=None, **options):
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=0.5)
    with phasetrack.attach(
        net, optimizer, loss=loss if given is None else given[0], **options
    ) as t:
        for step in range(steps):
            x, y = batch(step)
            optimizer.zero_grad()
            loss(net(x).squeeze(-1), y).backward()
            optimizer.step()
    return t


def digits(count=64):
    """Ten classes about ten means, as pictures of digits have them."""
    means = 1.2 * normal(1, 10, D)

    def sample(step):
        y = torch.randint(0, 10, (count,), generator=torch.Generator().manual_seed(step))
        return means[y] + normal(1000 + step, count, D), y

    return sample


def parity(step, count=256):
    x = normal(step, count, D).sign()
    return x, (x[:, 0] * x[:, 1] > 0).float()


def teacher(step):
    x = normal(step, 128, D)
    return x, torch.relu(x[:, 0])


# --- true sentences at the end -----------------------------------------------------------------


def test_digits_are_read_at_the_means_of_their_classes():
    net = network(outputs=10)
    adam = torch.optim.Adam(net.parameters(), lr=3e-3)
    tracker = loop(net, nn.functional.cross_entropy, digits(), 60, adam, given=(None,))
    (note,) = [note for note in tracker.notes if "classes" in note]
    assert "The means of the 10 classes are taken as the data's clusters" in note
    history = tracker.history
    zeta = history["heaviness/zeta_star"]
    first = int(np.isnan(zeta).argmin())
    assert 0 < first < 10 and not np.isnan(zeta[first:]).any()
    # what needs no clusters is recorded from the first step on
    for name in ("loss/train", "norm/first", "linearization/slope_drift"):
        assert np.isfinite(history[name]).all()
    assert np.isfinite(history["kernel/drift"][0])
    assert "heaviness" not in tracker.undefined and "hindsight" not in tracker.summary()


def test_parity_is_seen_in_hindsight():
    tracker = loop(network(width=64), nn.BCEWithLogitsLoss(), parity, 150, given=(None,))
    told = tracker.summary()["hindsight"]
    assert told["trustworthy"] and told["span"]["dimension"] == 2
    assert {b["name"] for b in told["boundaries"]} >= {"fitted"}
    assert told["final"]["heaviness/signal_share"] > told["final"]["heaviness/chance"] == 2 / D
    text = repr(tracker)
    assert "In hindsight the network came to use 2 of 16 input directions" in text
    assert any("do not differ" in note for note in tracker.notes)


def test_a_teacher_of_a_regression_is_found_in_hindsight(tmp_path):
    net = network(scale=0.3)
    sgd = torch.optim.SGD(net.parameters(), lr=0.02)
    run = tmp_path / "run"
    tracker = loop(net, nn.MSELoss(), teacher, 300, sgd, logdir=run)
    told = tracker.summary()["hindsight"]
    assert told["trustworthy"] and told["span"]["dimension"] == 1
    assert "above the median" in repr(tracker) and "signal-heavy" not in repr(tracker)
    rows = [json.loads(line) for line in (run / "hindsight.jsonl").read_text().splitlines()]
    shares = [row["heaviness/signal_share"] for row in rows]
    assert rows[0]["step"] == 0 and rows[-1]["step"] == 300 and shares[-1] > 3 * shares[0]
    W = net[0].weight.detach().double()
    share = float(W[:, 0].square().sum() / W.square().sum())  # along the teacher itself
    assert shares[-1] == pytest.approx(share, abs=0.02)
    kept = json.loads((run / "config.json").read_text())["hindsight"]
    assert kept["networks_per_decade"] == 8 and 0 < kept["most_bytes"] <= 2**25
    assert phasetrack.read_run(run).summary["hindsight"]["sentence"] == told["sentence"]
    assert "In hindsight" in repr(phasetrack.read_run(run))


def test_modular_addition_memorised_is_not_called_found():
    task = ModularAddition(13, share=0.5)
    net = network(26, 64, 13)
    adam = torch.optim.Adam(net.parameters(), lr=2e-2)
    loss = nn.CrossEntropyLoss()
    tracker = loop(net, loss, lambda _: task.train, 120, adam, held_out=task.held_out)
    history, told = tracker.history, tracker.summary()["hindsight"]
    assert history["error/train"][-1] == 0 and history["held_out/error"][-1] != 0
    assert not told["trustworthy"]
    text = repr(tracker)
    assert "No span could be trusted in hindsight" in text and "features were found" not in text
    with torch.no_grad():
        x, y = task.held_out
        value, error = float(loss(net(x), y)), float((net(x).argmax(dim=1) != y).float().mean())
    read = np.flatnonzero(~np.isnan(history["held_out/loss"]))
    assert 20 < len(read) < 60  # log-spaced
    assert history["held_out/loss"][read[-1]] == pytest.approx(value, rel=0.1)
    assert history["held_out/error"][read[-1]] == pytest.approx(error, abs=0.05)


# --- where nothing must be found ---------------------------------------------------------------


def test_labels_learned_by_heart_are_not_trusted():
    x, y = normal(0, 300, D), (normal(1, 300) > 0).float()
    net = network(width=256)
    adam = torch.optim.Adam(net.parameters(), lr=2e-2)
    tracker = loop(net, nn.BCEWithLogitsLoss(), lambda _: (x, y), 150, adam)
    assert tracker.history["error/train"][-1] < 0.05
    told = tracker.summary()["hindsight"]
    assert not told["trustworthy"] and "learn by heart" in told["untrusted"]


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_span(seed):
    def noise(step):
        return normal(seed * 1000 + step, 64, D), (normal(seed * 1000 + 500 + step, 64) > 0).float()

    tracker = loop(network(), nn.BCEWithLogitsLoss(), noise, 60)
    told = tracker.summary()["hindsight"]
    assert not told["trustworthy"] and tracker.phase.name != "SIGNAL_HEAVY"


# --- the readings are those of the declared clusters -------------------------------------------


def test_readings_through_clusters_found_are_those_of_the_same_clusters_declared():
    trackers = {}
    found = ClusterGeometry.from_data(*digits(1024)(0))
    fixed = digits(1024)(0)
    for name, options in {"declared": {"geometry": found}, "found": {"sample": fixed}}.items():
        net = network(outputs=10)
        loss = nn.CrossEntropyLoss()
        trackers[name] = loop(net, loss, digits(), 12, **options)
    declared, seen = (trackers[name].history for name in ("declared", "found"))
    for name in ("heaviness/zeta_star", "margin/min", "growth/perp_rate", "growth/perp_factor"):
        np.testing.assert_array_equal(declared[name], seen[name])


def test_clusters_found_on_the_way_compare_with_the_first_state():
    net = network(outputs=10)
    start = net[0].weight.detach().double().clone()
    tracker = loop(net, nn.CrossEntropyLoss(), digits(), 20)
    before = net[0].weight.detach().double().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    del optimizer
    geometry = tracker._capture.geometry
    factor = tracker.history["growth/perp_factor"]
    assert not np.isnan(factor[-1])
    known = int(np.isnan(factor).argmin())
    assert known > 0 and factor[known] != 1  # not that of a first state
    perps = [geometry.project(W)[1] for W in (start, before)]
    grown = before.norm(dim=1) > start.norm(dim=1)
    ratio = float((perps[1][grown].square().sum() / perps[0][grown].square().sum()).sqrt())
    assert factor[-1] == pytest.approx(ratio, rel=0.05)  # one step later


def test_training_is_the_same_to_the_bit():
    plain, tracked = network(outputs=10), network(outputs=10)
    x, y = digits(128)(99)
    for net in (plain, tracked):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        if net is tracked:
            phasetrack.attach(net, optimizer, sample=digits(512)(7), held_out=(x, y))
        for step in range(20):
            inputs, targets = digits()(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()
            optimizer.step()
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), tracked.parameters(), strict=True)
    )


@pytest.mark.parametrize("cut", [2, 10])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(cut):
    loss = nn.CrossEntropyLoss()

    def steps(net, optimizer, tracker, span):
        for step in span:
            x, y = digits()(step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
        return tracker

    net = network(outputs=10)
    sgd = torch.optim.SGD(net.parameters(), lr=0.5)
    whole = steps(net, sgd, phasetrack.attach(net, sgd, loss=loss), range(16))
    whole.detach()
    net = network(outputs=10)
    sgd = torch.optim.SGD(net.parameters(), lr=0.5)
    part = steps(net, sgd, phasetrack.attach(net, sgd, loss=loss), range(cut))
    saved = io.BytesIO()
    torch.save(part.state_dict(), saved)
    state = torch.load(io.BytesIO(saved.getvalue()), weights_only=True)
    part.detach()
    again = phasetrack.attach(net, sgd, loss=loss)
    again.load_state_dict(state)
    steps(net, sgd, again, range(cut, 16)).detach()
    for name in ("heaviness/zeta_star", "loss/train", "norm/first", "kernel/drift"):
        np.testing.assert_array_equal(whole.history[name], again.history[name])


# --- directions alone --------------------------------------------------------------------------


def test_directions_are_read_without_clusters():
    net = network(scale=0.3)
    U = normal(3, 2, D)
    sgd = torch.optim.SGD(net.parameters(), lr=0.02)
    geometry = SpanGeometry(U, ["one", "other"])
    tracker = loop(net, nn.MSELoss(), teacher, 5, sgd, geometry=geometry, every=5)
    W, history = network(scale=0.3)[0].weight.detach().double().numpy(), tracker.history
    u = U.double().numpy()
    cosines = np.abs(W @ u.T) / np.outer(np.linalg.norm(W, axis=1), np.linalg.norm(u, axis=1))
    assert history["direction/overlap/one"][0] == pytest.approx(cosines[:, 0].max(), rel=1e-6)
    assert history["direction/overlap/other"][0] == pytest.approx(cosines[:, 1].max(), rel=1e-6)
    basis = torch.linalg.qr(U.double().T).Q.numpy()
    share = np.square(W @ basis).sum() / np.square(W).sum()
    assert history["heaviness/signal_share"][0] == pytest.approx(share, rel=1e-6)
    reason = "directions alone are declared"
    assert reason in tracker.undefined["clean_margins"]
    assert reason in tracker.undefined["heaviness/zeta_star"]
    assert "hindsight" not in tracker.summary()


def test_nothing_is_kept_for_a_look_back_where_a_geometry_is_declared(tmp_path):
    geometry = SpanGeometry(torch.eye(D)[:1])
    loop(network(), nn.MSELoss(), teacher, 2, geometry=geometry, logdir=tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["hindsight"] is None and config["geometry"]["directions"] == ["u0"]


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair",
    [
        torch.zeros(3, D),
        (torch.zeros(3, D),),
        (torch.zeros(3, D), torch.zeros(4)),
        (torch.zeros(3, 2), torch.zeros(3)),
    ],
)
@pytest.mark.parametrize("argument", ["sample", "held_out"])
def test_a_set_that_does_not_fit_is_refused(argument, pair):
    net = network()
    with pytest.raises(ExpectedError) as refused:
        phasetrack.attach(net, torch.optim.SGD(net.parameters(), lr=0.1), **{argument: pair})
    assert refused.value.argument == argument


def test_a_loss_that_is_not_seen_is_said_and_the_weights_are_read():
    net = network()
    with pytest.warns(phasetrack.TrackingWarning, match="no loss call was seen"):
        tracker = loop(net, nn.functional.mse_loss, teacher, 12, given=(None,))
    assert np.isfinite(tracker.history["norm/first"]).all()
    assert "No span could be trusted" in repr(tracker)


def test_zeta_of_found_clusters_is_the_measures_own():
    x, y = digits(600)(0)
    net = network(outputs=10)
    weights = [p.detach().double().clone() for p in net.parameters()]
    tracker = loop(net, nn.CrossEntropyLoss(), lambda _: (x, y), 2)
    W, b, A, c = weights
    geometry = tracker._capture.geometry
    share = heaviness.heavy_mass(W, A, geometry)
    assert b.numel() and c.numel()
    # a full batch shows the clusters at once: the first record has them
    assert not np.isnan(tracker.history["heaviness/zeta_star"][0])
    assert tracker.history["heaviness/heavy_mass"][0] == pytest.approx(float(share), abs=0.05)


class Bare(nn.Module):
    """Two matrices that fit each other either way round."""

    def __init__(self):
        super().__init__()
        self.U, self.V = nn.Parameter(normal(1, D, 3) / 4), nn.Parameter(normal(2, 3, D))

    def forward(self, x):
        return torch.relu(x @ self.U) @ self.V


@pytest.mark.parametrize("given", [False, True])
def test_matrices_either_way_round_are_settled_by_the_pass_or_by_the_sample(given):
    net = Bare()  # D to 3 to D, or 3 to D to 3
    sgd, loss = torch.optim.SGD(net.parameters(), lr=0.1), nn.CrossEntropyLoss()
    options = {"held_out": (normal(3, 9, D), torch.arange(9))} if given else {}
    with phasetrack.attach(net, sgd, loss=loss, **options) as tracker:
        for step in range(3):
            sgd.zero_grad()
            loss(net(normal(step, 32, D)), torch.arange(32) % D).backward()
            sgd.step()
    assert tracker.view.first.shape == (3, D) and tracker.view.heads == D
    assert np.isfinite(tracker.history["loss/train"]).all()


def test_nothing_is_looked_for_where_nothing_was_recorded():
    net = network()
    tracker = phasetrack.attach(net, torch.optim.SGD(net.parameters(), lr=0.1))
    tracker.detach()
    assert tracker.notes == [] and "hindsight" not in tracker.summary()
    assert tracker.hindsight.count == 0
