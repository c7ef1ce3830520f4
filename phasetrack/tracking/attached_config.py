"""The ``config.json`` of an attached run: all that labels it again, and tells it from others."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from phasetrack._version import __version__
from phasetrack.errors import ExpectedError, printable
from phasetrack.model.activations import known_activation
from phasetrack.model.geometry import Geometry, SpanGeometry
from phasetrack.model.layer_view import LayerView
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.phases.vocabulary_set import VocabularySet
from phasetrack.storage.directory import write_json
from phasetrack.storage.file_names import CONFIG
from phasetrack.storage.results import read_config

if TYPE_CHECKING:
    from phasetrack.theory.forecast import Forecast

# Numbers of the centres up to which they are kept: some kilobytes.
MOST_CENTRES = 4096
LONGEST_TEXT = 1000  # characters
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    return {
        "phasetrack": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def attached_config(
    view: LayerView,
    geometry: Geometry,
    vocabularies: VocabularySet,
    *,
    optimizer: torch.optim.Optimizer,
    loss: object,
    forecast: Forecast | None,
    hparams: Mapping[str, object] | None,
    hindsight: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return what ``config.json`` holds of a run of a model of the user's own, as JSON values.

    Args:
        view: the two layers as they are known before the first pass.
        geometry: the clusters or the span; tables of more than `MOST_CENTRES` numbers are left out.
        vocabularies: of the run.
        optimizer: the optimizer, of which the kind and the first rate are kept.
        loss: the loss given to `attach`, or None.
        forecast: the predicted run, or None.
        hparams: hyperparameters; everything but numbers and booleans becomes text.
        hindsight: the networks that are kept for a look back, or None.
    """
    labels = vocabularies.first
    return {
        "command": command(),
        "layers": {
            "first": _plain(view.names[0]),
            "second": _plain(view.names[1]),
            "inputs": view.first.shape[1],
            "width": view.first.shape[0],
            "outputs": view.heads,
            "activation": known_activation(view.activation) or "unnamed",
        },
        "geometry": None if geometry.no_span else _geometry(geometry),
        "hindsight": hindsight,
        "loss": None if loss is None else _plain(getattr(loss, "__name__", type(loss).__name__)),
        "optimizer": type(optimizer).__name__,
        "thresholds": asdict(labels.thresholds),
        "vocabularies": {
            name: {"source": one.vocabulary.source, "levels": _levels(one.vocabulary)}
            for name, one in vocabularies.further.items()
        },
        "escape_steps": labels.escape_steps,
        "forecast": forecast.bands() if forecast else {},
        "hparams": {_plain(name): _value(value) for name, value in (hparams or {}).items()},
        "versions": versions(),
    }


def _geometry(geometry: Geometry) -> dict[str, Any]:
    names = [_plain(name) for name in geometry.names]
    sizes = {"dimension": geometry.dim, "signal_dimension": geometry.signal_dim}
    if isinstance(geometry, SpanGeometry):
        return {"directions": names, **sizes, "vectors": _few(geometry.directions)}
    labels = {"clusters": names, "labels": geometry.labels.tolist()}
    return {**labels, **sizes, "centres": _few(geometry.centres)}


def _few(table: Tensor) -> list[list[float]] | None:
    return table.tolist() if table.numel() <= MOST_CENTRES else None


def write_config(folder: Path, config: Mapping[str, Any], say: Callable[[str], object]) -> None:
    """Write ``config.json`` unless the directory has one, and say so where that one is not a run's.

    `phasetrack run` writes its own before it attaches, and a resumed run has that of its start.
    """
    path = folder / CONFIG
    if not path.exists():
        write_json(path, config)
        return
    try:
        ours = "phasetrack" in read_config(folder).get("versions", {})
    except (ExpectedError, OSError):
        ours = False
    if not ours:
        say(
            f"{str(path)!r} belongs to another program and stays as it is: thresholds and layers of "
            "this run are not kept, so pass a logdir that has no such file"
        )


def command() -> str:
    """Return the command line of this process; of a notebook or a prompt, that it was one."""
    if hasattr(sys, "ps1"):
        return "a notebook" if "ipykernel" in sys.modules else "a prompt"
    return _plain(shlex.join(["python", *sys.argv]))


def _levels(vocabulary: Vocabulary) -> dict[str, Any]:
    return {_plain(name): _value(value) for name, value in vocabulary.levels.items()}


def _value(value: object) -> int | float | str | bool | None:
    """Return a hyperparameter as JSON knows it."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return _plain(value)


def _plain(text: object) -> str:
    """Return a text that a reader of the file accepts: short, and without control characters."""
    return _CONTROL.sub("?", printable(text))[:LONGEST_TEXT]
