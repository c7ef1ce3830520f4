"""Optimizers within wrappers: the steps of the torch optimizer are followed."""

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach
from phasetrack.tasks import XOR
from phasetrack.tracking.optimizers import innermost_optimizer

# not where the lowest versions are tried
accelerate = pytest.importorskip("accelerate")
Fabric = pytest.importorskip("lightning.fabric").Fabric
_FabricOptimizer = pytest.importorskip("lightning.fabric.wrappers")._FabricOptimizer
LightningOptimizer = pytest.importorskip("lightning.pytorch.core.optimizer").LightningOptimizer

TASK = XOR(8)
pytestmark = pytest.mark.filterwarnings("ignore")


class Lookahead(torch.optim.Optimizer):
    """As it is copied from project to project: its __init__ does not call Optimizer's."""

    def __init__(self, inner, every=2):
        self.optimizer, self.every, self.count = inner, every, 0
        self.param_groups, self.state, self.defaults = inner.param_groups, {}, inner.defaults
        self.slow = [p.detach().clone() for g in self.param_groups for p in g["params"]]

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure=None):
        self.optimizer.step(closure)
        self.count += 1
        if self.count % self.every == 0:
            fast = [p for g in self.param_groups for p in g["params"]]
            for p, slow in zip(fast, self.slow, strict=True):
                p.copy_(slow.add_(p - slow, alpha=0.5))


class LookaheadWithTables(Lookahead):
    """Makes tables for hooks, which its step does not go through."""

    def __init__(self, inner):
        super().__init__(inner)
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}


class Noam:
    """Not an optimizer at all, and holds one."""

    def __init__(self, optimizer):
        self._optimizer = optimizer

    def zero_grad(self):
        self._optimizer.zero_grad()

    def step(self):
        self._optimizer.step()


class Outer(torch.optim.Optimizer):
    """Has hooks of its own, and steps an inner optimizer as often as it likes."""

    def __init__(self, inner):
        super().__init__(inner.param_groups, {})
        self.optimizer = inner

    def step(self, closure=None):
        self.optimizer.step()
        self.optimizer.step()


def sgd(net):
    return torch.optim.SGD(net.parameters(), lr=0.1)


WRAPPERS = {
    "accelerate": lambda inner: accelerate.Accelerator(cpu=True).prepare(inner),
    "fabric": lambda inner: _FabricOptimizer(inner, Fabric(accelerator="cpu").strategy),
    "lightning": LightningOptimizer,
    "lookahead": Lookahead,
    "lookahead with tables": LookaheadWithTables,
    "noam": Noam,
    "lookahead of accelerate's": lambda inner: Lookahead(
        accelerate.Accelerator(cpu=True).prepare(inner)
    ),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_inner_optimizer_is_found(wrap):
    inner = sgd(TwoLayerNet(8, 16))
    assert innermost_optimizer(wrap(inner)) is inner


def test_an_optimizer_with_hooks_is_taken_as_it_is():
    inner = sgd(TwoLayerNet(8, 16))
    outer = Outer(inner)
    assert innermost_optimizer(inner) is inner and innermost_optimizer(outer) is outer


@pytest.mark.parametrize("wrap", ["accelerate", "lookahead", "lookahead with tables", "noam"])
def test_steps_through_a_wrapper_are_recorded(wrap):
    net, loss = TwoLayerNet(8, 16, seed=0).double(), LogisticLoss()
    optimizer, seen = WRAPPERS[wrap](sgd(net)), []
    with attach(net, optimizer, loss=loss, geometry=TASK.geometry, strict=True) as tracker:
        for step in range(5):
            x, y = TASK.sample(16, seed=0, step=step, dtype=torch.float64)
            optimizer.zero_grad()
            value = loss(net(x), y)
            seen.append(value.item())
            value.backward()
            optimizer.step()
    np.testing.assert_allclose(tracker.history["loss/train"], seen, rtol=1e-12)
    assert tracker.history.steps.tolist() == list(range(5))


@pytest.mark.parametrize("given", [object(), [1], None, nn.Linear(1, 1)])
def test_an_object_without_an_optimizer_is_refused(given):
    net = TwoLayerNet(8, 16)
    with pytest.raises(ExpectedError, match=r"optimizer: A \w+ has no step hooks"):
        attach(net, given, loss=LogisticLoss(), geometry=TASK.geometry)
    assert not net.first._forward_hooks


def test_a_wrapper_of_itself_is_refused():
    circle = Noam(None)
    circle._optimizer = circle
    with pytest.raises(ExpectedError, match="optimizer: A Noam has no step hooks"):
        innermost_optimizer(circle)
