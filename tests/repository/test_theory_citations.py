"""Every section of docs/theory.md that the source cites exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CITED = re.compile(r"theory\.md,? (?:section )?(\d+[a-z]?)\b")
FOLDERS = ("phasetrack", "cli", "tests", "benchmarks", "docs")


def sections():
    text = (ROOT / "docs" / "theory.md").read_text()
    return set(re.findall(r"^## (\d+[a-z]?)\. ", text, flags=re.MULTILINE))


def citations():
    """Each cited section with the file that cites it."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for section in CITED.findall(path.read_text()):
                yield section, str(path.relative_to(ROOT))


def unknown(cited, known):
    return sorted(
        {f"{path}: theory.md {section}" for section, path in cited if section not in known}
    )


def test_every_cited_section_exists():
    cited = list(citations())
    assert len(cited) > 50
    assert unknown(cited, sections()) == []


def test_unknown_section_is_found():
    assert unknown([("6c", "a.py"), ("6b", "b.py")], sections()) == ["a.py: theory.md " + "6c"]


@pytest.mark.parametrize("document", ["design.md", "Mechanism 1", "summary of arXiv"])
def test_source_cites_only_documents_of_the_repository(document):
    citing = [
        str(path.relative_to(ROOT))
        for folder in ("phasetrack", "cli")
        for path in (ROOT / folder).rglob("*.py")
        if document in path.read_text()
    ]
    assert citing == []
