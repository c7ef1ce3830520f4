"""docs/vocabularies.md is generated from the vocabularies."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_page_is_the_generated_one():
    spec = importlib.util.spec_from_file_location("vocabularies_page", DOCS / "vocabularies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "vocabularies.md").read_text() == module.page()
