"""docs/vocabularies.md and docs/vocabularies/ are generated from the vocabularies."""

import importlib.util
from pathlib import Path

from phasetrack.phases.vocabularies import names

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_are_the_generated_ones():
    spec = importlib.util.spec_from_file_location("vocabularies_page", DOCS / "vocabularies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages = module.pages()
    assert len(pages) == 1 + len(names())
    assert {path: path.read_text() for path in pages} == pages
    assert set((DOCS / "vocabularies").iterdir()) < set(pages)
