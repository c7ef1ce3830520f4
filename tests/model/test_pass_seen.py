"""The two layers as a forward pass uses them, in many forms, against an evaluation of its own."""

import numpy as np
import pytest
import torch
from helpers.networks import REFUSED, REPRODUCED, D, P, linear, randn, sequential
from torch import nn

from phasetrack import ExpectedError, TwoLayerView
from phasetrack.model.formula import LINKS


def resolved(model, layers=None, inputs=None, **options):
    """The view after one pass, and why there is none."""
    found, reasons = [], []
    view = TwoLayerView.of(model, layers, **options)
    watch = view.watched(model, lambda seen: found.append(view.resolved(seen)), reasons.append)
    model(randn(40, D) if inputs is None else inputs)
    assert not watch.waiting, reasons
    assert not torch.overrides._get_current_function_mode_stack()
    return found[0]


def evaluate(view, x):
    """The formula in NumPy, from the view's own weights."""
    activation = view.current_activation()
    inner = x.numpy() @ view.W.numpy().T
    inner = inner if view.bias is None else inner + view.bias.numpy()
    hidden = activation(torch.from_numpy(inner)).detach().numpy()
    total, scale = hidden @ view.A.numpy().T, view.current_scale()
    bias = 0.0 if view.head_bias is None else view.head_bias.numpy()
    logits = (total + bias) * scale if view.bias_scaled else total * scale + bias
    return LINKS[view.link](torch.from_numpy(logits)).numpy()


@pytest.mark.parametrize("name", REPRODUCED)
def test_the_formula_of_a_pass_makes_the_models_outputs(name):
    torch.manual_seed(3)
    make, layers = REPRODUCED[name]
    model = make()
    view = resolved(model, layers)
    assert (view.doubt, view.notes) == ("", ())
    x = randn(25, D)
    with torch.no_grad():
        outputs = model.eval()(x).reshape(25, -1).numpy()
    np.testing.assert_allclose(evaluate(view, x), outputs, atol=1e-9)
    assert view.W.shape[1] == D and view.settled and view.reproduction < 1e-12


@pytest.mark.parametrize("name", REPRODUCED)
def test_the_formula_follows_the_weights_through_training(name):
    """Biases, slopes and factors are read at their present values, not at those of the pass."""
    torch.manual_seed(4)
    make, layers = REPRODUCED[name]
    model = make()
    view = resolved(model, layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(randn(20, D)).square().sum(dim=-1).mean().backward()
        optimizer.step()
    x = randn(25, D)
    with torch.no_grad():
        outputs = model.eval()(x).reshape(25, -1).numpy()
    np.testing.assert_allclose(evaluate(view, x), outputs, atol=1e-9)


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_the_layers_do_not_make_are_refused_with_the_reason(name):
    torch.manual_seed(5)
    make, layers, words = REFUSED[name]
    view = resolved(make(), layers)
    assert words in view.doubt and view.doubt in view.notes
    assert view.scale is None and view.formula.missing == view.doubt


@pytest.mark.parametrize("count", [1, 2])
def test_few_samples_tell_the_activation_by_its_operation(count):
    """One sample, all of whose neurons are active, fits ReLU, the identity and others."""
    torch.manual_seed(0)
    model = sequential(nn.ReLU())
    nn.init.constant_(model[0].bias, 9.0)
    view = resolved(model, inputs=randn(count, D))
    assert view.activation is torch.relu and view.settled


def test_orientation_is_seen_where_both_ways_fit():
    model = REPRODUCED["fewer neurons than outputs"][0]()
    assert TwoLayerView.of(model, inputs=3).W.shape == (D, 3)
    assert TwoLayerView.of(model, inputs=D).W.shape == (3, D)
    assert resolved(model).W.shape == (3, D)


def test_symmetric_weights_tell_their_orientation():
    model = REPRODUCED["square, inputs first"][0]()
    nn.init.eye_(model.U)
    nn.init.zeros_(model.V)
    view = resolved(model)
    assert view.first.transposed and view.second.transposed


@pytest.mark.parametrize("where", ["in front of the layers", "nowhere"])
def test_inputs_that_the_model_makes_are_noted(where):
    own = where == "nowhere"
    model = nn.Sequential(nn.Flatten() if own else nn.LayerNorm(D), sequential(nn.ReLU())).double()
    assert len(resolved(model).notes) == (0 if own else 1)


def test_what_the_pass_shows_takes_the_place_of_a_guess_by_modules():
    model = nn.Sequential(linear(D, P), nn.ReLU(), nn.Dropout(0.4), linear(P, 1)).eval()
    assert TwoLayerView.of(model).notes == ("Dropout acts between the layers",)
    assert resolved(model).notes == ()


def test_a_cancelling_start_is_read():
    """f = 0 at the start: neurons in pairs of opposite sign."""
    model = REPRODUCED["neural tangent scaling"][0]()
    with torch.no_grad():
        model.W[P // 2 :] = model.W[: P // 2]
        model.a[P // 2 :] = -model.a[: P // 2]
    view = resolved(model.float(), inputs=torch.randn(30, D))
    assert view.doubt == "" and view.scale == pytest.approx(P**-0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_coarse_dtypes(dtype):
    view = resolved(sequential(nn.Tanh()).to(dtype), inputs=torch.randn(30, D, dtype=dtype))
    assert view.doubt == "" and view.scale == 1 and view.current_activation() is torch.tanh


def test_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        view = resolved(sequential(nn.ReLU()).float(), inputs=torch.randn(30, D))
    assert view.doubt == "" and view.activation is torch.relu


def test_an_embedding_as_first_layer_takes_unit_vectors():
    torch.manual_seed(0)
    embed, head = nn.Embedding(7, P, dtype=torch.float64), linear(P, 7)
    model = nn.Sequential(embed, nn.ReLU(), head)
    tokens = torch.randint(0, 7, (30,))
    view = resolved(model, ("0", "2"), inputs=tokens)
    units = view.inputs_of((tokens,), {})
    assert torch.equal(units.argmax(dim=1), tokens) and units.shape == (30, 7)
    np.testing.assert_allclose(evaluate(view, units.double()), model(tokens).detach().numpy())


def test_an_embedding_in_front_is_no_activation():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, D, dtype=torch.float64)
            self.W_in, self.W_out = nn.Parameter(randn(D, P)), nn.Parameter(randn(P, 5))

        def forward(self, tokens):
            return torch.relu(self.embed(tokens) @ self.W_in) @ self.W_out

    model = Tokens()
    assert TwoLayerView.of(model).activation is torch.relu
    view = resolved(model, inputs=torch.randint(0, 5, (30,)))
    assert view.doubt == "" and "made within its forward()" in view.hidden_inputs
    assert view.inputs_of((torch.zeros(3, dtype=torch.long),), {}) is None


@pytest.mark.parametrize("call", ["by place", "by keyword", "second of two"])
def test_the_argument_that_holds_the_inputs_is_found(call):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.W, self.a = nn.Parameter(randn(P, D)), nn.Parameter(randn(P))

        def forward(self, first, x=None):
            return torch.relu((first if x is None else x) @ self.W.T) @ self.a

    x, other = randn(30, D), randn(30, D)
    ways = {
        "by place": ((x,), {}),
        "by keyword": ((), {"first": x}),
        "second of two": ((other,), {"x": x}),
    }
    args, kwargs = ways[call]
    model, found = Bare(), []
    view = TwoLayerView.of(model)
    view.watched(model, lambda seen: found.append(view.resolved(seen)), pytest.fail)
    model(*args, **kwargs)
    assert torch.equal(found[0].inputs_of(args, kwargs), x)


def test_a_block_has_its_bare_biases():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.W_in, self.b_in = nn.Parameter(randn(D, P)), nn.Parameter(randn(P))
            self.W_out, self.b_out = nn.Parameter(randn(P, D)), nn.Parameter(randn(D))

        def forward(self, x):
            return x + 0.5 * (torch.relu(x @ self.W_in + self.b_in) @ self.W_out + self.b_out)

    torch.manual_seed(0)
    block = Block()
    model = nn.Sequential(block, linear(D, 1))
    readout = randn(2, D)
    view = resolved(model, ("0.W_in", "0.W_out"), inputs=randn(4, 5, D), readout=readout)
    x = randn(9, D)
    inner = torch.relu(x @ block.W_in + block.b_in) @ block.W_out + block.b_out
    assert (view.first_bias, view.second_bias, view.doubt) == ("b_in", "b_out", "")
    np.testing.assert_allclose(evaluate(view, x), (inner @ readout.T).detach().numpy())


def test_what_the_user_declared_is_kept_and_checked():
    model = sequential(nn.Tanh())
    right = resolved(model, activation=torch.tanh, scale=1.0)
    assert right.doubt == "" and right.activation is torch.tanh
    wrong = resolved(model, activation=torch.relu)
    assert "the activation given is not the pass's" in wrong.doubt
    off = resolved(model, scale=2.0)
    assert "do not reproduce" in off.doubt and off.scale == 2.0


def test_layers_used_twice_are_noted():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = sequential(nn.ReLU())

        def forward(self, x):
            return self.net(x) - self.net(x.flip(0))

    view = resolved(Siamese())
    assert "a pass uses the layers 2 times; the last use is read" in view.notes
    assert "sub acts behind them" in view.doubt


def test_a_model_that_returns_its_loss_leaves_the_factor_open():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = sequential(nn.ReLU())

        def forward(self, x):
            return self.net(x).square().mean()

    view = resolved(Own())
    assert view.scale is None and view.doubt == "" and "not been measured" in view.formula.missing
    assert view.first_bias == view.second_bias == "bias"


def test_a_fused_gate_is_refused_with_the_reason():
    with pytest.raises(ExpectedError, match="a gated block is not two layers"):
        TwoLayerView.of(nn.Sequential(linear(D, 2 * P), nn.GLU(), linear(P, 1)))
