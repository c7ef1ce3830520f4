"""Write docs/compatibility.md from the trainings in tests/gallery."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from gallery.protocol import READINGS, added_lines, loaded, paths, refusal  # noqa: E402

PAGE = Path(__file__).parent / "compatibility.md"
COLUMNS = ("Loss", "Error", "Clean margins", "Empirical margins", "First-order errors")
HEAD = """# Compatibility

Trainings as their communities write them, and the readings that phasetrack takes of each. Every row is a
file under [tests/gallery/loops](../tests/gallery/loops): tests train it with and without the lines that
a user adds, and want the same bits (weights, buffers, optimizer states, random numbers). They compare
every reading with a naive one, in float64, of the tensors that the loop itself used.
`python docs/compatibility.py` writes this page.

- **Loss**: the loop's own value, of the weights before each optimizer step.
- **Error**: the share of the step's samples on the wrong side.
- **Clean margins**: at the clusters' centres. **Empirical margins**: of the step's samples in each cluster.
- **First-order errors**: of the loss at output 0 ([theory](theory.md), section 5).

A number stands where readings are absent, and leads to the reason below the table. Readings of the
weights alone (signal share, zeta*, growth) need none of this.

"""


def title(path):
    """The docstring of a loop file, without its full stop."""
    return path.read_text(encoding="utf-8").split('"""')[1].strip().rstrip(".")


def missing(path):
    """Reading to the reason why it is absent, or not right yet."""
    if part := refusal(path):
        return dict.fromkeys(READINGS, f"`attach` refuses the model: the {part}")
    module = loaded(path, tracked=False)
    wrong = {
        reading: f"not right yet: {fault}"
        for reading, fault in getattr(module, "WRONG", {}).items()
    }
    return {**getattr(module, "ABSENT", {}), **wrong}


def table(found, numbers):
    """The table, a row per training."""
    yield f"| Training | Lines | {' | '.join(COLUMNS)} |"
    yield "| --- " * (len(COLUMNS) + 2) + "|"
    for path, reasons in found.items():
        cells = [str(numbers[reasons[r]]) if r in reasons else "yes" for r in READINGS]
        count = sum(map(bool, added_lines(path)))
        link = f"[{title(path)}](../tests/gallery/loops/{path.name})"
        yield f"| {link} | {count} | {' | '.join(cells)} |"


def details(path):
    """The lines that a user adds, folded."""
    lines = [
        f"<details><summary>{title(path)}</summary>",
        "",
        "```py",
        *added_lines(path),
        "```",
        "",
        "</details>",
    ]
    return "\n".join(lines)


def page():
    """Return the page."""
    found = {path: missing(path) for path in paths()}
    reasons = dict.fromkeys(reason for each in found.values() for reason in each.values())
    numbers = {reason: place for place, reason in enumerate(reasons, start=1)}
    listed = [f"{number}. {reason}" for reason, number in numbers.items()]
    lines = ["", "## The lines to add", "", *map(details, found)]
    return HEAD + "\n".join([*table(found, numbers), "", *listed, *lines]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
