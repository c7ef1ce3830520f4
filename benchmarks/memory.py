"""Peak memory of `phasetrack run xor`, all default probes, against d and against m.

    python benchmarks/memory.py [--largest]

Each size is a process of its own; its peak is what the operating system saw. ``--largest`` adds
d = 65,536 with m = 65,536, some minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from _timing import publish

from phasetrack import RunSettings, read_run, train

WIDTH, STEPS = 512, 2
OVER_M = [(4096, m) for m in (4096, 16384, 65536, 262_144)]
OVER_D = [(d, 4 * d) for d in (64, 512, 4096, 16384)]
LARGEST = (65536, 65536)


def measured(settings: RunSettings) -> dict[str, object]:
    """One run in this process: seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(settings, out=folder, name="run")
        seconds = time.perf_counter() - started
        piece = read_run(Path(folder) / "run").config["settings"]["micro_batch"]
        disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "d": settings.d,
        "m": settings.batch_size,
        "p": settings.width,
        "steps": settings.steps,
        "samples at once": piece,
        "peak GiB": peak,
        "s/step": seconds / (settings.steps or 1),
        "files MiB": disk / 2**20,
    }


def in_its_own_process(settings: RunSettings) -> dict[str, object]:
    command = [sys.executable, __file__, "--one", json.dumps(asdict(settings))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--largest", action="store_true")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/memory.json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(RunSettings(**json.loads(asked.one)))))
        return
    sizes = [LARGEST] if asked.largest else [*OVER_D, *OVER_M]
    rows = [
        in_its_own_process(RunSettings(d=d, batch=m, width=asked.width, steps=STEPS))
        for d, m in sizes
    ]
    publish(rows, asked.json.with_stem("memory_largest") if asked.largest else asked.json)


if __name__ == "__main__":
    main()
