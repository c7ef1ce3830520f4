"""Every benchmark, one after the other; what fails is named at the end.

python benchmarks/all.py [NAME...]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
# No timings: this, their page, and what levels and forecasts are judged by.
OTHER = {"all", "results", "lazy_levels", "alert_rates", "forecast_bands"}
# Options under which a benchmark measures all that RESULTS.md shows.
OPTIONS = {"memory": [[], ["--largest"]]}


def main() -> None:
    names = sorted(file.stem for file in HERE.glob("*.py") if not file.stem.startswith("_"))
    chosen = sys.argv[1:] or [name for name in names if name not in OTHER]
    if unknown := set(chosen) - set(names):
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    failed = []
    for name in chosen:
        for options in OPTIONS.get(name, [[]]):
            words = [f"benchmarks/{name}.py", *options]
            print(f"\n== {' '.join(words)}", flush=True)
            started = time.perf_counter()
            done = subprocess.run([sys.executable, *words], cwd=HERE.parent, check=False)
            print(f"({time.perf_counter() - started:.0f} s)")
            if done.returncode:
                failed.append(" ".join(words))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
