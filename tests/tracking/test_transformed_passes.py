"""Gradients by torch.func: the reason why their samples are not read."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from phasetrack import ClusterGeometry, attach

GEOMETRY = ClusterGeometry(torch.eye(4)[:2], [0, 1])


@pytest.mark.parametrize("given", [True, False], ids=["loss given", "no loss given"])
def test_per_sample_gradients_have_their_own_reason(given):
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(8, 4), torch.randint(2, (8,))

    def value(parameters, sample, label):
        return loss(functional_call(model, parameters, (sample[None],)), label[None])

    options = {"loss": loss if given else None, "geometry": GEOMETRY, "scale": 1.0}
    tracker = attach(model, optimizer, **options)
    with pytest.warns(UserWarning, match="ran under torch.func") as caught, tracker:
        for _ in range(3):
            parameters = {name: p.detach() for name, p in model.named_parameters()}
            gradients = vmap(grad(value), in_dims=(None, 0, 0))(parameters, x, y)
            for name, p in model.named_parameters():
                p.grad = gradients[name].mean(dim=0)
            optimizer.step()
    assert len(caught) == 1
    assert "take the step's gradient by backward()" in tracker.undefined["loss"]


def test_per_sample_gradients_beside_a_backward_pass_take_nothing_away():
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(8, 4), torch.randint(2, (8,))

    def value(parameters, sample, label):
        return loss(functional_call(model, parameters, (sample[None],)), label[None])

    values = []
    with attach(model, optimizer, loss=loss, geometry=GEOMETRY, strict=True) as tracker:
        for _ in range(3):
            parameters = {name: p.detach() for name, p in model.named_parameters()}
            vmap(grad(value), in_dims=(None, 0, 0))(parameters, x, y)  # a noise scale, for example
            optimizer.zero_grad()
            total = loss(model(x), y)
            total.backward()
            values.append(total.item())
            optimizer.step()
    assert tracker.history["loss/train"].tolist() == pytest.approx(values)
