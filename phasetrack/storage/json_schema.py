"""The JSON files of a run directory, bounded in size and validated: ``config.json``, ``summary.json``.

Both may come from elsewhere. Entries that phasetrack does not know pass unchanged and are never read.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from phasetrack.errors import ExpectedError
from phasetrack.phases.thresholds import Thresholds

# Bytes of config.json or summary.json at most: far beyond any run's.
LARGEST_OBJECT = 2**25
# Characters of a text in a summary; the rest is cut off.
LONGEST_TEXT = 1000

# where no text holds a quote, a long text has no quote among so many characters
_LONG = re.compile(rb'"[^"]{%d}' % (LONGEST_TEXT + 1))

# a terminal obeys control characters and marks of direction; tabs and line ends are harmless
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

PhaseName = Literal["UNDETERMINED", "SIGNAL_FINDING", "SIGNAL_HEAVY", "FITTED"]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# a step or a duration: finite, and exact enough to be drawn; `float` alone takes NaN and infinity too
Number = Integer | Annotated[float, Meta(gt=-(2.0**63), lt=2.0**63)]


class _Band(Struct):
    value: float
    low: float
    high: float
    reason: str | UnsetType = UNSET


class Config(Struct):
    """The known entries of ``config.json``."""

    settings: dict[str, int | float | str | bool | None] | UnsetType = UNSET
    hparams: dict[str, int | float | str | bool | None] | UnsetType = UNSET
    command: str | UnsetType = UNSET
    thresholds: dict[str, int | float] | UnsetType = UNSET
    vocabularies: dict[str, _Chosen] | UnsetType = UNSET
    escape_steps: float | UnsetType | None = UNSET
    forecast: dict[str, _Band] | UnsetType = UNSET
    checkpoints: dict[str, int | float | None] | UnsetType = UNSET
    machine: dict[str, int | str] | UnsetType = UNSET
    versions: dict[str, str] | UnsetType = UNSET


class _Stretch(Struct):
    phase: PhaseName
    start: Number
    end: Number


class _Boundary(Struct):
    name: str
    onset: float
    detected: Number
    low: float = math.nan
    high: float = math.nan
    left: Number | None = None


class _Alert(Struct):
    name: str
    step: Number
    evidence: dict[str, Any]

    def __post_init__(self) -> None:
        self.evidence = _flat(self.evidence)


class _Lane(Struct):
    phase: str
    start: Number
    end: Number


class _Vocabulary(Struct):
    applies: bool
    reason: str
    phase: str
    boundaries: list[_Boundary]
    alerts: list[dict[str, Any]]
    meaning: str = ""
    timeline: list[_Lane] = []


class _Chosen(Struct):
    source: str = ""
    levels: dict[str, int | float | str | bool | None] = {}


class _Rates(Struct):
    measured: float
    predicted: float


class _Matmul(Struct):
    path: str
    error: float | None = None
    speed: float | None = None


class Summary(Struct):
    """The known entries of ``summary.json``."""

    phase: PhaseName | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    steps: Number | UnsetType = UNSET
    boundaries: list[_Boundary] | UnsetType = UNSET
    alerts: list[_Alert] | UnsetType = UNSET
    timeline: list[_Stretch] | UnsetType = UNSET
    loss_halving_step: float | UnsetType = UNSET
    loss_at: dict[str, float] | UnsetType = UNSET
    growth: dict[str, _Rates] | UnsetType = UNSET
    final: dict[str, Any] | UnsetType = UNSET
    forecast: dict[str, _Band] | UnsetType = UNSET
    undefined: dict[str, str] | UnsetType = UNSET
    notes: list[str] | UnsetType = UNSET
    vocabularies: dict[str, _Vocabulary] | UnsetType = UNSET
    thresholds: dict[str, Any] | UnsetType = UNSET
    units: dict[str, float] | UnsetType = UNSET
    seconds: Number | UnsetType = UNSET
    directory: str | UnsetType = UNSET
    stopped: str | UnsetType = UNSET
    matmul: _Matmul | UnsetType = UNSET
    hindsight: _Hindsight | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.final is not UNSET:
            self.final = _flat(self.final)
        if self.thresholds is not UNSET:
            try:
                _check_thresholds(**self.thresholds)
            except (TypeError, ValueError) as error:
                raise ValueError(f"`$.thresholds`: {error}") from None


@lru_cache(maxsize=16, typed=True)
def _check_thresholds(**thresholds: Any) -> None:
    """Raise TypeError or ValueError for thresholds that are not valid; most runs of a folder have the same."""
    Thresholds.recorded(thresholds)


class _Span(Struct):
    dimension: Number
    chance: float
    accuracy: float
    majority: float
    stability: float


class _Hindsight(Summary, kw_only=True):
    trustworthy: bool
    untrusted: str = ""
    sentence: str = ""
    samples: Number = 0
    span: _Span | None = None


def read_object(path: Path, opener: Callable[[str, int], int] | None = None) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: the file.
        opener: as Python's `open` takes it; None opens any file.

    Raises:
        ExpectedError: if the file holds anything else, more than `LARGEST_OBJECT` bytes, or cannot be read.
        FileNotFoundError: if it does not exist.
    """
    try:
        with open(path, "rb", opener=opener) as file:
            if (size := os.fstat(file.fileno()).st_size) > LARGEST_OBJECT:
                raise ValueError(f"{size} bytes, more than {LARGEST_OBJECT}")
            content = json.loads(file.read().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(*error.args) from None
    except OSError as error:
        raise ExpectedError("run", f"{str(path)!r} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ExpectedError("run", f"{str(path)!r} is damaged: {error}.") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ExpectedError("run", f"{str(path)!r} holds a JSON {kind}, not an object.")
    return content


def check_config(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the content of ``config.json`` if its known entries are valid.

    Raises:
        ExpectedError: naming the entry that is not.
    """
    _convert(content, Config, path)
    return content


def check_summary(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the content of ``summary.json`` with its known entries validated.

    Missing entries stay missing. Texts are cut at `LONGEST_TEXT` characters; an alert's evidence and
    the final readings keep their numbers and texts only.

    Raises:
        ExpectedError: naming the entry that is not valid.
    """
    known = msgspec.to_builtins(_convert(content, Summary, path))
    return {**content, **(known if _has_short_texts(known) else _with_short_texts(known))}


def check_text(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return an object if no text in it holds a control character, which a terminal would obey.

    Raises:
        ExpectedError: quoting the text that does.
    """
    if text := _control_character(content):
        problem = f"{str(path)!r} holds a text with control characters, {text[:80]!r}."
        raise ExpectedError("run", problem)
    return content


def _convert(content: dict[str, Any], kind: type[Config] | type[Summary], path: Path) -> Any:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        # the text names kinds and the place, and may quote a value of any length
        raise ExpectedError("run", f"{str(path)!r} is not valid: {str(error)[:300]}.") from None


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Keep texts and numbers that fit into 64 bits."""
    return {
        name: value
        for name, value in content.items()
        if isinstance(value, str | float) or (type(value) is int and -(2**63) <= value < 2**63)
    }


def _plain_texts(content: Any) -> bytes | None:
    """Return a JSON value as JSON if every text in it is printable ASCII without a quote or backslash.

    So are the texts of most runs. The encoder sees that a hundred times faster than a walk in Python.
    """
    try:
        written = msgspec.json.encode(content)
    except (ValueError, TypeError, OverflowError, RecursionError):  # half characters, long integers
        return None
    plain = written.isascii() and b"\\" not in written and b"\x7f" not in written
    return written if plain else None


def _has_short_texts(content: Any) -> bool:
    """Whether every text in a JSON value is short and plain; False where only a walk can tell."""
    written = _plain_texts(content)
    return written is not None and not _LONG.search(written)


def _with_short_texts(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, dict):
        return {name: _with_short_texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_short_texts(item) for item in value]
    return value


def _control_character(content: Any) -> str:
    """Find a text with a control character somewhere in a JSON value; empty if there is none."""
    if _plain_texts(content) is not None:
        return ""
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
