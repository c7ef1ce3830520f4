"""Write docs/metrics.md from the reference that stands beside the probes."""

from pathlib import Path

from phasetrack.tracking.probes.reference import METRICS

PAGE = Path(__file__).parent / "metrics.md"
HEAD = """# Metrics

Every metric that a run records, under the same name in `history.jsonl`, `tracker.history` and
TensorBoard. `python docs/metrics.py` writes this page from `phasetrack/tracking/probes/reference.py`.
Sections are those of [the theory](theory.md). Time is the paper's: one step lasts eta.

| Metric | Unit | Section | Meaning |
| --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    rows = (f"| `{m.name}` | {m.unit} | {m.section} | {m.line} |" for m in METRICS)
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
