"""Predicted rates that check themselves by the gradient of each step."""

import numpy as np
import pytest
import torch

import phasetrack
from phasetrack import LogisticLoss, TwoLayerNet
from phasetrack.tasks import make_task

D, P, M, ETA = 24, 64, 128, 0.2
RATE = "growth/signal_rate"


def run(
    steps=30,
    task="xor",
    loss=None,
    eta=ETA,
    parts=1,
    factor=1.0,
    clip=None,
    spread=1.0,
    batch=M,
    relabelled=lambda y, _: y,
    **more,
):
    task, net = make_task(task, D), TwoLayerNet(D, P, seed=0)
    loss = loss or LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=eta * P, **more)
    tracker = phasetrack.attach(net, optimizer, loss=loss, geometry=task.geometry)
    for step in range(steps):
        optimizer.zero_grad()
        for part in range(parts):
            x, y = task.sample(batch, seed=0, step=step * parts + part)
            y = relabelled(y, step)
            x = torch.cat([x[:, :2], spread * x[:, 2:]], dim=1)
            (factor * loss(net(x), y)).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
    tracker.detach()
    return tracker


def rates(tracker):
    """Mean measured and predicted rate of the second half of a run."""
    history = tracker.history
    half = slice(len(history.steps) // 2, None)
    return [history[f"{RATE}{kind}"][half].mean() for kind in ("", "_predicted")]


FACTORS = {
    "sum over samples": ({"loss": LogisticLoss("sum"), "eta": ETA / M}, M),
    "micro-batches not divided": ({"parts": 3, "eta": ETA / 3}, 3),
    "scaled loss": ({"factor": 4.0, "eta": ETA / 4}, 4),
    "maximize": ({"maximize": True, "steps": 16}, -1),
}


@pytest.mark.parametrize("changed, factor", FACTORS.values(), ids=FACTORS)
def test_a_factor_on_the_gradient_is_read_noted_and_predicted_with(changed, factor):
    tracker = run(**changed)
    for layer in ("", "_second_layer"):
        seen = tracker.history[f"growth/gradient_factor{layer}"]
        np.testing.assert_allclose(seen, factor, rtol=1e-3)
    measured, predicted = rates(tracker)
    assert predicted == pytest.approx(measured, rel=0.1)
    (note,) = tracker.summary()["notes"]
    assert f"{factor} times" in note


def test_clipping_changes_the_factor_from_step_to_step():
    tracker = run(clip=0.002)
    factors = tracker.history["growth/gradient_factor"]
    assert 0 < factors.min() < 0.9 * factors.max() < 0.9
    measured, predicted = rates(tracker)
    assert predicted == pytest.approx(measured, rel=0.1)
    assert len(tracker.summary()["notes"]) == 1


@pytest.mark.parametrize(
    "changed",
    [{}, {"task": "noisy"}, {"task": "unbalanced"}, {"spread": 0.3}, {"spread": 2.0}],
    ids=["xor", "wrong labels", "unbalanced", "small noise", "large noise"],
)
def test_rates_hold_for_labels_shares_and_noise_of_the_data(changed):
    tracker = run(**changed)
    assert tracker.history["growth/gradient_factor"] == pytest.approx(1, abs=1e-3)
    assert tracker.history["growth/law_ratio"][-1] == pytest.approx(1, abs=0.08)
    measured, predicted = rates(tracker)
    assert predicted == pytest.approx(measured, rel=0.15)
    assert not tracker.summary()["notes"]


def test_where_the_law_fails_nothing_is_predicted():
    tracker = run(steps=120, task="gaussian")
    assert tracker.history["growth/gradient_factor"] == pytest.approx(1, abs=1e-3)
    assert tracker.history["growth/law_ratio"][-1] < 0.8
    assert np.isnan(tracker.history[f"{RATE}_predicted"][-20:]).all()
    assert np.isfinite(tracker.history[RATE][1:]).all()
    assert "not the one that the mean-field law predicts" in tracker.undefined[f"{RATE}_predicted"]


def drawn(y, step):
    """Labels that say nothing of the inputs."""
    signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(step))
    return (2 * signs - 1).to(y)


@pytest.mark.parametrize("batch", [8, M])
def test_nothing_is_predicted_from_labels_that_say_nothing(batch):
    tracker = run(steps=60, relabelled=drawn, batch=batch, eta=0.05)
    predicted = tracker.history[f"{RATE}_predicted"]
    assert np.isnan(predicted).mean() > 0.9
    assert np.isfinite(tracker.history[RATE][1:]).all()
    assert "no sign that is clear of noise" in tracker.undefined[f"{RATE}_predicted"]


def test_small_batches_predict_once_their_slopes_are_clear():
    tracker = run(batch=4, eta=0.05)
    predicted = tracker.history[f"{RATE}_predicted"]
    assert np.isnan(predicted[1:3]).all()
    assert np.isfinite(predicted[6:]).all()


def test_labels_that_stop_telling_the_clusters_end_the_prediction():
    tracker = run(steps=120, relabelled=lambda y, step: y if step < 10 else drawn(y, step))
    predicted = tracker.history[f"{RATE}_predicted"]
    assert np.isfinite(predicted[1:11]).all()
    assert np.isnan(predicted[-20:]).all()


def test_a_layer_that_is_not_trained_has_no_factor():
    task, net, loss = make_task("xor", D), TwoLayerNet(D, P, seed=0), LogisticLoss()
    optimizer = torch.optim.SGD(net.second.parameters(), lr=ETA * P)
    with phasetrack.attach(
        net, optimizer, loss=loss, geometry=task.geometry, strict=True
    ) as tracker:
        for step in range(4):  # gradients of the first layer add up
            x, y = task.sample(M, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    history = tracker.history
    assert np.isnan(history["growth/gradient_factor"]).all()
    assert tracker.undefined["growth/gradient_factor"] == "this layer is not trained"
    assert history["growth/gradient_factor_second_layer"] == pytest.approx(1, abs=1e-3)
    measured, predicted = (history[f"growth/second_layer_rate{k}"][1:] for k in ("", "_predicted"))
    np.testing.assert_allclose(predicted, measured, atol=0.01)


def test_a_resumed_tracker_predicts_the_same():
    task = make_task("xor", D)

    def steps(tracker, net, optimizer, loss, numbers):
        for step in numbers:
            x, y = task.sample(M, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()

    def begun():
        net, loss = TwoLayerNet(D, P, seed=0), LogisticLoss("sum")
        optimizer = torch.optim.SGD(net.parameters(), lr=ETA * P / M)
        tracker = phasetrack.attach(net, optimizer, loss=loss, geometry=task.geometry, strict=True)
        return tracker, net, optimizer, loss

    whole = begun()
    steps(*whole, range(6))
    state, weights = whole[0].state_dict(), whole[1].state_dict()
    weights = {name: value.clone() for name, value in weights.items()}
    steps(*whole, range(6, 12))
    again = begun()
    again[0].load_state_dict(state)
    again[1].load_state_dict(weights)
    steps(*again, range(6, 12))
    assert np.isfinite(whole[0].history[f"{RATE}_predicted"][1:]).all()
    for name in (f"{RATE}_predicted", "growth/law_ratio", "growth/gradient_factor"):
        np.testing.assert_array_equal(again[0].history[name], whole[0].history[name])
    for tracker in (whole[0], again[0]):
        tracker.detach()
