"""RESULTS.md from the JSON that the benchmarks write: a table per machine.

    python benchmarks/results.py                 # write RESULTS.md anew from benchmarks/results/
    python benchmarks/results.py --take NAME     # first take build/benchmarks/ in as the machine NAME

A file of benchmarks/results/ holds a machine and, per benchmark, its settings and rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER, PAGE, BUILT = HERE / "results", HERE / "RESULTS.md", HERE.parent / "build" / "benchmarks"
HEAD = """# Results

A table per machine, written by `python benchmarks/results.py` from the JSON under `benchmarks/results/`, which the
scripts of this folder write: `make bench` runs them all. Every script compares side by side in one run, and begins with
a sentence on each of its columns. The cores are shared with other tenants: ratios within a row say more than times.
[Decision 10](../docs/decisions/0010-what-a-recorded-step-costs.md) says where the time goes and what did not help;
figures of earlier versions and of other machines are in the history of this file.
"""


def taken(name: str, built: Path = BUILT) -> Path:
    """Gather the JSON of the benchmarks that ran as one machine's file; return its path.

    Raises:
        SystemExit: if no benchmark has run, or if some ran on another processor.
    """
    parts = {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(built.glob("*.json"))
    }
    if not parts:
        raise SystemExit(f"{built} holds no JSON: run `make bench` first.")
    machines = [part["machine"] for part in parts.values()]
    if len({machine["processor"] for machine in machines}) > 1:
        raise SystemExit(f"{built} holds results of several processors: empty it, and run again.")
    first, last = (choose(machine["date"] for machine in machines) for choose in (min, max))
    dates = first if first == last else f"{first} to {last}"
    benchmarks = {
        name: {"settings": part["settings"], "rows": part["rows"]} for name, part in parts.items()
    }
    threads = max(machine["threads"] for machine in machines)
    content = {
        "machine": {**machines[0], "threads": threads, "date": dates},
        "benchmarks": benchmarks,
    }
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def page(folder: Path = FOLDER) -> str:
    """Return RESULTS.md, the newest machine first."""
    machines = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    machines.sort(key=lambda content: content["machine"]["date"], reverse=True)
    return "\n".join([HEAD, *(line for content in machines for line in section(content))])


def section(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one machine."""
    machine = content["machine"]
    where = (
        f"{machine['gpu']} beside {machine['processor']}"
        if machine["gpu"]
        else machine["processor"]
    )
    yield f"## {where}"
    yield ""
    yield (
        f"{machine['cores']} cores, torch {machine['torch']}, Python {machine['python']}, {machine['date']}."
        f"{' ' + machine['note'] if machine.get('note') else ''}"
    )
    yield ""
    yield "| benchmark | case | measured |"
    yield "| --- | --- | --- |"
    for name, part in content["benchmarks"].items():
        script = f"[{name}]({name.removesuffix('_largest')}.py)"
        for row in part["rows"]:
            case, figures = case_of(row), figures_of(row)
            yield f"| {script} | {case} | {figures} |"
            script = ""
    yield ""


def case_of(row: Mapping[str, Any]) -> str:
    """Return the settings of a row: texts as they are, counts by their column."""
    parts = []
    for column, value in row.items():
        if isinstance(value, str) and value:
            parts.append(value if column in ("case", "command", "what") else f"{column} {value}")
        elif isinstance(value, int) and column != "goal":
            parts.append(f"{column} {value:,}")
    return ", ".join(parts)


def figures_of(row: Mapping[str, Any]) -> str:
    """Return the measured numbers of a row, by their columns, and the goal where it has one."""
    measured = {
        column: value
        for column, value in row.items()
        if isinstance(value, float) or (column == "goal" and value != "")
    }
    return ", ".join(f"{column} {value:.3g}" for column, value in measured.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--take", metavar="NAME", help="of the machine, as in intel-xeon-2-cores")
    asked = parser.parse_args()
    if asked.take:
        print(f"written: {taken(asked.take)}")
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
