"""A forward pass of a copy of a model on random inputs, to see its two layers before training."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.comparison import on_host
from phasetrack.model.layer_search import refuse_unreadable
from phasetrack.model.pass_outcome import SeenPass
from phasetrack.model.two_layer_view import TwoLayerView

# The number of random inputs of a rehearsal, and of those in its samples. Chosen here.
SAMPLES, SHOWN = 64, 3
# Tokens in a row that are tried where the model begins with an embedding.
TOKENS = (1, 2, 8)


class Samples(NamedTuple):
    """Outputs for a few random inputs, of the first output each.

    Attributes:
        layers: by the two layers alone.
        model: as the model returned them.
    """

    layers: list[float]
    model: list[float]


class Rehearsal(NamedTuple):
    """A view as a pass of a copy shows it.

    Attributes:
        view: the view, of the copy where a pass was seen.
        samples: a few outputs, or None where none can be compared.
        reason: why no pass was seen; empty where one was.
    """

    view: TwoLayerView
    samples: Samples | None
    reason: str


def rehearsed(model: nn.Module, view: TwoLayerView, seed: int = 0) -> Rehearsal:
    """Run a copy of a model on random inputs, in evaluation mode, and read the pass.

    The model itself is not called, and the global random state is left alone.

    Args:
        model: the model.
        view: its layers, as `TwoLayerView.of` finds them.
        seed: of the random inputs.
    """
    refuse_unreadable(model)
    try:
        twin = copy.deepcopy(model).eval()
    except Exception as error:
        return Rehearsal(view, None, f"the model cannot be copied ({error})")
    _drop_hooks(twin)
    modules = dict(zip(model.modules(), twin.modules(), strict=True))
    seen: list[SeenPass] = []
    resolved: list[TwoLayerView] = []
    reasons: list[str] = []

    def done(one: SeenPass) -> None:
        seen.append(one)
        resolved.append(start.resolved(one))

    start = view.moved(modules)
    watch = start.watched(twin, done, reasons.append)
    if not watch.waiting:
        return Rehearsal(view, None, "compiled models are seen in training alone")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        complaint = _tried(twin, start, lambda: bool(resolved))
    watch.remove()
    if not resolved:
        reason = complaint or next(iter(reasons), "the pass did not use both layers")
        return Rehearsal(view, None, reason)
    return Rehearsal(resolved[0], _samples(resolved[0], seen[0]), "")


def _drop_hooks(model: nn.Module) -> None:
    """Drop the hooks of the user's; those of PyTorch, such as the older weight_norm, compute weights."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if not type(hook).__module__.startswith("torch."):
                    del hooks[key]


def _tried(model: nn.Module, view: TwoLayerView, done: object) -> str:
    """Call a model on inputs of several kinds until a pass was seen; return the first complaint."""
    complaint = ""
    for inputs in _inputs(model, view):
        try:
            with torch.enable_grad():
                model(inputs)
        except Exception as error:
            complaint = complaint or (
                f"the model does not take random inputs of shape {tuple(inputs.shape)} "
                f"({type(error).__name__}: {error})"
            )
        if callable(done) and done():
            return ""
    return complaint


def _inputs(model: nn.Module, view: TwoLayerView) -> Iterator[Tensor]:
    """Yield random inputs that a model may take: rows, images, tokens."""
    W = view.W
    d = W.shape[1]
    rows = torch.randn(SAMPLES, d, device=W.device, dtype=W.dtype)
    yield rows
    for channels in (1, 3):
        side = round((d / channels) ** 0.5)
        if channels * side * side == d:
            yield rows.reshape(SAMPLES, channels, side, side)
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    most = min(tables, default=d)
    for length in TOKENS:
        yield torch.randint(0, most, (SAMPLES, length), device=W.device)
    yield torch.randint(0, most, (SAMPLES,), device=W.device)


def _samples(view: TwoLayerView, seen: SeenPass) -> Samples | None:
    """Return the first outputs of the layers and of the model."""
    if seen.output is None or view.directions is not None:
        return None
    layers = view.frozen()
    parts = [on_host(part) for part in (layers.W, layers.A, layers.bias, layers.head_bias)]
    hosted = type(layers)(layers.formula, *parts)  # type: ignore[arg-type]
    inputs = on_host(seen.first.inputs)
    assert inputs is not None
    with torch.no_grad():
        ours = hosted.linked_outputs(inputs[:SHOWN]).reshape(SHOWN, -1)[:, 0]
    theirs = seen.output[:SHOWN].double()[:, 0]
    return Samples(ours.tolist(), theirs.tolist())
