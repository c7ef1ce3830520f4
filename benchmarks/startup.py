"""Start-up time, from the shell: `phasetrack --help`, and a whole `phasetrack run xor --d 512`.

python benchmarks/startup.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _timing import publish

COMMAND = Path(sys.executable).with_name("phasetrack")
# What is run, seconds at most, and how often as a share of the rounds.
CASES: dict[str, tuple[list[str | Path], float | None, float]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], None, 1.0),
    "phasetrack --help": ([COMMAND, "--help"], 0.4, 1.0),
    "phasetrack show RUN": ([COMMAND, "show", "run"], None, 1.0),
    "phasetrack forecast xor --d 512": ([COMMAND, "forecast", "xor", "--d", "512"], None, 0.5),
    "phasetrack run xor --d 512": ([COMMAND, "run", "xor", "--d", "512"], 15.0, 0.5),
}


def seconds(command: list[str | Path], folder: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/startup.json"))
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        made: list[str | Path] = [
            COMMAND,
            "run",
            "xor",
            "--d",
            "16",
            "--steps",
            "20",
            "--out",
            ".",
            "--name",
            "run",
        ]
        seconds(made, folder)
        for name, (command, goal, share) in CASES.items():
            seconds(command, folder)  # the files are in memory from here on
            times = [seconds(command, folder) for _ in range(max(1, round(asked.rounds * share)))]
            rows.append(
                {
                    "command": name,
                    "s, median": statistics.median(times),
                    "s, least": min(times),
                    "goal": "" if goal is None else goal,
                }
            )
    publish(rows, asked.json, rounds=asked.rounds)


if __name__ == "__main__":
    main()
