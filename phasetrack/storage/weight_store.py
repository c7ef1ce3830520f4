"""Weights along a run, for looking back at it: one file a saved step, read without unpickling."""

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

from phasetrack.errors import check_float, check_int, expected_error
from phasetrack.model.formula import FrozenLayers
from phasetrack.model.two_layer_view import ACTIVATIONS, known_activation
from phasetrack.storage.atomic_files import check_folder, check_plain, read_limited, replace_file
from phasetrack.storage.json_schema import read_object
from phasetrack.storage.tensor_file import read_tensors

FOLDER, FORMAT = "weights", "format.json"
# Bytes of one saved step at most, for files from elsewhere (chosen here: 2^20 inputs, 2^10 neurons).
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
        """Save the layers as they are now, with what else it takes to compute the output."""
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
        """The step after the last that is saved."""
        return {"next": self._next}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError if it is no state of such a store."""
        check_folder(self._folder)
        check_int("next", state["next"], minimum=0)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state; weights that were saved since are deleted."""
        self._next = state["next"]
        for file in self._folder.glob("step-*.pt"):
            number = file.stem.removeprefix("step-")
            if number.isascii() and number.isdigit() and int(number) >= self._next:
                file.unlink()
        if not self._next:
            (self._folder / FORMAT).unlink(missing_ok=True)

    def sync(self) -> None:
        """Nothing: a file that a power cut has taken costs no more than that step's look back."""

    def abandon(self) -> None:
        """Nothing: no file stays open."""


def activation_name(view: FrozenLayers) -> str:
    """The name of an activation that can be had again by it.

    Raises:
        ExpectedError: for one that is not among `views.ACTIVATIONS`.
    """
    if (name := known_activation(view.activation)) is not None:
        return name
    given = type(view.activation).__name__
    raise expected_error("snapshots", f"an activation of {', '.join(ACTIVATIONS)}", given)


@dataclass(frozen=True)
class SavedWeights:
    """The two layers at the saved steps of a run, checked to be of one shape.

    Attributes:
        activation: a name in `views.ACTIVATIONS`.
        scale: factor on the sum over neurons; None means 1/p.
        bias_scaled: whether it acts on the head's bias too.
        states: step to ``W`` (p, d), ``A`` (heads, p) and, where there are biases, ``bias`` (p,)
            and ``head_bias`` (heads,); ascending.
    """

    activation: str
    scale: float | None
    bias_scaled: bool
    states: dict[int, dict[str, Tensor]]


def read_weights(logdir: Path) -> SavedWeights:
    """Every saved step of a run.

    Raises:
        ExpectedError: if there are none, or a file is damaged.
    """
    folder = check_folder(logdir / FOLDER)
    files = {int(match[1]): f for f in folder.glob("*") if (match := _FILE.fullmatch(f.name))}
    if not files:
        raise expected_error(
            "run",
            "a run with saved weights",
            str(logdir),
            "save them with --snapshots N, or attach(..., snapshots=N)",
        )
    about = read_object(check_plain(folder / FORMAT))
    activation, scale = about.get("activation"), about.get("scale")
    if activation not in ACTIVATIONS or not isinstance(about.get("bias_scaled"), bool):
        raise expected_error("run", f"a known activation in {folder / FORMAT}", repr(about)[:80])
    if scale is not None:
        check_float("run", scale)
    states: dict[int, dict[str, Tensor]] = {}
    for step, file in sorted(files.items()):
        states[step] = _state(file)
        shapes = [_shapes(states[each]) for each in (min(files), step)]
        if shapes[0] != shapes[1]:
            raise expected_error("run", f"weights {shapes[0]} in {file}", shapes[1])
    return SavedWeights(activation, scale, about["bias_scaled"], states)


_FILE = re.compile(r"step-([0-9]{1,18})\.pt")


def _state(file: Path) -> dict[str, Tensor]:
    found = read_tensors(read_limited(file, LARGEST_FILE), str(file))
    state = {
        name: value
        for name, value in found.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.is_contiguous()
    }
    W, A = (state.get(name, torch.empty(0)) for name in ("W", "A"))
    fits = W.ndim == 2 and A.ndim == 2 and A.shape[1] == len(W) and W.numel() > 0 < A.numel()
    sizes = {"bias": len(W), "head_bias": len(A)}
    if not fits or any(n in state and state[n].shape != (sizes[n],) for n in sizes):
        allowed = f"W (p, d), A (heads, p) and maybe biases in {file}"
        raise expected_error("run", allowed, _shapes(state))
    return state


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
