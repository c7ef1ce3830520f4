"""Two-layer networks as different people write them, and what their layers are."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

D, P = 6, 8


class Bare(nn.Module):
    """Tensors and layers under their names, and a forward pass that uses them."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.compute = forward
        for name, part in parts.items():
            bare = isinstance(part, torch.Tensor) and not name.startswith("fixed")
            setattr(self, name, nn.Parameter(part) if bare else part)

    def forward(self, x):
        return self.compute(self, x)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def linear(inputs, outputs, bias=True):
    return nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)


def sequential(activation, heads=1, *after):
    return nn.Sequential(linear(D, P), activation, linear(P, heads), *after).double()


def buffered():
    model = Bare(lambda m, x: torch.tanh(m.fc(x)) @ m.a, fc=linear(D, P))
    model.register_buffer("a", randn(P, 3))
    return model


# Each with the names of its layers where they have to be named; made anew by a call.
REPRODUCED = {
    "head on the module itself": (
        lambda: Bare(lambda m, x: F.relu(m.fc(x)) @ m.a, fc=linear(D, P, False), a=randn(P)),
        None,
    ),
    "fixed tensor as head": (
        lambda: Bare(lambda m, x: F.relu(m.fc(x)) @ m.fixed, fc=linear(D, P), fixed=randn(P)),
        None,
    ),
    "buffer as head": (buffered, None),
    "fewer neurons than outputs": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.w_in) @ m.w_out, w_in=randn(D, 3), w_out=randn(3, D)),
        None,
    ),
    "square, inputs first": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.U) @ m.V, U=randn(D, D), V=randn(D, D)),
        None,
    ),
    "square, outputs first": (
        lambda: Bare(lambda m, x: torch.tanh(x @ m.U.T) @ m.V.mT, U=randn(D, D), V=randn(D, D)),
        None,
    ),
    "square, listed head first": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.U) @ m.A, A=randn(D, D), U=randn(D, D)),
        None,
    ),
    "named in the wrong order": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.U) @ m.A, A=randn(D, D), U=randn(D, D)),
        ("A", "U"),
    ),
    "neural tangent scaling": (
        lambda: Bare(
            lambda m, x: torch.relu(x @ m.W.T / math.sqrt(D)) @ m.a / math.sqrt(P),
            W=randn(P, D), a=randn(P),
        ),
        None,
    ),
    "scaled weights, biases": (
        lambda: Bare(
            lambda m, x: F.linear(
                F.relu(F.linear(x, m.W / math.sqrt(D), m.b)), m.a[None] * math.sqrt(2 / P), m.c
            )[:, 0],
            W=randn(P, D), a=randn(P), b=randn(P), c=randn(1),
        ),
        None,
    ),
    "scaled biases, one within a product": (
        lambda: Bare(
            lambda m, x: torch.relu(F.linear(x, m.W / math.sqrt(D), 0.1 * m.b)) @ m.a + m.c / 3,
            W=randn(P, D), a=randn(P), b=randn(P), c=randn(1),
        ),
        None,
    ),
    "scaled biases that come first": (
        lambda: Bare(
            lambda m, x: -m.c * 0.5 - torch.tanh(2 * m.b - x @ m.W) @ m.A,
            W=randn(D, P), A=randn(P, 3), b=randn(P), c=randn(3),
        ),
        None,
    ),
    "einsum, squared ReLU": (
        lambda: Bare(
            lambda m, x: torch.einsum("pd,bd->bp", m.W, x).relu().pow(2) @ m.a, W=randn(P, D), a=randn(P)
        ),
        None,
    ),
    "samples as columns": (
        lambda: Bare(
            lambda m, x: (m.A @ torch.relu(m.W @ x.T + m.b[:, None])).T,
            W=randn(P, D), A=randn(3, P), b=randn(P),
        ),
        None,
    ),
    "addmm, sine": (
        lambda: Bare(
            lambda m, x: torch.addmm(m.c, torch.addmm(m.b, x, m.W).sin(), m.A),
            W=randn(D, P), A=randn(P, 3), b=randn(P), c=randn(3),
        ),
        None,
    ),
    "batched matrices": (
        lambda: Bare(
            lambda m, x: torch.bmm(torch.bmm(x[None], m.W[None]).relu(), m.A[None])[0],
            W=randn(D, P), A=randn(P, 3),
        ),
        None,
    ),
    "mean over neurons": (
        lambda: Bare(lambda m, x: (torch.relu(x @ m.W) * m.a).mean(-1), W=randn(D, P), a=randn(P)),
        None,
    ),
    "subtracted bias": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.W - m.b) @ m.a - m.c, W=randn(D, P), a=randn(P), b=randn(P), c=randn(1)),
        None,
    ),
    "one bias for all neurons": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.W + m.shift) @ m.a, W=randn(D, P), a=randn(P), shift=randn(1)),
        None,
    ),
    "layer used by its weight": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.fc.weight.T + m.fc.bias) @ m.a, fc=linear(D, P), a=randn(P)),
        None,
    ),
    "layers called by keyword": (
        lambda: Bare(
            lambda m, x: m.head(input=torch.relu(m.fc(input=x))), fc=linear(D, P), head=linear(P, 1)
        ),
        None,
    ),
    "quick GELU": (
        lambda: Bare(
            lambda m, x: (lambda z: z * torch.sigmoid(1.702 * z))(m.fc(x)) @ m.a, fc=linear(D, P), a=randn(P)
        ),
        None,
    ),
    "trained factor": (
        lambda: Bare(lambda m, x: m.gain * (torch.relu(x @ m.W) @ m.a), W=randn(D, P), a=randn(P), gain=randn(())),
        None,
    ),
    "fixed mask on the data, then layers": (
        lambda: nn.Sequential(nn.Flatten(), linear(D, P), nn.ReLU(), linear(P, 3)),
        None,
    ),
    "PReLU": (lambda: sequential(nn.PReLU()), None),
    "leaky ReLU in place": (lambda: sequential(nn.LeakyReLU(0.3, inplace=True)), None),
    "ReLU in place": (lambda: sequential(nn.ReLU(inplace=True)), None),
    "approximate GELU": (lambda: sequential(nn.GELU(approximate="tanh")), None),
    "ELU of its own": (lambda: sequential(nn.ELU(alpha=0.4)), None),
    "zero head": (lambda: zero_head(sequential(nn.ReLU())), None),
    "log probabilities": (lambda: sequential(nn.ReLU(), 3, nn.LogSoftmax(dim=1)), None),
    "probabilities": (lambda: sequential(nn.Tanh(), 3, nn.Softmax(dim=-1)), None),
    "sigmoid at the end": (lambda: sequential(nn.ReLU(), 1, nn.Sigmoid()), None),
    "tanh at the end": (lambda: sequential(nn.ReLU(), 1, nn.Tanh()), None),
    "weight norm": (lambda: normed(parametrizations.weight_norm), None),
    "spectral norm": (lambda: normed(parametrizations.spectral_norm), None),
    "idle dropout": (
        lambda: nn.Sequential(linear(D, P), nn.ReLU(), nn.Dropout(0.0), linear(P, 1)),
        None,
    ),
}  # fmt: skip


def zero_head(model):
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return model


def normed(wrap):
    model = sequential(nn.ReLU())
    wrap(model[0])
    return model.double()


# Networks that the two layers do not make, with words of the reason.
REFUSED = {
    "gated": (
        lambda: Bare(lambda m, x: (F.silu(x @ m.W) * (x @ m.V)) @ m.A, W=randn(D, P), V=randn(D, P), A=randn(P, D)),
        ("W", "A"),
        "a gated block",
    ),
    "normalised": (
        lambda: nn.Sequential(linear(D, P), nn.BatchNorm1d(P), nn.ReLU(), linear(P, 1)).double(),
        None,
        "batch_norm",
    ),
    "layer norm": (
        lambda: nn.Sequential(linear(D, P), nn.LayerNorm(P), nn.ReLU(), linear(P, 1)).double(),
        None,
        "layer_norm",
    ),
    "dropout": (
        lambda: nn.Sequential(linear(D, P), nn.ReLU(), nn.Dropout(0.4), linear(P, 1)),
        None,
        "dropout",
    ),
    "shifted at random": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.W + torch.randn(len(x), P)) @ m.a, W=randn(D, P), a=randn(P)),
        None,
        "is added to the layer's outputs",
    ),
    "exponential of a trained factor": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.W) @ m.a * m.s.exp(), W=randn(D, P), a=randn(P), s=randn(1)),
        None,
        "mul acts behind them",
    ),
    "residual": (
        lambda: Bare(lambda m, x: torch.relu(x @ m.W) @ m.A + x, W=randn(D, P), A=randn(P, D)),
        None,
        "add acts behind them",
    ),
    "softmax over neurons": (lambda: sequential(nn.Softmax(dim=-1)), None, "softmax"),
    "slope per neuron": (lambda: sequential(nn.PReLU(P)), None, "prelu"),
    "random slopes": (lambda: sequential(nn.RReLU()), None, "rrelu"),
    "masked weights": (
        lambda: Bare(lambda m, x: torch.relu(x @ (m.W * (m.W > 0))) @ m.a, W=randn(D, P), a=randn(P)),
        None,
        "not as it is kept",
    ),
    "ReLU on the output": (lambda: sequential(nn.ReLU(), 1, nn.ReLU()), None, "relu acts behind them"),
    "layer in between": (
        lambda: nn.Sequential(linear(D, P), nn.ReLU(), linear(P, P), nn.ReLU(), linear(P, 1)),
        ("0", "4"),
        "linear",
    ),
}  # fmt: skip
