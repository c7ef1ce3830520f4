"""Where phasetrack finds the two layers of any model, and what it makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from phasetrack._precision import unrounded
from phasetrack.errors import ExpectedError
from phasetrack.model.formula import Formula, FrozenLayers
from phasetrack.model.geometry import Activation
from phasetrack.model.layer_search import (
    activation_between,
    bias_of,
    checked_readout,
    input_site,
    orient,
    two_weights,
    unwrapped,
)
from phasetrack.model.layer_weight import Weight
from phasetrack.model.network import TwoLayerNet

# How far a network's output may be from what its two layers say, relative to its size, before
# phasetrack warns that there is more to it (well above float32 rounding).
REPRODUCTION_TOLERANCE = 1e-3
# What is tried where the model shows no activation module, in this order.
ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": nn.functional.leaky_relu,
    "elu": nn.functional.elu,
    "softplus": nn.functional.softplus,
    "square": torch.square,
    "identity": lambda values: values,
}


@dataclass(frozen=True)
class TwoLayerView:
    """The two layers of a model: f(x) = scale * sum_j a_j act(w_j . x + b_j) + output bias.

    A head with two outputs (logits of two classes) is seen as their difference, the second minus
    the first: f > 0 where the second class is ahead. With more, all logits are read.

    Attributes:
        first: the neurons' weights, d to p.
        second: the head's weights, p to 1 or to a logit for each class.
        site: the module whose forward is given the inputs x.
        scale: factor on the sum; None until `calibrated` has measured it.
        activation: act.
        first_bias: attribute of `first.owner` that holds the biases b, or None.
        second_bias: attribute of `second.owner` that holds the head's bias, or None.
        bias_scaled: whether the factor acts on the head's bias too, ``scale * head(x)``.
        directions: for a block in a larger network, what of its output is measured, (n, outputs) or
            None: f is then these combinations of the block's own outputs.
        assumed: whether activation and orientation are guesses that the first batch must confirm.
        notes: what was assumed or found on the way, for people.
    """

    first: Weight
    second: Weight
    site: nn.Module
    scale: float | None = None
    activation: Activation = torch.relu
    first_bias: str | None = None
    second_bias: str | None = None
    bias_scaled: bool = True
    directions: Tensor | None = None
    assumed: bool = False
    notes: tuple[str, ...] = field(default_factory=tuple)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layers: tuple[str, str] | None = None,
        *,
        scale: float | None = None,
        activation: Activation | None = None,
        readout: Tensor | None = None,
    ) -> TwoLayerView:
        """Find the two layers of a model.

        Looks for two weight matrices: of nn.Linear layers (parametrised ones too) or bare
        parameters of custom modules, kept either way round; the second may be a vector. Wrappers
        (torch.compile, DistributedDataParallel) are looked through.

        Args:
            model: any module with two such matrices, d to p and p to 1 or to n logits.
            layers: their names, where the model has others: of nn.Linear layers (``fc1``) or of
                parameters (``block.W``).
            scale: factor on the sum over neurons; by default measured on the first batch.
            readout: for a block in a larger network, such as a transformer's MLP: the direction of
                its output that is measured, (outputs,), or one for each class, (n, outputs).
            activation: by default the module between the layers, or else what makes the layers
                reproduce the model on the first batch, of `ACTIVATIONS`.

        Raises:
            ExpectedError: naming `model` or `layers`, listing what was seen and what settles it.

        Example:
            >>> view = TwoLayerView.of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)))
            >>> view.names, view.W.shape, view.a.shape
            (('0', '2'), torch.Size([3, 4]), torch.Size([3]))
        """
        inner = unwrapped(model)
        first, second = two_weights(inner, layers)
        for weight in (first, second):
            if any(hasattr(parameter, "full_tensor") for parameter in weight.parameters):
                raise ExpectedError(
                    "model",
                    f"{weight.name} is sharded among processes (FSDP).",
                    "Train with DistributedDataParallel, or attach to a whole copy.",
                )
        first, second, ambiguous = orient(first, second)
        between, notes, seen = activation_between(inner, first, second)
        if isinstance(inner, TwoLayerNet):
            scale, notes, seen = inner.scale, (), True
        directions = None
        if readout is not None:
            directions = checked_readout(readout, second)
            scale = 1.0 if scale is None else scale
        first_bias = bias_of(first, second, first.shape[0])
        second_bias = bias_of(second, first, second.shape[0])
        if (
            directions is not None
        ):  # what a bare block puts out is not seen: nothing confirms a guess
            first_bias = first_bias if isinstance(first.owner, nn.Linear) else None
            second_bias = second_bias if isinstance(second.owner, nn.Linear) else None
        return cls(
            first,
            second,
            site=input_site(model, first),
            scale=scale,
            activation=activation or between,
            first_bias=first_bias,
            second_bias=second_bias,
            directions=directions,
            assumed=ambiguous or not (seen or activation),
            notes=notes,
        )

    @property
    def names(self) -> tuple[str, str]:
        """Where the two layers are in the model, without ``.weight``."""
        return self.first.name.removesuffix(".weight"), self.second.name.removesuffix(".weight")

    @property
    def W(self) -> Tensor:
        """First-layer weights, detached, (p, d)."""
        return self.first.value

    @property
    def A(self) -> Tensor:
        """The head's weights, detached, (heads, p); of a block, in its directions."""
        value = self.second.value
        return value if self.directions is None else self.of_block(value.T).T

    @property
    def a(self) -> Tensor:
        """Second-layer weights as the measures take them, detached: (p,), or (n, p) for n > 2."""
        return self.readout if self.heads <= 2 else self.A

    @property
    def readout(self) -> Tensor:
        """What each neuron adds to the measured output, detached: (p,), or (p, n) for n > 2."""
        return self.formula.read_out(self.A.T)

    @cached_property
    def heads(self) -> int:
        """Measured outputs: 1, or a logit for each class."""
        return self.second.shape[0] if self.directions is None else len(self.directions)

    @property
    def bias(self) -> Tensor | None:
        """First-layer biases, detached, (p,), or None."""
        return _read(self.first.owner, self.first_bias)

    @property
    def head_bias(self) -> Tensor | None:
        """The head's bias as it stands in the model, detached, (heads,), or None."""
        bias = _read(self.second.owner, self.second_bias)
        return None if bias is None else self.of_block(bias)

    @cached_property
    def formula(self) -> Formula:
        """What the layers compute, as far as it is known, without their weights."""
        return Formula(
            width=self.first.shape[0],
            heads=self.heads,
            scale=self.scale,
            activation=self.activation,
            bias_scaled=self.bias_scaled,
            biased=(self.first_bias or self.second_bias) is not None,
            submodule=self.directions is not None,
        )

    @property
    def output_bias(self) -> Tensor | None:
        """What the head's bias adds to f, detached: (), or (n,) for n > 2; None without one."""
        bias = self.head_bias
        if bias is None:
            return None
        return self.formula.bias_factor * self.formula.read_out(bias)

    @property
    def settled(self) -> bool:
        """Whether nothing is left for `calibrated` to find out."""
        return self.scale is not None and not self.assumed

    @property
    def plain(self) -> bool:
        """Whether the mean-field law applies: a whole model, ReLU, one output, no biases."""
        return self.formula.is_mean_field

    def of_block(self, values: Tensor) -> Tensor:
        """A block's outputs (..., outputs) in its directions (..., n); of a model, as they are."""
        if self.directions is None:
            return values
        with unrounded(values):
            return values @ self.directions.to(values).T

    def outputs(self, inputs: Tensor, W: Tensor, A: Tensor) -> Tensor:
        """The model's formula at weights W (p, d) and A (heads, p): (m, d) to (m,) or (m, n)."""
        return FrozenLayers(self.formula, W, A, self.bias, self.head_bias).outputs(inputs)

    @torch.no_grad()
    def calibrated(
        self, inputs: Tensor, outputs: Tensor, precision: torch.dtype | None = None
    ) -> TwoLayerView:
        """The view with everything settled that was open, by comparison with the model's outputs.

        Measures the scale; where activation or orientation was assumed, takes what reproduces the
        outputs; adds a note where nothing does.

        Args:
            inputs: of the first layer, (m, d).
            outputs: of the model, (m,) or (m, n).
            precision: what they were computed in, where that is coarser than their own dtype.
        """
        if self.settled:
            return self
        theirs = outputs.detach().double()
        coarsest = max(torch.finfo(dtype).eps for dtype in (outputs.dtype, precision) if dtype)
        tolerance = max(REPRODUCTION_TOLERANCE, 16 * coarsest)
        for candidate in self._candidates():
            scale, miss = candidate._fit(inputs, theirs)
            if miss <= tolerance:
                return replace(candidate, scale=scale, assumed=False)
        scale, miss = self._fit(inputs, theirs)
        note = (
            f"the layers {self.names[0]} and {self.names[1]} alone do not reproduce the model's "
            f"output (relative difference {miss:.2g}): something else acts between or after them"
        )
        return replace(self, scale=scale, assumed=False, notes=(*self.notes, note))

    def _candidates(self) -> Iterator[TwoLayerView]:
        """This view and, of what it assumes, the alternatives."""
        sides = [self]
        if self.assumed and self.first.shape[0] == self.first.shape[1]:
            turned = replace(self.first, transposed=not self.first.transposed)
            sides.append(replace(self, first=turned))
        activations = [self.activation, *(ACTIVATIONS.values() if self.assumed else ())]
        for side in sides:
            for activation in activations:
                for scaled in (True, False)[: 1 if self.second_bias is None else 2]:
                    yield replace(side, activation=activation, bias_scaled=scaled)

    def _fit(self, inputs: Tensor, theirs: Tensor) -> tuple[float, float]:
        """The scale that fits best, and the relative difference that it leaves."""
        unit = replace(self, scale=1.0)
        zero = torch.zeros_like(self.A)
        bias = unit.outputs(inputs, self.W.to(inputs), zero.to(inputs)).double()
        ours = unit.outputs(inputs, self.W.to(inputs), self.A.to(inputs)).double()
        target = theirs
        if not self.bias_scaled:  # only the sum is scaled
            ours, target = ours - bias, theirs - bias
        if self.scale is None:
            size = ours.square().sum()
            ratio = float((ours * target).sum() / size) if size > 0 else 1.0
        else:
            ratio = self.scale
        miss = (target - ratio * ours).norm() / theirs.norm().clamp_min(1e-300)
        return ratio, float(miss)


def known_activation(activation: Activation) -> str | None:
    """The name of an activation in `ACTIVATIONS`; None if it is not among them."""
    for name, function in ACTIVATIONS.items():
        if activation is function or type(activation).__name__.lower() == name.replace("_", ""):
            return name
    return None


def _read(owner: nn.Module, attribute: str | None) -> Tensor | None:
    if attribute is None:
        return None
    plain = owner._parameters.get(attribute)  # as in `Weight.value`
    value: Tensor = (getattr(owner, attribute) if plain is None else plain).detach()
    return value if value.ndim == 1 else value.reshape(-1)
