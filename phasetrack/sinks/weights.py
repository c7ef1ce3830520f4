"""Weights along a run, for looking back at it: one file a saved step, read without unpickling."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from phasetrack._checks import ExpectedError, check_int
from phasetrack._files import check_folder, replace_file
from phasetrack.views import ACTIVATIONS, TwoLayerView, known_activation

FOLDER, FORMAT = "weights", "format.json"


class WeightStore:
    """Writes the two layers into ``weights/step-<step>.pt``.

    Args:
        logdir: the run directory.
    """

    def __init__(self, logdir: Path) -> None:
        self._folder, self._next = logdir / FOLDER, 0

    def save(self, step: int, view: TwoLayerView) -> None:
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


def activation_name(view: TwoLayerView) -> str:
    """The name of an activation that can be had again by it.

    Raises:
        ExpectedError: for one that is not among `views.ACTIVATIONS`.
    """
    if (name := known_activation(view.activation)) is not None:
        return name
    given = type(view.activation).__name__
    raise ExpectedError("snapshots", f"an activation of {', '.join(ACTIVATIONS)}", given)


def saved_steps(logdir: Path) -> dict[int, Path]:
    """Saved steps, ascending, and their files.

    Raises:
        ExpectedError: if there are none.
    """
    files = sorted((logdir / FOLDER).glob("step-*.pt"))
    if not files:
        raise ExpectedError(
            "run",
            "a run with saved weights",
            str(logdir),
            "save them with --snapshots N, or attach(..., snapshots=N)",
        )
    return {int(file.stem.removeprefix("step-")): file for file in files}
