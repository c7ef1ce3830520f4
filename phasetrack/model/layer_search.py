"""Find the two layers of a model, their biases, and the activation between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import Activation
from phasetrack.model.layer_weight import Weight
from phasetrack.model.network import FusedTwoLayerNet

# Modules that leave the outputs as they are, or say nothing about the layers.
_TRANSPARENT = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.loss._Loss)
# Modules between the layers that are noted, and are not what makes the neurons nonlinear.
_NO_ACTIVATION = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside torch.compile and DistributedDataParallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def input_site(model: nn.Module, first: Weight) -> nn.Module:
    """Return the module that is given the inputs; hooks inside a compiled graph are not called."""
    whole = hasattr(model, "_orig_mod") or isinstance(unwrapped(model), FusedTwoLayerNet)
    return model if whole else first.owner


def _weights(model: nn.Module) -> list[Weight]:
    """Return every weight matrix: of nn.Linear layers, and bare parameters that are matrices."""
    found = []
    for name, module in model.named_modules():
        inside = isinstance(module, parametrize.ParametrizationList)
        if inside or ".parametrizations." in f".{name}.":
            continue
        prefix = f"{name}." if name else ""
        if isinstance(module, nn.Linear):
            found.append(Weight(module, "weight", f"{prefix}weight"))
        elif type(module).__module__.startswith("torch.nn."):
            continue  # normalisation, embeddings: no layer of neurons
        else:
            names = [n for n, p in module.named_parameters(recurse=False) if p.ndim == 2]
            names += [n for n in getattr(module, "parametrizations", {}) if n not in names]
            found += [Weight(module, n, f"{prefix}{n}") for n in names]
    return found


def two_weights(model: nn.Module, layers: tuple[str, str] | None) -> tuple[Weight, Weight]:
    """Return the two weight matrices of a model, or those with the given names."""
    seen = _weights(model)
    if layers is not None:
        return _named(model, seen, layers[0]), _named(model, seen, layers[1])
    if len(seen) == 1:  # a matrix and a vector: f(x) = a . act(W x)
        seen += _vectors(seen[0])
    if len(seen) == 2:
        return seen[0], seen[1]
    if not seen:
        raise ExpectedError(
            "model",
            f"The model has no linear layers (it has {_layer_kinds(model)}).",
            "Pass a model with two linear layers; convolutions are not supported.",
        )
    shown = ", ".join(f"{w.name} {tuple(w.shape)}" for w in seen)
    raise ExpectedError(
        "model",
        f"The model has {len(seen)} weight matrices, not two: {shown}.",
        "Name the two layers to follow with layers=(first, second).",
    )


def _vectors(matrix: Weight) -> list[Weight]:
    """Return vectors beside a bare matrix that can be its second layer."""
    stem = matrix.name.removesuffix(matrix.attribute)
    return [
        Weight(matrix.owner, name, f"{stem}{name}")
        for name, parameter in matrix.owner.named_parameters(recurse=False)
        if parameter.ndim == 1 and len(parameter) in matrix.shape and "b" not in name[:1].lower()
    ]


def _named(model: nn.Module, seen: list[Weight], name: str) -> Weight:
    for weight in seen:
        if name in (weight.name, weight.name.removesuffix(".weight")):
            return weight
    owner_name, _, attribute = name.rpartition(".")
    owner = dict(model.named_modules()).get(owner_name)
    if isinstance(getattr(owner, attribute, None), nn.Parameter):
        assert owner is not None
        return Weight(owner, attribute, name)
    known = ", ".join(weight.name.removesuffix(".weight") for weight in seen)
    raise ExpectedError(
        "layers", f"The model has no layer or parameter {name!r}.", f"Pass two of {known}."
    )


def checked_readout(readout: Tensor, second: Weight) -> Tensor:
    """Return one direction per row, (n, outputs)."""
    directions = torch.as_tensor(readout, device=second.value.device).detach()
    directions = directions.unsqueeze(0) if directions.ndim == 1 else directions
    if directions.ndim != 2 or directions.shape[1] != second.shape[0]:
        raise ExpectedError(
            "readout",
            f"Shape {tuple(directions.shape)} does not fit the {second.shape[0]} outputs of "
            f"{second.name}.",
            f"Pass shape ({second.shape[0]},), or (n, {second.shape[0]}) for n classes.",
        )
    return directions.to(second.value.device)  # now: at a step the host would wait for the copy


def orient(first: Weight, second: Weight) -> tuple[Weight, Weight, bool]:
    """Return both matrices as (outputs, inputs), and whether the first fits either way round."""
    tied = first.name == second.name  # one matrix, used forwards and backwards
    fits = [
        (one, other)
        for one in _ways(first)
        for other in ([replace(one, transposed=not one.transposed)] if tied else _ways(second))
        if one.shape[0] == other.shape[1]
    ]
    if not fits:
        raise ExpectedError(
            "model",
            f"The layers do not follow each other: {_described(first)}, {_described(second)}.",
            "Name a layer d -> p and a head p -> 1 or p -> n with layers=(first, second).",
        )
    one, other = min(fits, key=lambda pair: pair[1].shape[0])  # the narrowest head
    return one, other, len(_ways(first)) == 2 and one.shape[0] == one.shape[1]


def _ways(weight: Weight) -> list[Weight]:
    """Return the orientations of a weight: one for nn.Linear, two for a bare matrix."""
    if isinstance(weight.owner, nn.Linear) or getattr(weight.owner, weight.attribute).ndim == 1:
        return [weight]
    return [weight, replace(weight, transposed=True)]


def _described(weight: Weight) -> str:
    outputs, inputs = weight.shape
    return f"{weight.name.removesuffix('.weight')}: {inputs} -> {outputs}"


def bias_of(weight: Weight, other: Weight, size: int) -> str | None:
    """Return the attribute of a layer's bias: nn.Linear's own, or the one vector that fits."""
    if isinstance(weight.owner, nn.Linear):
        return None if weight.owner.bias is None else "bias"
    taken = {weight.attribute, other.attribute}
    fitting = [
        name
        for name, parameter in weight.owner.named_parameters(recurse=False)
        if name not in taken and parameter.numel() == size and parameter.ndim <= 1
    ]
    return fitting[0] if len(fitting) == 1 else None


def activation_between(
    model: nn.Module, first: Weight, second: Weight
) -> tuple[Activation, tuple[str, ...], bool]:
    """Return the activation between the layers, notes on other modules there, and whether any was seen."""
    leaves = [
        module
        for name, module in model.named_modules()
        if "parametrizations" not in name.split(".")
        and (module in (first.owner, second.owner) or not list(module.children()))
    ]
    start, end = leaves.index(first.owner), leaves.index(second.owner)
    # one module that holds both matrices: its children are all that can be between
    between = (
        leaves[start + 1 : end] if end > start else [m for m in leaves if m is not first.owner]
    )
    middle = [m for m in between if not isinstance(m, _TRANSPARENT)]
    chosen = next((m for m in middle if not isinstance(m, _NO_ACTIVATION)), None)
    notes = tuple(f"{type(m).__name__} acts between the layers" for m in middle if m is not chosen)
    if chosen is None:
        return torch.relu, notes, False
    return (torch.relu if isinstance(chosen, nn.ReLU) else chosen), notes, True


def _layer_kinds(model: nn.Module) -> str:
    """List the kinds of the model's innermost modules, each with its number."""
    kinds = Counter(type(m).__name__ for m in model.modules() if not list(m.children()))
    return ", ".join(f"{kind} x{count}" for kind, count in kinds.items()) or "no modules"
