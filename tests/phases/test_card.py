"""A run at a glance: text and HTML of the same sentences, with every name as text."""

import numpy as np
import pytest

import phasetrack
from phasetrack.phases.card import as_html, as_text

SUMMARY = {
    "phase": "FITTED",
    "steps": 60,
    "boundaries": [{"name": "fitted", "onset": 40.1, "detected": 41}],
    "alerts": [{"name": "LAZY", "step": 41, "evidence": {"<b>": 1.0}}],
    "timeline": [{"phase": "FITTED", "start": 41, "end": 59}],
    "final": {"loss/train": 0.04},
}


@pytest.fixture
def history():
    return phasetrack.History((step, {"loss/train": 2.0 - step, "a/b": np.nan}) for step in (0, 3))


def test_text_and_html_say_the_same():
    text, page = as_text("run 'x'", SUMMARY), as_html("run 'x'", SUMMARY)
    for said in (
        "FITTED from step 40.1 on, 60 steps",
        "The data were fitted, but not",
        "LAZY at step",
    ):
        assert said in text and said in page


def test_names_are_text():
    page = as_html("<script>", SUMMARY | {"reason": "<i>", "phase": "UNDETERMINED"})
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<i>" not in page and "<b>" not in page.replace("<b>&lt;", "")


def test_history_shows_its_size_and_ends(history):
    assert repr(history) == "<History of 2 recorded steps (steps 0 to 3), 2 metrics>"
    page = history._repr_html_()
    assert "<td>loss/train</td><td>2</td><td>-1</td>" in page and "2 recorded steps" in page
    assert repr(phasetrack.History()) == "<History without a record>"


def test_wrong_metric_is_answered_with_the_close_one(history):
    with pytest.raises(KeyError, match="did you mean 'loss/train'"):
        history["loss"]


def test_arrow_and_parquet(history, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table(history)
    assert table.column_names == ["step", "loss/train", "a/b"]
    assert table["step"].to_pylist() == [0, 3]
    history.to_parquet(str(tmp_path / "h.parquet"))
    read = parquet.read_table(tmp_path / "h.parquet")
    assert str(read) == str(table)  # NaN is not equal to itself
    with pytest.raises(phasetrack.ExpectedError, match=r"path: '.*' cannot be written"):
        history.to_parquet(tmp_path / "no" / "h.parquet")


def test_pandas_frame_or_how_to_get_it(history):
    try:
        import pandas  # noqa: F401
    except ImportError:
        with pytest.raises(phasetrack.ExpectedError, match=r"pandas is not installed\. Install it"):
            history.to_pandas()
        return
    frame = history.to_pandas()
    assert frame.index.tolist() == [0, 3] and frame["loss/train"].tolist() == [2.0, -1.0]


def test_prompt_completes_the_public_names():
    assert set(phasetrack.__all__) == set(dir(phasetrack))
