"""A pass of a copy, before anyone trains."""

import torch
from helpers.networks import D, P, linear, randn
from torch import nn

from phasetrack import TwoLayerView
from phasetrack.model.pass_rehearsal import SHOWN, rehearsed


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = linear(D, P), linear(P, 1), nn.Dropout(0.5)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return self.second(self.drop(torch.relu(self.first(x))))


def test_the_model_itself_is_not_called():
    model, calls = Counting(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    before, state = (
        torch.random.get_rng_state(),
        {n: t.clone() for n, t in model.state_dict().items()},
    )
    found = rehearsed(model, TwoLayerView.of(model))
    assert torch.equal(before, torch.random.get_rng_state()) and model.training and not calls
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items())
    assert found.view.doubt == "" and found.view.activation is torch.relu
    assert not model._forward_pre_hooks and found.reason == ""


def test_samples_are_the_first_outputs_of_both():
    found = rehearsed(model := Counting(), TwoLayerView.of(model))
    assert len(found.samples.layers) == len(found.samples.model) == SHOWN
    for ours, theirs in zip(*found.samples, strict=True):
        assert abs(ours - theirs) < 1e-12
    assert len(set(found.samples.model)) == SHOWN


def test_a_model_that_refuses_random_inputs_is_explained():
    class Two(Counting):
        def forward(self, x, y):
            return super().forward(x + y)

    model = Two()
    found = rehearsed(model, view := TwoLayerView.of(model))
    assert found.view is view and found.samples is None
    assert found.reason.startswith(f"the model does not take random inputs of shape (64, {D})")


def test_a_view_is_moved_to_a_copy():
    model, twin = Counting(), Counting()
    view = TwoLayerView.of(model).moved(dict(zip(model.modules(), twin.modules(), strict=True)))
    x = randn(5, D)
    expected = twin.eval()(x)[:, 0]
    assert torch.allclose(view.outputs(x, view.W, view.A) if view.scale else expected, expected)
    assert torch.equal(view.W, twin.first.weight)
