"""What ``config.json`` and ``summary.json`` may hold: a run directory from elsewhere is data, not trust.

Entries that phasetrack does not know are let through and never looked at.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from phasetrack._checks import ExpectedError
from phasetrack._files import read_limited

# Bytes of a JSON file of a run at most (chosen here: some hundred times those of a run with many
# clusters).
LARGEST_JSON = 2**24

_PhaseName = Literal["UNDETERMINED", "SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
_Step = Annotated[int, Meta(ge=0, le=2**62)]
# a terminal obeys control characters; tabs and line ends are harmless
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Band(Struct):
    value: float
    low: float
    high: float


class _Rates(Struct):
    measured: float
    predicted: float


class _Boundary(Struct):
    name: str
    onset: float
    detected: _Step


class _Alert(Struct):
    name: str
    step: _Step
    evidence: dict[str, float]


class _Stretch(Struct):
    phase: _PhaseName
    start: _Step
    end: _Step


class Config(Struct):
    """The entries of ``config.json`` that are read."""

    settings: dict[str, int | float | str | bool | None] | UnsetType = UNSET
    thresholds: dict[str, int | float] | UnsetType = UNSET
    escape_steps: float | UnsetType | None = UNSET
    forecast: dict[str, _Band] | UnsetType = UNSET
    checkpoints: dict[str, int | float | None] | UnsetType = UNSET
    machine: dict[str, int | str] | UnsetType = UNSET
    versions: dict[str, str] | UnsetType = UNSET


class Summary(Struct):
    """The entries of ``summary.json`` that are read."""

    phase: _PhaseName
    reason: str | UnsetType = UNSET
    steps: _Step | UnsetType = UNSET
    boundaries: list[_Boundary] | UnsetType = UNSET
    alerts: list[_Alert] | UnsetType = UNSET
    timeline: list[_Stretch] | UnsetType = UNSET
    loss_halving_step: float | UnsetType = UNSET
    growth: dict[str, _Rates] | UnsetType = UNSET
    final: dict[str, float] | UnsetType = UNSET
    forecast: dict[str, _Band] | UnsetType = UNSET
    undefined: dict[str, str] | UnsetType = UNSET
    thresholds: dict[str, int | float] | UnsetType = UNSET
    directory: str | UnsetType = UNSET
    stopped: str | UnsetType = UNSET
    seconds: float | UnsetType = UNSET


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ExpectedError: if it holds anything else, is no plain file, or is too large or too deep.
    """
    try:
        content = json.loads(read_limited(path, LARGEST_JSON))
    except ExpectedError:
        raise
    except (ValueError, RecursionError) as error:
        raise ExpectedError("run", f"JSON in {path}", f"a damaged file ({error})") from None
    if not isinstance(content, dict):
        raise ExpectedError("run", f"a JSON object in {path}", type(content).__name__)
    return content


def read_as(kind: type[Struct], path: Path) -> dict[str, Any]:
    """Read a JSON object whose known entries are of their kind.

    Args:
        kind: `Config` or `Summary`.
        path: the file.

    Raises:
        ExpectedError: naming the entry that is not.
    """
    content = read_object(path)
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ExpectedError("run", f"what a run writes in {path}", f"{error}") from None
    if text := _control_character(content):
        allowed = f"text without control characters in {path}"
        raise ExpectedError("run", allowed, repr(text)[:80])
    return content


def _control_character(content: Any) -> str:
    """A text with a control character somewhere in a JSON value; empty if there is none."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and _CONTROL.search(value):
            return value
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
    return ""
