"""What two layers compute, apart from the weights that they hold at one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from phasetrack.model.neurons import Activation

# What a model, or a loop before its loss, makes of the layers' outputs; over the last dimension.
LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda outputs: outputs,
    "log_softmax": lambda outputs: outputs.log_softmax(dim=-1),
    "softmax": lambda outputs: outputs.softmax(dim=-1),
    "sigmoid": torch.sigmoid,
    "logsigmoid": nn.functional.logsigmoid,
    "tanh": torch.tanh,
}
# The link where the loss is given something that none of them makes.
UNKNOWN_LINK = "unknown"
# Why nothing that rests on the formula can be read before the factor on its sum is known.
UNMEASURED = (
    "the factor between the layers' output and the model's has not been measured: no forward pass "
    "with gradients showed an output for each of the first layer's inputs"
)


@dataclass(frozen=True)
class Formula:
    """f(x) = scale * sum_j a_j act(w_j . x + b_j) + output bias, without the weights.

    Attributes:
        width: number of neurons, p.
        heads: measured outputs: 1, or a logit for each class.
        scale: factor on the sum; None while it is not known, which counts as 1/p.
        activation: act.
        bias_scaled: whether the factor acts on the head's bias too.
        biased: whether either layer has a bias.
        submodule: whether the layers are a part of a larger network, measured in given directions.
        link: the function of `LINKS` between f and the outputs that the loss is given.
        direct: whether the pass uses the stored weights themselves, without factor or parametrisation.
        doubt: why the formula does not hold for the model; empty where nothing speaks against it.
    """

    width: int
    heads: int
    scale: float | None
    activation: Activation
    bias_scaled: bool
    biased: bool
    submodule: bool
    link: str = "identity"
    direct: bool = True
    doubt: str = ""

    @property
    def missing(self) -> str:
        """Why nothing that rests on the formula can be read; empty where it can."""
        return self.doubt or (UNMEASURED if self.scale is None else "")

    @property
    def unlinked(self) -> str:
        """Why the outputs that the loss is given cannot be computed; empty where they can."""
        if self.link == UNKNOWN_LINK:
            return (
                "the loss is given values that are not the model's output through a known function"
            )
        return self.missing

    @property
    def is_mean_field(self) -> bool:
        """Whether the mean-field law applies: a whole model, ReLU, one output, no biases."""
        whole = not (self.submodule or self.biased or self.doubt) and self.direct
        return (
            whole and self.link == "identity" and self.heads == 1 and self.activation is torch.relu
        )

    @property
    def bias_factor(self) -> float:
        """The factor on the head's bias: `scale`, or 1 where the factor acts on the sum alone."""
        return self.scale if self.bias_scaled and self.scale is not None else 1.0

    def read_out(self, values: Tensor) -> Tensor:
        """(..., heads) to (...): the output, or the second logit minus the first; else unchanged."""
        if self.heads > 2:
            return values
        return values[..., 0] if self.heads == 1 else values[..., 1] - values[..., 0]


@dataclass(frozen=True)
class FrozenLayer:
    """Copies of one layer's weights, (outputs, inputs), and biases, (outputs,), or None."""

    weight: Tensor
    bias: Tensor | None

    @property
    def owner(self) -> FrozenLayer:
        """The layer itself: probes of version 0.1 asked for ``view.second.owner.weight``."""
        return self


@dataclass(frozen=True)
class FrozenLayers:
    """Copies of the two layers at one step, on the model's device and in its dtype.

    Attributes:
        formula: what the layers compute.
        W: first-layer weights, (p, d).
        A: the head's weights, (heads, p).
        bias: first-layer biases, (p,), or None.
        head_bias: the head's bias as it stands in the model, (heads,), or None.
    """

    formula: Formula
    W: Tensor
    A: Tensor
    bias: Tensor | None = None
    head_bias: Tensor | None = None

    @property
    def first(self) -> FrozenLayer:
        """The first layer."""
        return FrozenLayer(self.W, self.bias)

    @property
    def second(self) -> FrozenLayer:
        """The head, as it stands in the model."""
        return FrozenLayer(self.A, self.head_bias)

    @property
    def activation(self) -> Activation:
        """The formula's activation."""
        return self.formula.activation

    @property
    def scale(self) -> float | None:
        """The formula's factor on the sum over neurons."""
        return self.formula.scale

    @property
    def bias_scaled(self) -> bool:
        """Whether the factor acts on the head's bias too."""
        return self.formula.bias_scaled

    def on_host(self) -> FrozenLayers:
        """Return the layers in float64 on the host."""
        parts = (self.W, self.A, self.bias, self.head_bias)
        W, A, *biases = (None if part is None else part.cpu().double() for part in parts)
        assert W is not None and A is not None
        return FrozenLayers(self.formula, W, A, *biases)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return the formula's outputs: (m, d) to (m,), or logits (m, n)."""
        formula, bias = self.formula, self.head_bias
        hidden = formula.activation(nn.functional.linear(inputs, self.W, self.bias))
        values, scale = hidden @ self.A.T, 1.0 if formula.scale is None else formula.scale
        if bias is None:
            values = values * scale
        else:
            values = (values + bias) * scale if formula.bias_scaled else values * scale + bias
        return values.squeeze(-1) if formula.heads == 1 else values

    def linked_outputs(self, inputs: Tensor) -> Tensor:
        """Return the outputs as the loss is given them: `outputs` through the formula's link."""
        return LINKS[self.formula.link](self.outputs(inputs))
