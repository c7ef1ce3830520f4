"""What a sweep goes over: every combination of some settings, several seeds each. No torch."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from phasetrack.errors import check_int, expected_error
from phasetrack.theory.settings import RunSettings

# What a point may be swept over: every option of a run but the task and the seed.
AXES = tuple(f.name for f in fields(RunSettings) if f.name not in ("task", "seed"))
KINDS = {f.name: str(f.type).split(" | ")[0] for f in fields(RunSettings)}
SWITCHES = {"true": True, "false": False}
LARGEST_SWEEP = 100_000  # points, so that a slip of the finger is an error (chosen here)
NAME_LENGTH = 150  # characters of a point's name before its digest (file systems allow 255)
DIGEST_LENGTH = 8


@dataclass(frozen=True)
class Grid:
    """Every combination of the axes' values, for each of some seeds.

    Attributes:
        base: settings that all points share; its seed is the first one.
        axes: setting to the values that it takes.
        seeds: how many seeds each combination is run with.

    Raises:
        ExpectedError: naming the option that is wrong at some point of the grid.

    Example:
        >>> grid = Grid(RunSettings(width=64), {"d": (32, 64), "theta": (0.1,)}, seeds=2)
        >>> [(point.d, point.seed) for point in grid.points()]
        [(32, 0), (32, 1), (64, 0), (64, 1)]
    """

    base: RunSettings
    axes: dict[str, tuple[Any, ...]]
    seeds: int = 1

    def __post_init__(self) -> None:
        """Check the seeds, the size and every point."""
        check_int("seeds", self.seeds, minimum=1)
        size = self.seeds
        for values in self.axes.values():
            size *= len(values)
        if size > LARGEST_SWEEP:
            raise expected_error("grid", f"at most {LARGEST_SWEEP} points in all", size)
        for _ in self.points():
            pass  # settings check themselves as they are made

    def combinations(self) -> Iterator[dict[str, Any]]:
        """The axes' values at each place of the grid, the last axis fastest."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def points(self) -> Iterator[RunSettings]:
        """The settings of every run, all seeds of a combination after each other."""
        for chosen in self.combinations():
            for seed in range(self.base.seed, self.base.seed + self.seeds):
                yield replace(self.base, **chosen, seed=seed)

    def name(self, point: RunSettings) -> str:
        """A run directory's name for a point: what varies, and a digest of all that is set."""
        varies = [*self.axes, "seed"]
        shown = ",".join(f"{axis}={_text(getattr(point, axis))}" for axis in varies)
        return f"{shown[:NAME_LENGTH]}-{digest(point)}"


def digest(point: RunSettings) -> str:
    """A short name for settings: equal for equal runs, whichever sweep they are part of.

    Only what differs from the defaults counts, so that it stays the same when options are added.

    >>> digest(RunSettings()) == digest(RunSettings(batch=2048))  # 4 d, as by default
    True
    """
    values = {f.name: getattr(point, f.name) for f in fields(point)}
    told = {name: value for name, value in values.items() if value != _DEFAULTS[name]}
    text = json.dumps(told | {"batch": point.batch_size}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def parse_axes(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Axes as they are typed, each ``NAME=VALUE,VALUE,...``.

    Raises:
        ExpectedError: naming `grid`: what was typed, and what is allowed.

    Example:
        >>> parse_axes(["d=64,128", "theta=0.03"])
        {'d': (64, 128), 'theta': (0.03,)}
    """
    axes: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name == "seed":
            raise expected_error("grid", "no seed", repr(text), "say how many with --seeds")
        if name not in AXES or not values.strip():
            allowed = "NAME=VALUE,VALUE,..., NAME one of " + ", ".join(AXES)
            raise expected_error("grid", allowed, repr(text))
        if name in axes:
            raise expected_error("grid", "each setting once", f"{name} twice")
        axes[name] = tuple(_value(name, value.strip(), text) for value in values.split(","))
        if len(set(axes[name])) < len(axes[name]):
            raise expected_error("grid", "different values", repr(text))
    return axes


def _value(name: str, value: str, text: str) -> Any:
    kind = KINDS[name]
    try:
        if kind == "bool":
            return SWITCHES[value.lower()]
        return {"int": int, "float": float, "str": str}[kind](value)
    except (ValueError, KeyError):
        words = {"int": "integers", "float": "numbers", "bool": "true and false", "str": "words"}
        raise expected_error("grid", f"{words[kind]} for {name}", repr(text)) from None


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_DEFAULTS = {f.name: f.default for f in fields(RunSettings)}
