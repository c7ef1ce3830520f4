"""The points of a sweep: every combination of some settings, each over several seeds. No torch."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from phasetrack.errors import ExpectedError, check_int
from phasetrack.theory.settings import RunSettings

# Settings that may be an axis: all except the task and the seed.
AXES = tuple(f.name for f in fields(RunSettings) if f.name not in ("task", "seed"))
KINDS = {f.name: str(f.type).split(" | ")[0] for f in fields(RunSettings)}
SWITCHES = {"true": True, "false": False}
LARGEST_SWEEP = 100_000  # points; a larger sweep is taken for a typing mistake
NAME_LENGTH = 150  # characters of a point's name before its digest (file systems allow 255)
DIGEST_LENGTH = 8


@dataclass(frozen=True)
class Grid:
    """Every combination of the axes' values, each over several seeds.

    Attributes:
        base: settings that all points share; its seed is the first seed.
        axes: the values of each varied setting.
        seeds: number of seeds per combination.

    Raises:
        ExpectedError: naming the setting that is wrong at some point of the grid.

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
            raise ExpectedError(
                "axes",
                f"The grid has {size} points, more than {LARGEST_SWEEP}.",
                "Pass fewer values or seeds.",
            )
        for _ in self.points():
            pass  # settings validate themselves

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Yield the axes' values of each combination; the last axis varies fastest."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def points(self) -> Iterator[RunSettings]:
        """Yield the settings of every run; the seed varies fastest."""
        for chosen in self.combinations():
            for seed in range(self.base.seed, self.base.seed + self.seeds):
                yield replace(self.base, **chosen, seed=seed)

    def name(self, point: RunSettings) -> str:
        """Return the name of a point's run directory: its axes' values and a digest of its settings."""
        varies = [*self.axes, "seed"]
        shown = ",".join(f"{axis}={_text(getattr(point, axis))}" for axis in varies)
        return f"{shown[:NAME_LENGTH]}-{digest(point)}"


def digest(point: RunSettings) -> str:
    """Return a short hash of settings, equal for equal runs of any sweep.

    Settings at their defaults are left out, so that a hash survives the addition of a setting.

    >>> digest(RunSettings()) == digest(RunSettings(batch=2048))  # 4 d, as by default
    True
    """
    values = {f.name: getattr(point, f.name) for f in fields(point)}
    changed = {name: value for name, value in values.items() if value != _DEFAULTS[name]}
    text = json.dumps(changed | {"batch": point.batch_size}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def parse_axes(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Parse axes that are typed as ``NAME=VALUE,VALUE,...``.

    Raises:
        ExpectedError: naming `axes`, for an axis that is not of this form.

    Example:
        >>> parse_axes(["d=64,128", "theta=0.03"])
        {'d': (64, 128), 'theta': (0.03,)}
    """
    axes: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name == "seed":
            raise ExpectedError(
                "axes",
                f"{text!r} varies the seed.",
                "Pass the number of runs per combination as seeds.",
            )
        if name not in AXES or not values.strip():
            form = "Write NAME=VALUE,VALUE,... with one of the names " + ", ".join(AXES)
            raise ExpectedError("axes", f"{text!r} is not an axis.", f"{form}.")
        if name in axes:
            raise ExpectedError(
                "axes", f"{name!r} is given twice.", f"Write all values of {name} in one axis."
            )
        axes[name] = tuple(_value(name, value.strip(), text) for value in values.split(","))
        if len(set(axes[name])) < len(axes[name]):
            raise ExpectedError("axes", f"{text!r} repeats a value.", "Write each value once.")
    return axes


def _value(name: str, value: str, text: str) -> Any:
    kind = KINDS[name]
    try:
        if kind == "bool":
            return SWITCHES[value.lower()]
        return {"int": int, "float": float, "str": str}[kind](value)
    except (ValueError, KeyError):
        words = {"int": "an integer", "float": "a number", "bool": "true or false"}
        raise ExpectedError(
            "axes", f"{value!r} in {text!r} is not {words[kind]}.", f"Correct the values of {name}."
        ) from None


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_DEFAULTS = {f.name: f.default for f in fields(RunSettings)}
