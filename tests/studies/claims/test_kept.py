"""Results of claims that are kept in a folder."""

import math
from dataclasses import is_dataclass

import numpy as np
import pytest

from phasetrack import ExpectedError
from phasetrack.studies import confidence
from phasetrack.studies.claims import kept
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.kept import KeptResults

CHART = ClaimChart(
    "a",
    "x",
    "y",
    [Series("s", range(2), np.array([3.0, math.nan]), low=[2.0], high=[4.0])],
    marks=[(1.5, "s")],
)
RESULT = ClaimResult(
    [
        Finding("steps", confidence.mean([1.0, 2.0, 4.0]), high=3.0),
        Finding("share", confidence.share(3, 4)),
        Finding("never", confidence.mean([])),
    ],
    [CHART],
    "d = 64",
)


def listed(value):
    """A result as dictionaries, lists and floats, of whatever sequences and numbers it is made."""
    if is_dataclass(value):
        return {name: listed(each) for name, each in vars(value).items()}
    if isinstance(value, list | tuple | range | np.ndarray):
        return list(map(listed, value))
    return float(value) if isinstance(value, float | int) else value


def test_a_result_comes_back_with_its_intervals_ranges_and_charts(tmp_path):
    KeptResults(tmp_path / "new" / "folder", quick=True).keep(8, 10_000, RESULT)
    found = KeptResults(tmp_path / "new" / "folder", quick=True).find(8, 10_000)
    assert repr(listed(found)) == repr(listed(RESULT))  # by repr: NaN is not itself
    assert found.findings[0].estimate.error == RESULT.findings[0].estimate.error


def test_results_of_other_claims_seeds_sizes_and_versions_are_not_taken(tmp_path, monkeypatch):
    KeptResults(tmp_path, quick=True).keep(8, 0, RESULT)
    assert KeptResults(tmp_path, quick=True).find(7, 0) is None
    assert KeptResults(tmp_path, quick=True).find(8, 10_000) is None
    assert KeptResults(tmp_path, quick=False).find(8, 0) is None
    monkeypatch.setattr(kept, "version", lambda _: "0.0")
    assert KeptResults(tmp_path, quick=True).find(8, 0) is None


@pytest.mark.parametrize("content", [b"", b"\x00", b"not a result"])
def test_a_damaged_file_is_made_again(content, tmp_path):
    results = KeptResults(tmp_path, quick=True)
    results.keep(8, 0, RESULT)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert results.find(8, 0) is None


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExpectedError, match=r"keep: '.*file' cannot be written"):
        KeptResults(tmp_path / "file", quick=True)
