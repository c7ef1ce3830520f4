"""The contents of a run's ``config.json``: settings, thresholds, forecast, machine, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from phasetrack.storage.directory import recorded_settings
from phasetrack.storage.results import read_config
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
        "escape_steps": settings.escape_steps,
        "step_limit": settings.step_limit,
        "forecast": predicted.bands() if predicted else {},
        "checkpoints": dict(saving),
        **_circumstances(device, matmul, processes),
    }


def _circumstances(device: str, matmul: Matmul, processes: int) -> dict[str, dict[str, Any]]:
    """Return what the last bits of a run depend on: its machine and its versions."""
    machine = {
        "device": device,
        "threads": torch.get_num_threads(),
        "matmul": matmul.path,
        "processes": processes,
    }
    return {"machine": machine, "versions": versions()}


def resumed_config(
    config: Mapping[str, Any], step: int, device: str, matmul: Matmul, processes: int
) -> dict[str, Any]:
    """Return ``config.json`` of a run that resumes at a step, and warn of every difference.

    ``resumed`` lists each resumption with its step, and the machine and the versions from there on.
    """
    now = _circumstances(device, matmul, processes)
    before = list(config["resumed"]) if isinstance(config.get("resumed"), list) else []
    last = before[-1] if before else config
    changed = [
        f"{name} {then[name]} then, {value} now"
        for kind in now
        for then in (part(last, kind),)
        for name, value in now[kind].items()
        if then.get(name, value) != value
    ]
    if changed:
        line = ", ".join(changed)
        warn(f"the run resumes, and its last bits may differ from the original's ({line})")
    return {**config, "resumed": [*before, {"step": step, **now}]}


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
