"""Weights saved along a run, for `replay`: one file per saved step, read without unpickling."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError, check_float, check_int
from phasetrack.model.formula import FrozenLayers
from phasetrack.model.two_layer_view import ACTIVATIONS, known_activation
from phasetrack.storage.atomic_files import check_folder, check_plain, read_limited, replace_file
from phasetrack.storage.json_schema import read_object
from phasetrack.storage.tensor_file import read_tensors

FOLDER, FORMAT, CONFIG = "weights", "format.json", "config.json"
# Bytes per saved step at most, as files may come from elsewhere: 2^20 inputs, 2^10 neurons.
LARGEST_FILE = 2**33


class WeightStore:
    """Writes the two layers into ``weights/step-<step>.pt``.

    Args:
        logdir: the run directory.
    """

    state_key = "weights"

    def __init__(self, logdir: Path) -> None:
        self._folder, self._next = logdir / FOLDER, 0

    def save(self, step: int, view: FrozenLayers) -> None:
        """Save the layers of one step, and once the activation and the scale of the output."""
        about = {
            "activation": activation_name(view),
            "scale": view.scale,
            "bias_scaled": view.bias_scaled,
        }
        check_folder(self._folder).mkdir(exist_ok=True)
        if not (self._folder / FORMAT).exists():
            replace_file(self._folder / FORMAT, json.dumps(about).encode())
        parts = {"W": view.W, "A": view.A, "bias": view.bias, "head_bias": view.head_bias}
        state = {name: t.detach().cpu().clone() for name, t in parts.items() if t is not None}
        content = io.BytesIO()
        torch.save(state, content)
        replace_file(self._folder / f"step-{step:09}.pt", content.getvalue())
        self._next = step + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the step after the last saved one."""
        return {"next": self._next}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError unless the state is valid for this store."""
        check_folder(self._folder)
        check_int("next", state["next"], minimum=0)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; weights that were saved later are deleted."""
        self._next = state["next"]
        for file in self._folder.glob("step-*.pt"):
            number = file.stem.removeprefix("step-")
            if number.isascii() and number.isdigit() and int(number) >= self._next:
                file.unlink()
        if not self._next:
            (self._folder / FORMAT).unlink(missing_ok=True)

    def sync(self) -> None:
        """Do nothing: losing a file in a power cut costs only the replay of that step."""

    def abandon(self) -> None:
        """Do nothing: no file stays open."""


def activation_name(view: FrozenLayers) -> str:
    """Return the name under which `replay` finds a view's activation.

    Raises:
        ExpectedError: if the activation is not in `two_layer_view.ACTIVATIONS`.
    """
    if (name := known_activation(view.activation)) is not None:
        return name
    given = type(view.activation).__name__
    problem = f"Weights are saved for the activations {', '.join(ACTIVATIONS)}, not for {given!r}."
    raise ExpectedError("snapshots", problem, "Attach without snapshots.")


@dataclass(frozen=True)
class SavedWeights:
    """The two layers at the saved steps of a run, all of one shape.

    Attributes:
        activation: a name in `two_layer_view.ACTIVATIONS`.
        scale: factor on the sum over neurons; None means 1/p.
        bias_scaled: whether the scale acts on the head's bias too.
        states: step to ``W`` (p, d), ``A`` (heads, p) and, where there are biases, ``bias`` (p,)
            and ``head_bias`` (heads,); ascending.
        damaged: why each further saved step cannot be used.
    """

    activation: str
    scale: float | None
    bias_scaled: bool
    states: dict[int, dict[str, Tensor]]
    damaged: tuple[str, ...] = ()


def read_weights(logdir: Path) -> SavedWeights:
    """Read every saved step of a run; a power cut may have damaged single ones, which are left out.

    Raises:
        ExpectedError: if the run saved no weights, or none of them can be read.
    """
    folder = check_folder(logdir / FOLDER)
    files = {int(match[1]): f for f in folder.glob("*") if (match := _FILE.fullmatch(f.name))}
    if not files:
        problem = f"{str(logdir)!r} holds no saved weights."
        fix = "Save them with `phasetrack run --snapshots N` or attach(..., snapshots=N)."
        raise ExpectedError("run", problem, fix)
    about = read_object(check_plain(folder / FORMAT))
    activation, scale = about.get("activation"), about.get("scale")
    if activation not in ACTIVATIONS or not isinstance(about.get("bias_scaled"), bool):
        problem = f"{str(folder / FORMAT)!r} names no known activation: {repr(about)[:80]}."
        raise ExpectedError("run", problem)
    if scale is not None:
        check_float("run", scale)
    states: dict[int, dict[str, Tensor]] = {}
    damaged = []
    most = _largest(logdir)
    for step, file in sorted(files.items()):
        try:
            state = _state(file, most)
            first = _shapes(states[min(states)]) if states else _shapes(state)
            if (shapes := _shapes(state)) != first:
                problem = f"{str(file)!r} holds the shapes {shapes}, the first saved step {first}."
                raise ExpectedError("run", problem)
        except ExpectedError as error:
            damaged.append(error.problem)
            continue
        states[step] = state
    if not states:
        raise ExpectedError("run", damaged[0])
    return SavedWeights(activation, scale, about["bias_scaled"], states, tuple(damaged))


def _largest(logdir: Path) -> int:
    """Return the bytes that a file of weights may have: by the run's own sizes, if it says them."""
    settings = read_object(logdir / CONFIG).get("settings") if (logdir / CONFIG).is_file() else None
    d, width = ((settings or {}).get(name) for name in ("d", "width"))
    if type(d) is int and type(width) is int and d > 0 < width:
        return min(LARGEST_FILE, 2**20 + 16 * (d + 4) * width)
    return LARGEST_FILE


_FILE = re.compile(r"step-([0-9]{1,18})\.pt")


def _state(file: Path, most: int) -> dict[str, Tensor]:
    found = read_tensors(read_limited(file, most), str(file))
    state = {name: v for name, v in found.items() if isinstance(v, Tensor) and _is_plain(v)}
    W, A = (state.get(name, torch.empty(0, device="cpu")) for name in ("W", "A"))
    fits = W.ndim == 2 and A.ndim == 2 and A.shape[1] == len(W) and W.numel() > 0 < A.numel()
    sizes = {"bias": len(W), "head_bias": len(A)}
    if not fits or any(n in state and state[n].shape != (sizes[n],) for n in sizes):
        problem = f"{str(file)!r} holds the shapes {_shapes(state)}, not W (p, d) and A (heads, p)."
        raise ExpectedError("run", problem)
    return state


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers on the host, one after the other: not sparse, nested or without values."""
    dense = tensor.layout == torch.strided and not tensor.is_nested and tensor.device.type == "cpu"
    return dense and tensor.is_floating_point() and tensor.is_contiguous()


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
