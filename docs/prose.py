"""Report phrases that readers stumble over: the worst tokens of the prose rules in CONTRIBUTING."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOKENS = re.compile(
    r"(?<!there )(?<!There )\b(?:is|are) no (?!more\b|longer\b|less\b)|\bis said\b|\b(?:gone|goes) on with\b|\bmend\b|chosen here"
)
PLACES = ("phasetrack/**/*.py", "cli/*.py", "docs/*.md", "docs/decisions/*.md", "*.md")


def offenders(text: str) -> list[tuple[int, str]]:
    """Return each line with such a phrase, and its number."""
    lines = enumerate(text.splitlines(), start=1)
    return [(number, line.strip()) for number, line in lines if TOKENS.search(line)]


def main() -> int:
    """Print every offender; 1 if there are some."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for pattern in PLACES
        for path in sorted(ROOT.glob(pattern))
        for number, line in offenders(path.read_text(encoding="utf-8"))
    ]
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
