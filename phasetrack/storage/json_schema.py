"""JSON files of a run directory from elsewhere: bounded, and of the kind that a run writes.

Entries that phasetrack does not know are let through and never looked at.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from phasetrack.errors import expected_error

# Bytes of config.json or summary.json at most, for files from elsewhere (chosen here: far beyond any).
LARGEST_OBJECT = 2**25

# a terminal obeys control characters; tabs and line ends are harmless
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Band(Struct):
    value: float
    low: float
    high: float


class Config(Struct):
    """The entries of ``config.json`` that are read."""

    settings: dict[str, int | float | str | bool | None] | UnsetType = UNSET
    thresholds: dict[str, int | float] | UnsetType = UNSET
    escape_steps: float | UnsetType | None = UNSET
    forecast: dict[str, _Band] | UnsetType = UNSET
    checkpoints: dict[str, int | float | None] | UnsetType = UNSET
    machine: dict[str, int | str] | UnsetType = UNSET
    versions: dict[str, str] | UnsetType = UNSET


def read_object(path: Path, opener: Callable[[str, int], int] | None = None) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: the file.
        opener: as that of Python's `open`, for files from elsewhere; None opens any.

    Raises:
        ExpectedError: if it holds anything else, or more than `LARGEST_OBJECT` bytes.
    """
    try:
        with open(path, "rb", opener=opener) as file:
            if (size := os.fstat(file.fileno()).st_size) > LARGEST_OBJECT:
                raise ValueError(f"{size} bytes, more than {LARGEST_OBJECT}")
            content = json.loads(file.read().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise expected_error("run", f"JSON in {path}", f"a damaged file ({error})") from None
    if not isinstance(content, dict):
        raise expected_error("run", f"a JSON object in {path}", type(content).__name__)
    return content


def check_config(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return what ``config.json`` holds if its known entries are of their kind.

    Raises:
        ExpectedError: naming the entry that is not.
    """
    try:
        msgspec.convert(content, Config)
    except msgspec.ValidationError as error:
        raise expected_error("run", f"what a run writes in {path}", f"{error}") from None
    return content


def check_text(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return an object if no text in it would make a terminal do something.

    Raises:
        ExpectedError: quoting the text that would.
    """
    if text := _control_character(content):
        allowed = f"text without control characters in {path}"
        raise expected_error("run", allowed, repr(text)[:80])
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
