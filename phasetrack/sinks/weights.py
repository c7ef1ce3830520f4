"""Weights along a run, for looking back at it: one file a saved step, read without unpickling."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from phasetrack._checks import ExpectedError
from phasetrack.views import ACTIVATIONS, TwoLayerView

FOLDER, FORMAT = "weights", "format.json"


class WeightStore:
    """Writes the two layers into ``weights/step-<step>.pt``.

    Args:
        logdir: the run directory.
    """

    def __init__(self, logdir: Path) -> None:
        self._folder = logdir / FOLDER

    def save(self, step: int, view: TwoLayerView) -> None:
        """Save the layers as they are now, with what else it takes to compute the output."""
        if not self._folder.exists():
            self._folder.mkdir()
            about = {
                "activation": activation_name(view),
                "scale": view.scale,
                "bias_scaled": view.bias_scaled,
            }
            (self._folder / FORMAT).write_text(json.dumps(about), encoding="utf-8")
        parts = {"W": view.W, "A": view.A, "bias": view.bias, "head_bias": view.head_bias}
        state = {name: t.detach().cpu().clone() for name, t in parts.items() if t is not None}
        torch.save(state, self._folder / f"step-{step:09}.pt")


def activation_name(view: TwoLayerView) -> str:
    """The name of an activation that can be had again by it.

    Raises:
        ExpectedError: for one that is not among `views.ACTIVATIONS`.
    """
    given = view.activation
    for name, function in ACTIVATIONS.items():
        if given is function or type(given).__name__.lower() == name.replace("_", ""):
            return name
    raise ExpectedError(
        "snapshots", f"an activation of {', '.join(ACTIVATIONS)}", type(given).__name__
    )


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
