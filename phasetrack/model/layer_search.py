"""Find the two layers of a model, their biases, and the activation between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from phasetrack.errors import ExpectedError
from phasetrack.model.activations import frozen_activation, known_activation
from phasetrack.model.geometry import Activation
from phasetrack.model.layer_weight import Vector, Weight, stored_tensors
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


def compiled_around(model: nn.Module, owner: nn.Module) -> nn.Module | None:
    """Return the outermost module that torch.compile has made around another one; None if there is none.

    Hooks inside its graph are not called, and its own are.
    """
    for module in model.modules():
        if hasattr(module, "_orig_mod") and any(each is owner for each in module.modules()):
            return module
    return None


def is_compiled_around(model: nn.Module, *weights: Weight) -> bool:
    """Whether torch.compile has made a module around one of some layers, so that no pass can be followed."""
    return any(compiled_around(model, weight.owner) is not None for weight in weights)


def input_site(model: nn.Module, first: Weight) -> nn.Module:
    """Return the module that is given the inputs; hooks inside a compiled graph are not called."""
    if isinstance(unwrapped(model), FusedTwoLayerNet):
        return model
    compiled = compiled_around(model, first.owner)
    return first.owner if compiled is None else compiled


def entries(model: nn.Module, first: Weight, second: Weight, *, block: bool) -> list[nn.Module]:
    """Return the modules whose call is a pass through both layers, the outermost first.

    Args:
        model: the whole model, without wrappers.
        first: one layer.
        second: the other one.
        block: whether the layers are a block in it: then the innermost such module alone.
    """
    names = {module: name for name, module in model.named_modules()}
    one, other = (names.get(weight.owner, "").split(".") for weight in (first, second))
    shared = []
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs or not mine:
            break
        shared.append(mine)
    ways = [".".join(shared[:length]) for length in range(len(shared) + 1)]
    modules = [model.get_submodule(name) for name in ways]
    called = [module for module in modules if _has_forward(module)]
    return called[-1:] if block else called


def _has_forward(module: nn.Module) -> bool:
    """Whether a module can be called; containers such as nn.ModuleDict cannot."""
    return type(module).forward is not nn.Module.forward


def refuse_unreadable(model: nn.Module) -> None:
    """Raise ExpectedError where weights have no numbers of their own yet, or not here."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ExpectedError(
            "model",
            f"{model.original_name} is a TorchScript module, whose layers cannot be read.",
            "Attach to the model that it was scripted from.",
        )
    lazy = [name for name, each in model.named_parameters() if is_lazy(each)]
    if lazy:
        raise ExpectedError(
            "model",
            f"{lazy[0]} has no shape yet: its layer is lazy.",
            "Run one batch through the model first, before the optimizer is made.",
        )
    sharded = [name for name, each in model.named_parameters() if hasattr(each, "full_tensor")]
    if sharded:
        raise ExpectedError(
            "model",
            f"{sharded[0]} is sharded among processes (FSDP).",
            "Train with DistributedDataParallel, or attach to a whole copy.",
        )


def _weights(model: nn.Module) -> list[Weight]:
    """Return every weight matrix: of nn.Linear layers, and bare parameters that are matrices."""
    found = []
    for name, module in model.named_modules():
        if _is_hidden(name, module):
            continue
        prefix = f"{name}." if name else ""
        if isinstance(module, nn.Linear):
            found.append(Weight(module, "weight", f"{prefix}weight"))
        elif _is_bare(module):
            names = [n for n, p in module.named_parameters(recurse=False) if p.ndim == 2]
            names += [n for n in getattr(module, "parametrizations", {}) if n not in names]
            found += [Weight(module, n, f"{prefix}{n}") for n in names]
    return found


def _is_hidden(name: str, module: nn.Module) -> bool:
    """Whether a module is a part of a parametrisation."""
    inside = isinstance(module, parametrize.ParametrizationList)
    return inside or ".parametrizations." in f".{name}."


def _is_bare(module: nn.Module) -> bool:
    """Whether a module's own tensors can be layers: PyTorch's own layers but nn.Linear are not."""
    holders = (nn.ParameterList, nn.ParameterDict)
    return isinstance(module, holders) or not type(module).__module__.startswith("torch.nn.")


def two_weights(model: nn.Module, layers: tuple[str, str] | None) -> tuple[Weight, Weight]:
    """Return the two weights of a model, or those with the given names."""
    seen = _weights(model)
    if layers is not None:
        return _named(model, seen, layers[0]), _named(model, seen, layers[1])
    if len(seen) == 1:  # beside a matrix a vector, f(x) = a . act(W x), or a fixed tensor
        seen += _beside(model, seen[0])
    if len(seen) == 2:
        return seen[0], seen[1]
    if not seen:
        raise ExpectedError(
            "model",
            f"The model has no linear layers (it has {_layer_kinds(model)}).",
            "Pass a model with two linear layers; convolutions are not supported.",
        )
    shown = ", ".join(f"{w.name} {w.kept_shape}" for w in seen)
    raise ExpectedError(
        "model",
        f"The model has {len(seen)} weight matrices, not two: {shown}.",
        "Name the two layers to follow with layers=(first, second); vectors, buffers and tensors "
        "that are attributes have names too.",
    )


def _beside(model: nn.Module, matrix: Weight) -> list[Weight]:
    """Return what can be the other layer of a model with one matrix.

    A trained vector comes before fixed matrices, and these before fixed vectors; of each kind one
    has to fit, or all that fit are returned.
    """
    sizes = matrix.shape
    kinds: tuple[list[Weight], ...] = ([], [], [])
    for name, module in model.named_modules():
        if _is_hidden(name, module) or not _is_bare(module):
            continue
        prefix = f"{name}." if name else ""
        for attribute, tensor in stored_tensors(module):
            weight = Weight(module, attribute, f"{prefix}{attribute}")
            fits = any(size in sizes and size > 1 for size in tensor.shape)
            if weight.name == matrix.name or not fits or not tensor.is_floating_point():
                continue
            trained, named_bias = isinstance(tensor, nn.Parameter), "b" in attribute[:1].lower()
            if tensor.ndim == 2 and not trained:
                kinds[1].append(weight)
            elif tensor.ndim == 1 and not named_bias:
                kinds[0 if trained else 2].append(weight)
    return next((found for found in kinds if found), [])


def _named(model: nn.Module, seen: list[Weight], name: str) -> Weight:
    for weight in seen:
        if name in (weight.name, weight.layer_name):
            return weight
    modules = dict(model.named_modules())
    owner_name, _, attribute = name.rpartition(".")
    owner, module = modules.get(owner_name), modules.get(name)
    if isinstance(module, nn.Embedding):
        return Weight(module, "weight", f"{name}.weight", transposed=True)
    found: Tensor | None = getattr(owner, attribute, None) if owner is not None else None
    if owner is not None and isinstance(found, Tensor) and found.ndim in (1, 2):
        return Weight(owner, attribute, name)
    if module is not None:
        inside = [n for n, t in stored_tensors(module) if t.ndim == 2] or [
            n for n, t in stored_tensors(module) if t.ndim == 1
        ]
        if len(inside) == 1:
            return Weight(module, inside[0], f"{name}.{inside[0]}")
    known = ", ".join(dict.fromkeys([*(w.layer_name for w in seen), *_tensor_names(model)]))
    raise ExpectedError(
        "layers", f"The model has no layer or parameter {name!r}.", f"Pass two of {known}."
    )


def _tensor_names(model: nn.Module) -> list[str]:
    """Return the names of vectors, buffers and tensor attributes that can be a layer."""
    return [
        f"{name}.{attribute}" if name else attribute
        for name, module in model.named_modules()
        if _is_bare(module) and not _is_hidden(name, module)
        for attribute, tensor in stored_tensors(module)
        if tensor.ndim in (1, 2) and tensor.is_floating_point()
    ]


def checked_readout(readout: Tensor, second: Weight) -> Tensor:
    """Return one direction per row, (n, outputs)."""
    directions = torch.as_tensor(readout, device=second.value.device).detach()
    given = tuple(directions.shape)
    directions = directions.unsqueeze(0) if directions.ndim == 1 else directions
    if directions.ndim != 2 or directions.shape[1] != second.shape[0]:
        raise ExpectedError(
            "readout",
            f"Shape {given} does not fit the {second.shape[0]} outputs of {second.name}.",
            f"Pass shape ({second.shape[0]},), or (n, {second.shape[0]}) for n classes.",
        )
    return directions


def layouts(
    first: Weight, second: Weight, *, inputs: int | None = None, outputs: int | None = None
) -> list[tuple[Weight, Weight]]:
    """Return every way round in which the second matrix follows the first, the likeliest first.

    Args:
        first: the layer named or found first.
        second: the other one.
        inputs: width of the model's inputs, where it is known.
        outputs: width of a block's outputs, where it is known.

    Raises:
        ExpectedError: if the matrices fit in no way, or none takes that many inputs.
    """
    tied = first.name == second.name  # one matrix, used forwards and backwards
    fits = [
        (one, other)
        for early, late in ((first, second), (second, first))[: 1 if tied else 2]
        for one in _ways(early)
        for other in ([replace(one, transposed=not one.transposed)] if tied else _ways(late))
        if one.shape[0] == other.shape[1]
    ]
    if not fits:
        gate = _gate(first, second)
        raise ExpectedError(
            "model",
            f"The layers do not follow each other: {_described(first)}, {_described(second)}{gate}.",
            "Name a layer d -> p and a head p -> 1 or p -> n with layers=(first, second).",
        )
    named = [pair for pair in fits if pair[0].name == first.name] or fits
    for width, side, axis in ((inputs, 0, 1), (outputs, 1, 0)):
        # where none has that width, the geometry or the readout is refused with its own reason
        named = [pair for pair in named if pair[side].shape[axis] == width] or named
    # the narrowest head, and of the same heads the matrices as PyTorch keeps them
    return sorted(
        named, key=lambda pair: (pair[1].shape[0], pair[0].transposed, pair[1].transposed)
    )


def _gate(first: Weight, second: Weight) -> str:
    """Return the suspicion that the first layer is twice as wide as the second takes, for a gate."""
    twice = any(
        one.shape[0] == 2 * other.shape[1] for one in _ways(first) for other in _ways(second)
    )
    return "; a gated block is not two layers" if twice else ""


def _ways(weight: Weight) -> list[Weight]:
    """Return the orientations of a weight: one for PyTorch's layers, two for a bare matrix."""
    kept = isinstance(weight.owner, nn.Linear | nn.Embedding)
    if kept or weight.is_vector:
        return [weight]
    return [weight, replace(weight, transposed=True)]


def _described(weight: Weight) -> str:
    outputs, inputs = weight.shape
    return f"{weight.layer_name}: {inputs} -> {outputs}"


def bias_of(weight: Weight, other: Weight) -> Vector | None:
    """Return where a layer's bias lives: nn.Linear's own, or the one trained vector that fits."""
    prefix = weight.name.removesuffix(weight.attribute)
    if isinstance(weight.owner, nn.Linear):
        if weight.owner.bias is None:
            return None
        return Vector(weight.owner, "bias", f"{prefix}bias")
    taken = {each.attribute for each in (weight, other) if each.owner is weight.owner}
    fitting = [
        name
        for name, parameter in weight.owner.named_parameters(recurse=False)
        if name not in taken and parameter.numel() == weight.shape[0] and parameter.ndim <= 1
    ]
    if len(fitting) != 1:
        return None
    return Vector(weight.owner, fitting[0], f"{prefix}{fitting[0]}")


def activation_between(
    model: nn.Module, first: Weight, second: Weight
) -> tuple[Activation, tuple[str, ...], bool]:
    """Return the activation between the layers, notes on other modules there, and whether any was seen.

    It is a guess by the order of the modules, which the first pass confirms or corrects. Neither a
    module that holds a layer nor one with weights of its own is an activation.
    """
    between = _modules_between(model, first, second)
    middle = [m for m in between if not (isinstance(m, _TRANSPARENT) or getattr(m, "p", None) == 0)]
    for chosen in middle:
        function = None if isinstance(chosen, _NO_ACTIVATION) else frozen_activation(chosen)
        if function is not None and known_activation(function) != "identity":
            noted = [m for m in middle if m is not chosen and _is_known(m)]
            return function, _notes(noted), True
    return torch.relu, _notes([m for m in middle if _is_known(m)]), False


def _notes(modules: list[nn.Module]) -> tuple[str, ...]:
    kinds = dict.fromkeys(type(module).__name__ for module in modules)
    return tuple(f"{kind} acts between the layers" for kind in kinds)


def _is_known(module: nn.Module) -> bool:
    """Whether a module is PyTorch's own, whose effect its name tells."""
    return type(module).__module__.startswith("torch.nn.")


def _modules_between(model: nn.Module, first: Weight, second: Weight) -> list[nn.Module]:
    """Return the innermost modules that stand between the layers where modules are listed."""
    modules = [m for name, m in model.named_modules() if "parametrizations" not in name.split(".")]
    holders = [m for m in modules if first.owner in m.modules() or second.owner in m.modules()]
    if first.owner is second.owner:
        candidates = [m for m in first.owner.modules() if m is not first.owner]
    else:
        start, end = modules.index(first.owner), modules.index(second.owner)
        candidates = modules[start + 1 : end] if start < end else modules[start + 1 :]
    leaves = [m for m in candidates if not list(m.children()) and m not in holders]
    return [m for m in leaves if all(p.ndim < 2 for p in m.parameters(recurse=False))]


def _layer_kinds(model: nn.Module) -> str:
    """List the kinds of the model's innermost modules, each with its number."""
    kinds = Counter(type(m).__name__ for m in model.modules() if not list(m.children()))
    return ", ".join(f"{kind} x{count}" for kind, count in kinds.items()) or "no modules"
