"""A followed pass, read: biases, activation, factor and link, and why the two layers are not all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.activations import ACTIVATIONS, named_activation
from phasetrack.model.comparison import (
    CLEARLY_WORSE,
    Candidate,
    compare,
    links_of,
    tolerance,
)
from phasetrack.model.formula import LINKS, FrozenLayers
from phasetrack.model.layer_weight import Vector, stored_tensors
from phasetrack.model.neurons import Activation
from phasetrack.model.operations import Affine, NotReplayable, Operation, Replay, peeled
from phasetrack.model.pass_outcome import SeenPass
from phasetrack.model.products import Product


@dataclass(frozen=True)
class Between:
    """What a pass did between its two products.

    Attributes:
        activation: act, or None where it is not known.
        bias: the first layer's bias, or None.
        factor: what the first product was multiplied by.
        after: what the activation was multiplied by.
        problem: why the second layer's inputs are not act(w . x + b); empty where they are.
    """

    activation: Activation | None
    bias: Vector | None
    factor: float
    after: float
    problem: str


@dataclass(frozen=True)
class Behind:
    """What a pass did behind its second product.

    Attributes:
        bias: the head's bias, without the factor behind it, or None.
        before: factor on the sum alone.
        after: factor on sum and bias.
        scalars: trained or kept scalars that are factors too, each with its power, and whether the
            bias is multiplied as well.
        labels: operations that are neither factor nor bias.
        seen: whether the way to the output was seen.
        problem: why a bias could not be told; empty otherwise.
    """

    bias: Vector | None
    before: float
    after: float
    scalars: tuple[tuple[Vector, int, bool], ...]
    labels: tuple[str, ...]
    seen: bool
    problem: str = ""


def read_between(seen: SeenPass, declared: Activation | None) -> Between:
    """Read what acted between the products of a pass.

    Args:
        seen: the pass.
        declared: the activation that the user named, or None.
    """
    first, second = seen.first, seen.second
    affine = peeled(first.operation, list(seen.between or ()))
    bias, problem = _bias(seen.model, first, affine)
    after, rest = _factor_at_the_end(affine.end, affine.rest)
    names = " then ".join(dict.fromkeys(each.label for each in rest if not each.keeps_numbers))
    factor = affine.before * affine.after

    def found(activation: Activation | None, problem: str) -> Between:
        return Between(activation, bias, factor, after, problem)

    if problem:
        return found(declared, problem)
    gated = next((each for each in rest if each.foreign or _is_gate(each)), None)
    if gated is not None:
        return found(
            declared,
            f"{gated.label} between the layers takes more than the first layer's neurons one by one (a "
            "gated block, or a connection past the layer)",
        )
    inner, hidden = _inner(first, affine), second.inputs.double() / after
    if inner.shape != hidden.shape:
        return found(
            declared,
            f"the second layer's inputs are not the first layer's neurons one by one (between them "
            f"{_act(names)})",
        )
    return found(*_activation(affine.end, rest, inner, hidden, declared, seen, names))


def _inner(first: Product, affine: Affine) -> Tensor:
    """Return the first layer's outputs with factors and bias, (n, neurons)."""
    values = first.outputs.double() * affine.before
    if affine.bias is not None:
        values = values + affine.sign * affine.bias.detach().cpu().double().reshape(-1)
    return values * affine.after


def _activation(
    end: Operation,
    rest: list[Operation],
    inner: Tensor,
    hidden: Tensor,
    declared: Activation | None,
    seen: SeenPass,
    names: str,
) -> tuple[Activation | None, str]:
    """Return the activation, and the problem where none makes the hidden values."""
    within = tolerance(seen.first.dtype, seen.second.dtype, seen.second.inputs.dtype)
    if declared is not None:
        fits = _misses(declared, inner, hidden) <= within
        return declared, "" if fits else f"the activation given is not the pass's ({_act(names)})"
    dropped = [each for each in rest if "dropout" in each.name]
    if seen.between is not None and not dropped:
        try:
            replay = Replay(end, rest)
            if _elementwise(replay, inner, hidden, within):
                return named_activation(replay), ""
            reason = f"{_act(names)} between the layers"
        except NotReplayable as why:
            reason = str(why)
        except Exception:
            reason = f"{_act(names)} between the layers"
    else:
        reason = f"{_act(names)} between the layers"
    kept = hidden != 0 if dropped else torch.ones_like(hidden, dtype=torch.bool)
    known, equal = _known(inner, hidden, kept, within, bool(dropped))
    if dropped and known is not None:
        return (
            known,
            "dropout acts between the layers, so that the outputs in training are not theirs alone",
        )
    if known is not None and not equal:
        return known, ""
    if equal:
        return known, f"several activations fit what was seen so far ({', '.join(equal)})"
    return None, f"the second layer's inputs are not a function of each neuron alone: {reason}"


def _known(
    inner: Tensor, hidden: Tensor, kept: Tensor, within: float, scaled: bool
) -> tuple[Activation | None, list[str]]:
    """Return the activation of `ACTIVATIONS` that fits, and the names of all that fit equally."""
    misses = {}
    for name, function in ACTIVATIONS.items():
        values, wanted = function(inner)[kept], hidden[kept]
        if scaled:  # dropout multiplies what it keeps
            size = values.square().sum()
            values = values * ((values * wanted).sum() / size if size > 0 else 1.0)
        misses[name] = float((values - wanted).norm() / wanted.norm().clamp_min(1e-300))
    best = min(misses, key=lambda name: misses[name])
    if misses[best] > within:
        return None, []
    limit = max(CLEARLY_WORSE * misses[best], within * 1e-3)
    equal = [name for name, miss in misses.items() if miss <= limit]
    return ACTIVATIONS[best], equal if len(equal) > 1 else []


def _elementwise(function: Activation, inner: Tensor, hidden: Tensor, within: float) -> bool:
    """Whether a function makes the hidden values, each from its own number."""
    values, wanted = inner.reshape(-1), hidden.reshape(-1)
    with torch.random.fork_rng(devices=[]):
        before = torch.random.get_rng_state()
        turned = function(values.flip(0))
        quiet = torch.equal(before, torch.random.get_rng_state())
    fits = turned.shape == values.shape and _miss(turned.flip(0), wanted) <= within
    return quiet and bool(fits)


def _misses(function: Activation, inner: Tensor, hidden: Tensor) -> float:
    return _miss(function(inner), hidden)


def _miss(values: Tensor, wanted: Tensor) -> float:
    return float((values - wanted).norm() / wanted.norm().clamp_min(1e-300))


def _is_gate(operation: Operation) -> bool:
    """Whether parts of the first product are multiplied with each other, as in a fused gate."""
    parts = {each.part for each in operation.parents if each.part is not None}
    return len(parts) > 1


def _factor_at_the_end(end: Operation, rest: Sequence[Operation]) -> tuple[float, list[Operation]]:
    """Return the factor of the last operations, and the operations before them."""
    kept, factor = list(rest), 1.0
    while kept:
        last = kept[-1]
        if len(last.parents) != 1 or last.parents[0] is end:
            break
        (before,) = last.parents
        affine = peeled(before, [last])
        if affine.rest or affine.bias is not None:
            break
        factor *= affine.before
        kept.pop()
    # a factor in front of which nothing acts belongs to the first layer, and was peeled there
    return factor, kept


def _act(names: str) -> str:
    return f"{names} acts" if names else "nothing that was seen acts"


def read_behind(seen: SeenPass, *, block: bool) -> Behind:
    """Read what acted behind the second product of a pass.

    Args:
        seen: the pass.
        block: whether the layers are a block, whose output is the product with its bias.
    """
    second, model = seen.second, seen.model
    affine = _behind_block(seen) if block else peeled(
        second.operation, list(seen.after or ()), scalars=True
    )  # fmt: skip
    bias, problem = _bias(model, second, affine)
    # what stands behind a product that adds its bias acts on the bias too
    inside = second.bias is not None
    before, after = (1.0, affine.before * affine.after) if inside else (affine.before, affine.after)
    if bias is not None:
        bias = replace(bias, factor=second.bias_factor if inside else affine.sign)
    scalars = []
    for tensor, power, behind_bias in affine.scalars:
        where = vector_of(model, tensor)
        if where is None:
            after *= float(tensor) ** power
        else:
            scalars.append((where, power, behind_bias or inside))
    labels = tuple(each.label for each in affine.rest if not each.keeps_numbers)
    return Behind(bias, before, after, tuple(scalars), labels, seen.after is not None, problem)


def _behind_block(seen: SeenPass) -> Affine:
    """Return a block's own bias behind its second product; what follows is not the block's."""
    start, rest = seen.second.operation, list(seen.after or ())
    own = next((i for i, each in enumerate(rest) if not each.keeps_numbers), len(rest))
    affine = peeled(start, rest[: own + 1])
    with_bias = affine.bias is not None and affine.before == 1.0 and seen.second.bias is None
    return affine if with_bias else peeled(start, rest[:own])


class Reproduction(NamedTuple):
    """How well the layers reproduce the output of a pass.

    Attributes:
        link: the function of `formula.LINKS` through which they do.
        distance: relative difference.
        problem: what else acts on the output; empty where they reproduce it.
    """

    link: str
    distance: float
    problem: str


def reproduction_of(
    layers: FrozenLayers, seen: SeenPass, directions: Tensor | None, labels: tuple[str, ...]
) -> Reproduction:
    """Compare the layers with what a pass returned, or a block with its own output.

    Args:
        layers: the weights of the pass.
        seen: the pass.
        directions: of a block's output, (n, outputs), or None.
        labels: operations behind the layers that are neither factor nor bias.
    """
    if directions is None:
        assert seen.output is not None
        theirs, behind = seen.output, labels
    else:
        theirs, behind = _block_output(seen, directions), ()
    names = [*dict.fromkeys(each.strip("_") for each in behind if each.strip("_") in LINKS)]
    if behind:
        names += [*links_of(theirs, layers.formula.heads), "identity"]
    candidates = [
        Candidate(replace(layers.formula, link=name))
        for name in dict.fromkeys(names or ["identity"])
    ]
    dtypes = (seen.first.dtype, seen.second.dtype, seen.second.inputs.dtype)
    coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    verdict = compare(layers, candidates, seen.first.inputs, theirs, coarsest)
    if verdict.fitting:
        return Reproduction(verdict.fitting[0].formula.link, verdict.distance, "")
    acts = " and ".join(dict.fromkeys(behind))
    problem = f"{acts} acts behind them" if acts else "something else acts between or after them"
    return Reproduction("identity", verdict.distance, problem)


def _block_output(seen: SeenPass, directions: Tensor) -> Tensor:
    """Return a block's own output in the measured directions, (n, directions)."""
    values = seen.second.outputs
    bias = _behind_block(seen).bias
    if bias is not None:
        values = values + bias.detach().cpu().reshape(-1).to(values)
    return (values.double() @ directions.cpu().double().T).to(values.dtype)


def _bias(model: nn.Module, product: Product, affine: Affine) -> tuple[Vector | None, str]:
    """Return the bias that acts on a product, and the problem where it cannot be read."""
    inside = product.bias is not None
    tensor = product.bias if inside else affine.bias
    if tensor is None:
        return None, ""
    added = tensor if affine.bias is None else affine.bias
    if added.numel() in (1, product.outputs.shape[1]) and added is not tensor:
        return None, "two biases act on one layer"
    tensor = added
    if tensor.numel() not in (1, product.outputs.shape[1]):
        return None, f"a tensor of shape {tuple(tensor.shape)} is added to the layer's outputs"
    where = vector_of(model, tensor)
    if where is None:
        return None, "a bias is added that is not a parameter, buffer or attribute of the model"
    factor = product.bias_factor * affine.before if inside else affine.sign
    return replace(where, factor=factor * affine.after), ""


def vector_of(model: nn.Module, tensor: Tensor) -> Vector | None:
    """Return where a model keeps a tensor: the tensor itself, or else its very values."""
    same: Vector | None = None
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        for attribute, kept in stored_tensors(module):
            if kept is tensor:
                return Vector(module, attribute, f"{prefix}{attribute}")
            if same is None and kept.numel() == tensor.numel() and _equal(kept, tensor):
                same = Vector(module, attribute, f"{prefix}{attribute}")
    return same


def _equal(kept: Tensor, tensor: Tensor) -> bool:
    mine, theirs = kept.detach().reshape(-1), tensor.detach().reshape(-1)
    return bool(mine.any()) and torch.equal(mine.to(theirs), theirs)
