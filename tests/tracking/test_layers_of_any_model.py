"""Readings of networks as other people write them: right, or absent with the reason."""

import warnings

import numpy as np
import pytest
import torch
from helpers.networks import REFUSED, REPRODUCED, Bare, D, P, linear, randn, sequential
from torch import nn

from phasetrack import ClusterGeometry, TrackingWarning, attach
from phasetrack.measures.feature_gain import Features
from phasetrack.probes import AcquisitionProbe, HeldOutProbe, default_probes

# Corners of four clusters in three coordinates, for one output and for several.
CENTRES = torch.tensor([[1.0, 1, 0], [-1, 1, 0], [1, -1, 1], [-1, -1, 0]], dtype=torch.float64)
CENTRES = nn.functional.pad(CENTRES, (0, D - 3))
LOSS = nn.MSELoss()


def geometry(outputs):
    labels = [1, 1, -1, -1] if outputs == 1 else [c % outputs for c in range(max(4, outputs))]
    centres = CENTRES if outputs <= 4 else torch.eye(D, dtype=torch.float64)[:outputs]
    return ClusterGeometry(centres[: len(labels)], labels)


def followed(model, layers, steps=3, **options):
    """A tracker after some steps, and the model's outputs at the centres before each."""
    width = model.eval()(randn(4, D)).reshape(4, -1).shape[1]
    model.train()
    clusters, at = geometry(width), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    options = {"layers": layers, "loss": LOSS, "geometry": clusters, **options}
    with attach(model, optimizer, **options) as tracker:
        for _ in range(steps):
            state = torch.random.get_rng_state()
            with torch.no_grad():
                at.append(model.eval()(clusters.centres).reshape(len(clusters.centres), -1))
            torch.random.set_rng_state(state)
            model.train()
            optimizer.zero_grad()
            outputs = model(randn(20, D)).reshape(20, -1)
            LOSS(outputs, torch.zeros_like(outputs)).backward()
            optimizer.step()
    return tracker, clusters, at


def margins(outputs, clusters):
    if outputs.shape[1] == 1:
        return outputs[:, 0] * clusters.labels
    own = outputs.gather(1, clusters.classes[:, None])
    others = outputs.scatter(1, clusters.classes[:, None], -torch.inf)
    return own[:, 0] - others.amax(dim=1)


LINKED = ("log probabilities", "probabilities", "sigmoid at the end", "tanh at the end")


@pytest.mark.parametrize("name", [name for name in REPRODUCED if name not in LINKED])
def test_clean_margins_are_those_of_the_models_own_outputs(name):
    torch.manual_seed(7)
    make, layers = REPRODUCED[name]
    tracker, clusters, at = followed(make(), layers, strict=True)
    for step, outputs in enumerate(at):
        expected = margins(outputs, clusters)
        read = [tracker.history[f"margin/clean/{c}"][step] for c in clusters.names]
        if name != "spectral norm":  # its weights are the training pass's, not evaluation's
            np.testing.assert_allclose(read, expected, atol=1e-9)
    assert not np.isnan(tracker.history["heaviness/zeta_star"]).any()
    assert not np.isnan(tracker.history["loss/train"]).any()


@pytest.mark.parametrize("name", LINKED[:2])
def test_margins_of_linked_outputs_are_those_of_the_logits(name):
    torch.manual_seed(7)
    model = REPRODUCED[name][0]()
    tracker, _, _ = followed(model, None, steps=1, strict=True)
    assert tracker.view.link in ("log_softmax", "softmax")
    assert tracker.view.doubt == ""
    assert np.isfinite(tracker.history["margin/min"][0])


@pytest.mark.parametrize("name", REFUSED)
def test_what_rests_on_the_formula_is_absent_with_the_reason_and_the_rest_stays(name):
    torch.manual_seed(8)
    make, layers, words = REFUSED[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tracker, clusters, _ = followed(make(), layers)
    resting = ["margin/min", "margin/balance", "heaviness/zeta_star", "growth/signal_rate"]
    resting += [f"margin/clean/{c}" for c in clusters.names]
    for metric in resting:
        assert np.isnan(tracker.history[metric]).all() and words in tracker.undefined[metric]
    for metric in ("signal_share", "chance", "control", "heavy_mass"):
        assert not np.isnan(tracker.history[f"heaviness/{metric}"]).any()
    assert not np.isnan(tracker.history["loss/train"]).any()
    assert sum(words in str(each.message) for each in said) == 1


def test_probes_on_request_are_absent_too():
    model = REFUSED["ReLU on the output"][0]()
    probes = [
        *default_probes(gradients=True),
        AcquisitionProbe(Features.products(D, 2, {"xor": (1, 2)})),
        HeldOutProbe(randn(8, D), torch.zeros(8, dtype=torch.float64), LOSS),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracker, _, _ = followed(model, None, probes=probes)
    for metric in ("acquisition/xor", "held_out/loss", "linearization/gradient_error_first"):
        assert np.isnan(tracker.history[metric]).all()
        assert "relu acts behind them" in tracker.undefined[metric]


@pytest.mark.filterwarnings("ignore::phasetrack.TrackingWarning")
def test_margins_are_absent_while_no_pass_shows_the_factor():
    """A pass without gradients, and no loss: nothing is known of the factor."""
    model = sequential(nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(TrackingWarning, match="no forward pass with gradients through 0 was seen"),
        attach(model, optimizer, loss=LOSS, geometry=geometry(1)) as tracker,
    ):
        optimizer.step()
    assert np.isnan(tracker.history["margin/min"]).all()
    assert "has not been measured" in tracker.undefined["margin/min"]
    assert not np.isnan(tracker.history["heaviness/signal_share"]).any()


def test_inputs_made_within_a_module_leave_loss_and_weights():
    torch.manual_seed(0)
    model = Bare(lambda m, x: torch.relu((x / 2 - 1) @ m.W) @ m.a, W=randn(D, P), a=randn(P))
    with pytest.warns(TrackingWarning, match="not given the model's own inputs"):
        tracker, clusters, _ = followed(model, None)
    assert not np.isnan(tracker.history["loss/train"]).any()
    assert not np.isnan(tracker.history["margin/min"]).any()
    for name in clusters.names:
        assert "made within" in tracker.undefined[f"margin/empirical/{name}"]


@pytest.mark.filterwarnings("ignore::phasetrack.TrackingWarning")
def test_a_geometry_of_another_width_than_the_pass_is_reported():
    """Both ways round fit the shapes: the geometry chose one, the pass shows the other."""
    model = Bare(lambda m, x: torch.relu(x @ m.U) @ m.V, U=randn(D, 3), V=randn(3, D))
    clusters = ClusterGeometry(torch.eye(3), [0, 1, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(UserWarning, match=r"lies in R\^3, and the pass gave U 6 inputs"),
        attach(model, optimizer, loss=LOSS, geometry=clusters),
    ):
        model(randn(9, D)).sum().backward()
        optimizer.step()


class Counting(nn.Module):
    """An activation with a running size."""

    def __init__(self):
        super().__init__()
        self.register_buffer("size", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.size.mul_(0.9).add_(0.1 * x.detach().abs().mean())
        return torch.relu(x) / (1 + self.size)


@pytest.mark.parametrize("activation", [nn.RReLU, nn.Dropout, Counting])
def test_random_numbers_and_buffers_are_the_same_to_the_bit(activation):
    states = []
    for tracked in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(linear(D, P), activation(), linear(P, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tracker = tracked and attach(model, optimizer, loss=LOSS, geometry=geometry(1))
            for _ in range(5):
                optimizer.zero_grad()
                LOSS(model(randn(20, D)), torch.zeros(20, 1, dtype=torch.float64)).backward()
                optimizer.step()
            if tracker:
                tracker.detach()
        states.append([*model.state_dict().values(), torch.random.get_rng_state()])
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))
