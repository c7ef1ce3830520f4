"""The remedy that each warning names works: without it readings are missing, with it they are right."""

import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

from phasetrack import ClusterGeometry, TrackingWarning, attach

D, P, STEPS = 6, 8, 10
CENTRES = 2.0 * torch.eye(D)[:4]
LABELS = torch.tensor([1.0, 1.0, -1.0, -1.0])
GEOMETRY = ClusterGeometry(CENTRES, LABELS)


class Sharpness(torch.optim.Optimizer):
    """Sharpness-aware minimisation in two calls, of which neither is step()."""

    def __init__(self, parameters):
        super().__init__(parameters, {})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1)

    def climb(self):
        self.kept = [p.detach().clone() for p in self.param_groups[0]["params"]]
        for p in self.param_groups[0]["params"]:
            p.data.add_(p.grad, alpha=0.05)

    def descend(self):
        for p, kept in zip(self.param_groups[0]["params"], self.kept, strict=True):
            p.data = kept
        self.base_optimizer.step()


def hinge(f, y):
    return (1 - y * f).clamp_min(0).mean()


def logistic(f, y):
    return 2 * F.softplus(-y * f).mean()


class Hinge(nn.Module):
    def forward(self, f, y):
        return hinge(f, y)


def run(net, optimizer, *, call, forward, **options):
    """The tracker of a few steps, and the losses of the loop: `call(tracker)` of `forward(x)`."""
    right = []
    with attach(options.pop("model", net), options.pop("follow", optimizer), **options) as tracker:
        for _ in range(STEPS):
            cluster = torch.randint(4, (32,))
            x, y = CENTRES[cluster] + 0.3 * torch.randn(32, D), LABELS[cluster]
            optimizer.zero_grad()
            value = call(tracker)(forward(x), y)
            value.backward()
            right.append(value.item())
            if isinstance(optimizer, Sharpness):
                optimizer.climb()
                optimizer.zero_grad()
                call(tracker)(forward(x), y).backward()
                optimizer.descend()
            else:
                optimizer.step()
    return tracker, right


def usual(_):
    return logistic


def of_tracker(tracker):
    return tracker.loss


MODULE, ANOTHER = Hinge(), Hinge()


def compiled(model):
    return torch.compile(model, backend="eager")


def without_gradients(model):
    def forward(x):
        with torch.no_grad():
            hidden = model[:2](x)
        return model[2:](hidden)

    return forward


def checkpointed(model, reentrant):
    return lambda x: checkpoint(model, x.requires_grad_(), use_reentrant=reentrant)


# Part of the warning, the loop at first, and the loop with the remedy: what each differs in, of a model.
# `call` is the loss that the loop calls, `forward` what it calls as the model.
LOSSES = {
    "a loss in place that is no usual one": (
        "pass the loss to attach",
        lambda _m: {"call": lambda _: hinge},
        lambda _m: {"call": of_tracker, "loss": hinge},
    ),
    "a function that the loop calls itself": (
        "call tracker.loss",
        lambda m: {"call": lambda _: hinge, "loss": logistic, "forward": m.forward},
        lambda m: {"call": of_tracker, "loss": hinge, "forward": m.forward},
    ),
    "another module than the loop's": (
        "give attach.. the loss module that the loop calls",
        lambda m: {"call": lambda _: MODULE, "loss": ANOTHER, "forward": m.forward},
        lambda m: {"call": lambda _: MODULE, "loss": MODULE, "forward": m.forward},
    ),
    "forward() in place of the model": (
        "call the model itself",
        lambda m: {"call": usual, "forward": m.forward},
        lambda _m: {"call": usual},
    ),
    "detached outputs": (
        "Call the loss on the model's outputs themselves",
        lambda _m: {
            "call": lambda _: lambda f, y: MODULE(f.detach(), y) + 0 * f.sum(),
            "loss": MODULE,
        },
        lambda _m: {"call": lambda _: MODULE, "loss": MODULE},
    ),
}
PASSES = {
    "a traced copy": (
        "call the model itself",
        lambda m: {"call": usual, "forward": torch.jit.trace(m, torch.zeros(2, D))},
        lambda _m: {"call": usual},
    ),
    "a compiled model beside the one that is followed": (
        "attach to the model that torch.compile",
        lambda m: {"call": lambda _: MODULE, "loss": MODULE, "forward": compiled(m)},
        lambda m: (lambda c: {"call": lambda _: MODULE, "loss": MODULE, "forward": c, "model": c})(
            compiled(m)
        ),
    ),
    "features without gradients": (
        "freeze a layer by requires_grad_.False.",
        lambda m: {"call": lambda _: MODULE, "loss": MODULE, "forward": without_gradients(m)},
        lambda m: (m[0].requires_grad_(False), {"call": lambda _: MODULE, "loss": MODULE})[1],
    ),
    "a reentrant checkpoint": (
        "pass use_reentrant=False",
        lambda m: {"call": lambda _: MODULE, "loss": MODULE, "forward": checkpointed(m, True)},
        lambda m: {"call": lambda _: MODULE, "loss": MODULE, "forward": checkpointed(m, False)},
    ),
}
STEPS_UNSEEN = {
    "the outer optimizer of two": (
        "such as its base_optimizer",
        lambda m: (lambda o: {"call": usual, "optimizer": o})(Sharpness(m.parameters())),
        lambda m: (lambda o: {"call": usual, "optimizer": o, "follow": o.base_optimizer})(
            Sharpness(m.parameters())
        ),
    )
}


def followed(choose):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 1), nn.Flatten(0))
    options = {"forward": model, "geometry": GEOMETRY, **choose(model)}
    optimizer = options.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tracker, right = run(model, optimizer, **options)
    own = [str(w.message) for w in said if issubclass(w.category, TrackingWarning)]
    return tracker, right, own


def column(tracker, name):
    return tracker.history[name] if name in tracker.history else np.full(STEPS, np.nan)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LOSSES | PASSES)
def test_what_is_missing_comes_back(name):
    match, first, mended = (LOSSES | PASSES)[name]
    reading = "loss/train" if name in LOSSES else "margin/empirical/c0"
    tracker, _, said = followed(first)
    assert np.isnan(column(tracker, reading)).all()
    assert any(re.search(match, line) for line in said) and len(set(said)) == len(said)
    tracker, right, said = followed(mended)
    assert said == []
    np.testing.assert_allclose(tracker.history["loss/train"], right, rtol=1e-5)
    assert not np.isnan(tracker.history["margin/empirical/c0"]).any()


def test_steps_of_an_inner_optimizer_are_seen():
    match, first, mended = STEPS_UNSEEN["the outer optimizer of two"]
    tracker, _, said = followed(first)
    assert len(tracker.history.steps) == 0 and len(said) == 1 and match in said[0]
    assert len(followed(mended)[0].history.steps) == STEPS


@pytest.mark.parametrize("part", ["module", "parameter"])
def test_a_layer_that_is_replaced_ends_the_records_until_attach_is_called_again(part):
    torch.manual_seed(0)
    model, criterion = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 1)), nn.MSELoss()

    def steps(optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            criterion(model(torch.randn(9, D)), torch.ones(9, 1)).backward()
            optimizer.step()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(TrackingWarning, match="layer 2 was replaced") as said:
        tracker = attach(model, optimizer, loss=criterion, geometry=GEOMETRY)
        steps(optimizer, 2)
        if part == "module":
            model[2] = nn.Linear(P, 1)
        else:
            model[2].weight = nn.Parameter(torch.ones(1, P))
        steps(optimizer, 3)
        tracker.detach()
    assert tracker.history.steps.tolist() == [0, 1] and len(said) == 1
    assert not any(module._forward_hooks for module in model.modules())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(model, optimizer, loss=criterion, geometry=GEOMETRY) as tracker:
        steps(optimizer, 2)
    assert not np.isnan(tracker.history["loss/train"]).any()
