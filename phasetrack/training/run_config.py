"""The contents of a run's ``config.json``: settings, thresholds, forecast, machine, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from phasetrack.storage.directory import read_config, recorded_settings
from phasetrack.theory.forecast import Forecast
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.attached_config import command, versions
from phasetrack.tracking.guard import warn
from phasetrack.training.matmul import Matmul

# The settings that decide a run, for TensorBoard's table.
HPARAMS = ("task", "d", "width", "batch", "eta", "theta", "train", "shuffle_labels", "seed")


def run_name(settings: RunSettings) -> str:
    """Return a run's default name: task, d and seed."""
    return f"{settings.task}-d{settings.d}-s{settings.seed}"


def hparams(settings: RunSettings) -> dict[str, object]:
    """Return the settings that decide a run."""
    values = settings.to_dict()
    return {name: values[name] for name in HPARAMS}


def run_config(
    settings: RunSettings,
    predicted: Forecast | None,
    device: str,
    saving: Mapping[str, Any],
    matmul: Matmul,
    processes: int,
) -> dict[str, Any]:
    """Return what ``config.json`` holds."""
    return {
        "command": command(),
        "settings": settings.to_dict(),
        "thresholds": asdict(settings.thresholds()),
        "escape_steps": settings.escape_steps if settings.forecastable else None,
        "step_limit": settings.step_limit,
        "forecast": predicted.bands() if predicted else {},
        "checkpoints": dict(saving),
        "machine": {
            "device": device,
            "threads": torch.get_num_threads(),
            "matmul": matmul.path,
            "processes": processes,
        },
        "versions": versions(),
    }


def read_recorded(directory: Path) -> tuple[dict[str, Any], RunSettings]:
    """Read a run's configuration and settings.

    Raises:
        ExpectedError: if the directory holds no run, or its configuration is not valid.
    """
    config = read_config(directory)
    return config, recorded_settings(config, directory)


def part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a mapping in a run's configuration; empty if an older version wrote none."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def warn_of_other_versions(config: Mapping[str, Any]) -> None:
    """Warn where a run was begun with other versions than those of today."""
    then, now = part(config, "versions"), versions()
    if changed := [name for name in now if then.get(name, now[name]) != now[name]]:
        line = ", ".join(f"{name} {then[name]} then, {now[name]} now" for name in changed)
        warn(f"the run resumes, and its last bits may differ from the original's ({line})")
