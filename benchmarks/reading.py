"""Reading a recorded history: read_run(), and line by line through Python's json.

    python benchmarks/reading.py [--steps 1000000]

The lines are those of a real run, one after the other again and again, with steps that go on.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

from _timing import publish

from phasetrack import RunSettings, read_run, train

BY_JSON = 50_000  # lines that json is timed on; all of them would take too long


def write_history(run: Path, steps: int) -> Path:
    """A run directory with the given number of recorded steps."""
    train(RunSettings(d=64, width=64, steps=200), out=run.parent, name="real")
    tails = [line.split(",", 1)[1] for line in (run.parent / "real" / "history.jsonl").open()]
    run.mkdir()
    (run / "config.json").write_text("{}")
    with (run / "history.jsonl").open("w") as file:
        file.writelines(f'{{"step": {step},{tails[step % len(tails)]}' for step in range(steps))
    return run / "history.jsonl"


def by_json(path: Path, steps: int) -> float:
    """Seconds for so many lines, each parsed by json and appended to columns."""
    columns: dict[str, array[float]] = {}
    started = time.perf_counter()
    with path.open() as lines:
        for line, _ in zip(lines, range(steps), strict=False):
            for name, value in json.loads(line).items():
                columns.setdefault(name, array("d")).append(value)
    return time.perf_counter() - started


def by_read_run(run: Path) -> dict[str, float]:
    """Seconds, steps and peak memory of read_run() in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--read", run], stdout=subprocess.PIPE, check=True
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/reading.json"))
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        started = time.perf_counter()
        history = read_run(asked.read).history
        seconds = time.perf_counter() - started
        # of this process, and of the one that reads the other half
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = sum(resource.getrusage(whose).ru_maxrss for whose in who) / 2**20
        print(
            json.dumps(
                {"steps": history.count, "metrics": len(history), "s": seconds, "peak GiB": peak}
            )
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        path = write_history(Path(folder) / "long", asked.steps)
        rows = []
        some = min(BY_JSON, asked.steps)
        for _ in range(asked.rounds):
            read = by_read_run(path.parent)
            per_line = by_json(path, some) / some
            rows.append(
                {
                    "file GB": path.stat().st_size / 1e9,
                    **read,
                    "json, s": per_line * asked.steps,
                    "ratio": read["s"] / (per_line * asked.steps),
                }
            )
    publish(rows, asked.json, steps=asked.steps)


if __name__ == "__main__":
    main()
