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

FOLDER, FORMAT = "weights", "format.json"
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
    """

    activation: str
    scale: float | None
    bias_scaled: bool
    states: dict[int, dict[str, Tensor]]


def read_weights(logdir: Path) -> SavedWeights:
    """Read every saved step of a run.

    Raises:
        ExpectedError: if the run saved no weights, or a file is damaged.
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
    for step, file in sorted(files.items()):
        states[step] = _state(file)
        shapes = [_shapes(states[each]) for each in (min(files), step)]
        if shapes[0] != shapes[1]:
            problem = (
                f"{str(file)!r} holds the shapes {shapes[1]}, the first saved step {shapes[0]}."
            )
            raise ExpectedError("run", problem)
    return SavedWeights(activation, scale, about["bias_scaled"], states)


_FILE = re.compile(r"step-([0-9]{1,18})\.pt")


def _state(file: Path) -> dict[str, Tensor]:
    found = read_tensors(read_limited(file, LARGEST_FILE), str(file))
    state = {
        name: value
        for name, value in found.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.is_contiguous()
    }
    W, A = (state.get(name, torch.empty(0, device="cpu")) for name in ("W", "A"))
    fits = W.ndim == 2 and A.ndim == 2 and A.shape[1] == len(W) and W.numel() > 0 < A.numel()
    sizes = {"bias": len(W), "head_bias": len(A)}
    if not fits or any(n in state and state[n].shape != (sizes[n],) for n in sizes):
        problem = f"{str(file)!r} holds the shapes {_shapes(state)}, not W (p, d) and A (heads, p)."
        raise ExpectedError("run", problem)
    return state


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
