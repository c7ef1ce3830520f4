"""docs/glossary.md is the page that docs/glossary.py writes."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_glossary_page_is_current():
    spec = importlib.util.spec_from_file_location("glossary_page", DOCS / "glossary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "glossary.md").read_text(encoding="utf-8") == module.page()
