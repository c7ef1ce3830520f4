"""Timing cases against each other in one process, and saying what came out."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

Row = Mapping[str, object]


def take_turns(
    cases: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 2,
    calls: int | Mapping[str, int] = 1,
    settle: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds a call of each case, one number a round.

    The cases take turns, in an order that rotates, so that what the machine does besides falls on
    all of them alike.

    Args:
        cases: name to what is timed.
        rounds: timed turns of each case.
        warm_up: turns before those, which are thrown away.
        calls: calls in one turn, for all or by case: enough to take a millisecond or more, and a
            whole number of blocks where work comes in blocks.
        settle: called before the clock is read at either end of a turn, as torch.cuda.synchronize
            where a GPU goes on by itself.
    """
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warm_up, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            count, case = calls if isinstance(calls, int) else calls[name], cases[name]
            settle()
            started = time.perf_counter()
            for _ in range(count):
                case()
            settle()
            if turn >= 0:
                seconds[name].append((time.perf_counter() - started) / count)
    return seconds


def ratio(seconds: Sequence[float], of: Sequence[float]) -> float:
    """Median over rounds of one case's time as a multiple of another's in the same round."""
    return statistics.median(ours / theirs for ours, theirs in zip(seconds, of, strict=True))


def milliseconds(seconds: Sequence[float]) -> float:
    """Median."""
    return 1e3 * statistics.median(seconds)


def publish(rows: Sequence[Row], out: Path | None, **settings: object) -> None:
    """Print rows (column to value) as a table, and write them as JSON with machine and date."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_shown(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if out is not None:
        content = {"machine": machine(), "settings": settings, "rows": [dict(row) for row in rows]}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"written to {out}")


def _uses_a_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def machine() -> dict[str, Any]:
    """What the figures were measured on, and when; a GPU where one was used."""
    return {
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if _uses_a_gpu() else None,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
