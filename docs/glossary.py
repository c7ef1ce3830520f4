"""Write docs/glossary.md from the terms and alerts that every display uses."""

from pathlib import Path

from phasetrack.phases.glossary import TERMS
from phasetrack.phases.words import ALERTS

PAGE = Path(__file__).parent / "glossary.md"
HEAD = """# Glossary

`python docs/glossary.py` writes this page from `phasetrack/phases/glossary.py` and `words.py`. Formulas are in
[the theory](theory.md), readings in [metrics](metrics.md).

| Term | Meaning |
| --- | --- |
"""
ALERTS_HEAD = """
## Alerts

| Alert | Meaning | Usual causes | Remedy |
| --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    terms = (
        f"| {term.replace('*', chr(92) + '*')} | {_cell(text)} |" for term, text in TERMS.items()
    )
    alerts = (
        f"| {name} | {words.title} | {words.causes} | {words.remedy} |"
        for name, words in ALERTS.items()
    )
    return HEAD + "\n".join(terms) + "\n" + ALERTS_HEAD + "\n".join(alerts) + "\n"


def _cell(text: str) -> str:
    return text.replace("*", "\\*").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
