"""docs/compatibility.md is made of the gallery."""

import importlib.util
from pathlib import Path

from gallery.protocol import paths

ROOT = Path(__file__).parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("page", ROOT / "docs" / "compatibility.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_the_generated_one():
    assert (ROOT / "docs" / "compatibility.md").read_text() == generator().page()


def test_every_file_is_in_the_page():
    text = (ROOT / "docs" / "compatibility.md").read_text()
    assert all(f"loops/{path.name})" in text for path in paths())
