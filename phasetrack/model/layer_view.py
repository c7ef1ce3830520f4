"""The two layers of a model as far as they are known, read at their present values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from phasetrack._precision import unrounded
from phasetrack.model.activations import present
from phasetrack.model.comparison import Candidate
from phasetrack.model.formula import Formula, FrozenLayers
from phasetrack.model.geometry import Activation
from phasetrack.model.layer_weight import Vector, Weight
from phasetrack.model.products import as_rows


@dataclass(frozen=True)
class LayerView:
    """The two layers of a model: f(x) = scale * sum_j a_j act(w_j . x + b_j) + output bias.

    A head with two outputs (logits of two classes) is seen as their difference, the second minus
    the first: f > 0 where the second class is ahead. With more, all logits are read.

    Attributes:
        first: the neurons' weights, d to p.
        second: the head's weights, p to 1 or to a logit for each class.
        site: the module whose forward is given the inputs x.
        scale: factor on the sum; None until a pass or `calibrated` has measured it.
        activation: act; a function that calls no module of the model.
        bias_at: where the biases b live, or None.
        head_bias_at: where the head's bias lives, or None.
        bias_scaled: whether the factor acts on the head's bias too, ``scale * head(x)``.
        directions: for a block in a larger network, what of its output is measured, (n, outputs) or
            None: f is then these combinations of the block's own outputs.
        assumed: whether activation and orientation are guesses that a pass or a batch must confirm.
        notes: what was assumed or found on the way, for people.
        link: the function of `formula.LINKS` between f and the outputs that the loss is given.
        doubt: why the formula does not hold for the model; empty where nothing speaks against it.
        reproduction: how far the formula was from the outputs that it was compared with, relative
            to their size; None before.
        activation_known: whether the activation was read, and is not what was found at first.
        compared: whether the outputs that the loss was given have been compared.
        declared: what the user named: of ``"scale"`` and ``"activation"``.
        scalars: trained or kept scalars that are factors of the output, each with its power and its
            value when `scale` was measured.
        site_arg: place or name of the argument of `site` that holds x; None for the first tensor.
        hidden_inputs: why no argument of `site` holds x; empty where one does.
        lookup: whether x is given as indices, which stand for unit vectors.
        turns: other ways round of both matrices that fit each other, relative to this one.
        trials: readings that reproduce all outputs compared so far, where several do.
        evidence: how many outputs were compared.
    """

    first: Weight
    second: Weight
    site: nn.Module
    scale: float | None = None
    activation: Activation = torch.relu
    bias_at: Vector | None = None
    head_bias_at: Vector | None = None
    bias_scaled: bool = True
    directions: Tensor | None = None
    assumed: bool = False
    notes: tuple[str, ...] = field(default_factory=tuple)
    link: str = "identity"
    doubt: str = ""
    reproduction: float | None = None
    activation_known: bool = True
    compared: bool = False
    declared: frozenset[str] = frozenset()
    scalars: tuple[tuple[Vector, int, float], ...] = ()
    site_arg: int | str | None = None
    hidden_inputs: str = ""
    lookup: bool = False
    turns: tuple[tuple[bool, bool], ...] = ()
    trials: tuple[Candidate, ...] = ()
    evidence: int = 0

    @property
    def names(self) -> tuple[str, str]:
        """Where the two layers are in the model, without ``.weight``."""
        return self.first.layer_name, self.second.layer_name

    @property
    def first_bias(self) -> str | None:
        """The attribute that holds the biases b, or None."""
        return None if self.bias_at is None else self.bias_at.attribute

    @property
    def second_bias(self) -> str | None:
        """The attribute that holds the head's bias, or None."""
        return None if self.head_bias_at is None else self.head_bias_at.attribute

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
        return None if self.bias_at is None else self.bias_at.spread(self.first.shape[0])

    @property
    def head_bias(self) -> Tensor | None:
        """The head's bias as it stands in the model, detached, (heads,), or None."""
        if self.head_bias_at is None:
            return None
        return self.of_block(self.head_bias_at.spread(self.second.shape[0]))

    @cached_property
    def formula(self) -> Formula:
        """What the layers compute, as far as it is known, without their weights."""
        return Formula(
            width=self.first.shape[0],
            heads=self.heads,
            scale=self.scale,
            activation=self.activation,
            bias_scaled=self.bias_scaled,
            biased=self.bias_at is not None or self.head_bias_at is not None,
            submodule=self.directions is not None,
            link=self.link,
            direct=self.first.is_direct and self.second.is_direct and not self.scalars,
            doubt=self.doubt,
        )

    def current_formula(self) -> Formula:
        """Return the formula with what it has of trained numbers at their present values.

        These are parameters of the activation (PReLU) and trained factors of the output. Where there
        are none, it is `formula` itself; while none has changed, the one returned before.
        """
        activation, scale = self.current_activation(), self.current_scale()
        if activation is self.activation and scale == self.scale:
            return self.formula
        return replace(self.formula, activation=activation, scale=scale)

    def current_activation(self) -> Activation:
        """Return the activation, with copies of its parameters at their present values."""
        return present(self.activation)

    def current_scale(self) -> float | None:
        """Return the scale, with the factors that are trained at their present values."""
        scale = self.scale
        for where, power, then in self.scalars:
            if scale is not None:
                scale *= (float(where.value) / then) ** power
        return scale

    @property
    def output_bias(self) -> Tensor | None:
        """What the head's bias adds to f, detached: (), or (n,) for n > 2; None without one."""
        bias = self.head_bias
        if bias is None:
            return None
        return self.formula.bias_factor * self.formula.read_out(bias)

    @property
    def settled(self) -> bool:
        """Whether scale, activation and orientation are known."""
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
        formula = self.current_formula()
        return FrozenLayers(formula, W, A, self.bias, self.head_bias).outputs(inputs)

    def frozen(self) -> FrozenLayers:
        """Return the layers as they stand, which later updates change: not copies."""
        return FrozenLayers(self.current_formula(), self.W, self.A, self.bias, self.head_bias)

    def inputs_of(self, args: tuple[Any, ...], kwargs: Mapping[Any, Any]) -> Tensor | None:
        """Return the inputs of the first layer among the arguments of `site`, (n, d), detached.

        None where no argument holds them (`hidden_inputs` has the reason), or they have another size.
        """
        if self.hidden_inputs:
            return None
        found = args[0] if args else None
        if self.site_arg != 0 or not args:
            given: dict[int | str, Any] = dict((*enumerate(args), *kwargs.items()))
            tensors = (each for each in given.values() if isinstance(each, Tensor))
            found = next(tensors, None) if self.site_arg is None else given.get(self.site_arg)
        if not isinstance(found, Tensor):
            return None
        width = self.first.shape[1]
        strided = found.layout is torch.strided
        if strided and found.ndim == 2 and found.shape[1] == width and not self.lookup:
            return found.detach() if found.requires_grad else found
        return as_rows(found.detach(), width, lookup=self.lookup)

    def moved(self, modules: Mapping[nn.Module, nn.Module]) -> Self:
        """Return the view of a copy of the model, given each module's copy."""

        def copied(vector: Vector | None) -> Vector | None:
            return vector and replace(vector, owner=modules[vector.owner])

        return replace(
            self,
            first=replace(self.first, owner=modules[self.first.owner]),
            second=replace(self.second, owner=modules[self.second.owner]),
            site=modules[self.site],
            bias_at=copied(self.bias_at),
            head_bias_at=copied(self.head_bias_at),
        )
