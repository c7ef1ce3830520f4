"""Watching a forward pass changes nothing in it, and leaves nothing behind."""

import copy
import io

import pytest
import torch
from helpers.networks import D, P, linear, randn, sequential
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from phasetrack import TwoLayerView
from phasetrack.model.pass_watch import MOST_PASSES


def watched(model, layers=None, **options):
    """The watch of a model, and the lists that views and reasons go to."""
    found, reasons = [], []
    view = TwoLayerView.of(model, layers, **options)
    watch = view.watched(model, lambda seen: found.append(view.resolved(seen)), reasons.append)
    return watch, found, reasons


class Random(nn.Module):
    """Dropout, normalisation, an activation with a buffer, and a hook of the user's."""

    def __init__(self):
        super().__init__()
        self.first, self.second = linear(D, P), linear(P, 1)
        self.norm, self.drop = nn.BatchNorm1d(P, dtype=torch.float64), nn.Dropout(0.3)
        self.register_buffer("passes", torch.zeros(()))
        self.calls = 0
        self.drop.register_forward_hook(self.count)

    def count(self, *_):
        self.calls += 1

    def forward(self, x):
        self.passes += 1
        return self.second(self.drop(torch.rrelu(self.norm(self.first(x)), training=True)))


@pytest.mark.parametrize(
    "make",
    [Random, lambda: sequential(nn.PReLU()), lambda: sequential(nn.ReLU(inplace=True))],
    ids=["random", "prelu", "in place"],
)
def test_training_is_the_same_to_the_bit(make):
    results = []
    for watching in (False, True):
        torch.manual_seed(1)
        model = make()
        if watching:
            watch, _, reasons = watched(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        outputs = []
        for _ in range(3):
            optimizer.zero_grad()
            outputs.append(model(randn(20, D)))
            outputs[-1].square().sum().backward()
            optimizer.step()
        if watching:
            assert not watch.waiting and not reasons
        state = [*model.state_dict().values(), *outputs, torch.random.get_rng_state()]
        results.append((state, getattr(model, "calls", 0), list(model.state_dict())))
    (plain, calls, names), (seen, seen_calls, seen_names) = results
    assert all(torch.equal(one, other) for one, other in zip(plain, seen, strict=True))
    assert (calls, names) == (seen_calls, seen_names)


def test_nothing_is_left_on_the_model():
    model = sequential(nn.ReLU())
    before = [dict(vars(module)) for module in model.modules()]
    watch, found, _ = watched(model)
    model(randn(9, D))
    after = [vars(module) for module in model.modules()]
    assert found and not watch.waiting
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.net, self.error = sequential(nn.ReLU()), error

    def forward(self, x):
        hidden = self.net[1](self.net[0](x))
        if self.error is not None:
            raise self.error
        return self.net[2](hidden)


def test_the_mode_is_left_where_the_forward_pass_raises():
    model = Failing(ValueError("mine"))
    _, found, reasons = watched(model)
    with pytest.raises(ValueError, match="mine"):
        model(randn(9, D))
    assert not _get_current_function_mode_stack()
    model.error = None
    model(randn(9, D))
    assert found[0].doubt == "" and not reasons


@pytest.mark.parametrize("end", ["next pass", "removed"])
def test_the_mode_is_blind_after_an_interruption_and_leaves_the_stack(end):
    """KeyboardInterrupt passes PyTorch's always-called hooks by."""
    model = Failing(KeyboardInterrupt())
    watch, found, _ = watched(model)
    with pytest.raises(KeyboardInterrupt):
        model(randn(9, D))
    model.error = None
    if end == "removed":
        watch.remove()
        assert not _get_current_function_mode_stack()
    model(randn(9, D))
    assert not _get_current_function_mode_stack()
    assert len(found) == (end == "next pass")


class Names(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("inside", [False, True], ids=["around", "within"])
def test_a_mode_of_the_users_sees_the_same_operations(inside):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.mode = sequential(nn.ReLU()), Names()

        def forward(self, x):
            if not inside:
                return self.net(x)
            with self.mode:
                return self.net(x)

    names = []
    for watching in (False, True):
        torch.manual_seed(0)
        model = Own()
        if watching:
            _, found, _ = watched(model)
        with Names() as around:
            model(randn(9, D))
        names.append((around.names, model.mode.names))
    assert names[0] == names[1] and found[0].doubt == ""


def test_a_mode_that_the_pass_leaves_open_stays():
    class Opens(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.mode = sequential(nn.ReLU()), Names()

        def forward(self, x):
            self.mode.__enter__()
            return self.net(x)

    model = Opens()
    watched(model)
    try:
        model(randn(9, D))
        assert _get_current_function_mode_stack() == [model.mode]
    finally:
        model.mode.__exit__(None, None, None)


def test_counted_operations_are_those_of_the_model():
    counts = []
    for watching in (False, True):
        model = sequential(nn.ReLU())
        if watching:
            watched(model)
        with FlopCounterMode(display=False) as counter:
            model(randn(9, D))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_passes_without_gradients_are_waited_through():
    model = sequential(nn.ReLU())
    watch, found, _ = watched(model)
    with torch.no_grad():
        model(randn(9, D))
    with torch.inference_mode():
        model(randn(9, D))
    assert watch.waiting and not found
    model(randn(9, D))
    assert found


def test_per_sample_gradients_are_waited_through():
    model = sequential(nn.ReLU())
    watch, found, _ = watched(model)
    weights = dict(model.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(model, weights, (x,)).sum()

    torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, randn(5, D))
    assert watch.waiting and not found
    model(randn(9, D))
    assert found[0].doubt == ""


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("block", [False, True], ids=["model", "block"])
def test_checkpointed_layers_are_seen(block, reentrant):
    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = sequential(nn.Tanh())

        def forward(self, x):
            return checkpoint(self.net, x, use_reentrant=reentrant)

    model = Saving()
    _, found, _ = watched(model, readout=torch.ones(1) if block else None)
    model(randn(9, D).requires_grad_()).sum().backward()
    assert found[0].doubt == "" and found[0].activation is torch.tanh


def test_passes_that_do_not_use_the_layers_are_given_up_with_the_reason():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = linear(D, P), linear(P, 1)

        def forward(self, x):
            return self.used(x)

    model = Other()
    watch, found, reasons = watched(model)
    for _ in range(MOST_PASSES):
        assert watch.waiting
        model(randn(9, D))
    assert not watch.waiting and not found
    assert reasons == ["the forward pass did not multiply its inputs by unused"]


def test_a_callback_that_raises_does_not_reach_the_model():
    model, reasons = sequential(nn.ReLU()), []

    def done(_):
        raise RuntimeError("broken")

    TwoLayerView.of(model).watched(model, done, reasons.append)
    assert model(randn(9, D)).shape == (9, 1)
    assert "broken" in reasons[0] and not _get_current_function_mode_stack()


def test_copies_and_pickles_of_a_watched_model_are_not_watched():
    model = sequential(nn.ReLU())
    _, found, _ = watched(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        twin(randn(9, D))
        assert not found
    model(randn(9, D))
    assert found


# Dynamo's own look at a tensor within a graph
GRAD_OF_A_RESULT = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@GRAD_OF_A_RESULT
@pytest.mark.parametrize("form", ["wrapped", "in place", "submodule", "function"])
def test_compiled_models_are_not_watched(form):
    torch._dynamo.reset()
    model = sequential(nn.ReLU())
    called = model
    if form == "wrapped":
        called = torch.compile(model, backend="eager")
    elif form == "in place":
        model.compile(backend="eager")
    elif form == "submodule":
        model[1] = torch.compile(model[1], backend="eager")
    else:
        called = model = Compiled(model)
    _, found, reasons = watched(called)
    assert called(randn(9, D)).shape == (9, 1)
    assert not (found or reasons or _get_current_function_mode_stack())


@torch.compile(backend="eager")
def compiled_relu(x):
    return torch.relu(x)


class Compiled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net[2](compiled_relu(self.net[0](x)))


@GRAD_OF_A_RESULT
def test_a_compiled_function_deep_in_the_pass_is_followed_without_harm():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = sequential(nn.ReLU())

        def hidden(self, x):
            return compiled_relu(self.net[0](x))

        def forward(self, x):
            return self.net[2](self.hidden(x))

    torch._dynamo.reset()
    model = Deep()
    watched(model)
    x = randn(9, D)
    outputs = model(x)
    assert torch.equal(outputs, model.net(x)) and not _get_current_function_mode_stack()


def test_a_model_compiled_after_the_watch_began_runs_as_compiled():
    torch._dynamo.reset()
    model = sequential(nn.ReLU())
    _, found, reasons = watched(model)
    x = randn(9, D)
    step = torch.compile(lambda: model(x), backend="eager", fullgraph=True)
    assert torch.equal(step(), model.forward(x))
    assert not (found or reasons)


def test_the_users_modules_are_called_by_the_user_alone():
    """Reading the activation and a parametrised weight calls neither module; hooks count calls."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, weight):
            self.calls += 1
            return weight * 2

    calls = []
    model = sequential(nn.PReLU())
    nn.utils.parametrize.register_parametrization(model[0], "weight", Scaled())
    counter = model[0].parametrizations.weight[0]
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: calls.append(m))
    try:
        _, found, _ = watched(model)
        before = counter.calls
        assert not calls
        model(randn(9, D))
        of_pass = list(calls)
        assert (found[0].W.shape, found[0].current_activation()(randn(3)).shape) == ((P, D), (3,))
        assert calls == of_pass and counter.calls == before + 1
    finally:
        handle.remove()
