"""Verdicts of findings and claims, and the page and figures that show them."""

import math

import pytest

from phasetrack import ExpectedError
from phasetrack.studies.claims.figures import figure
from phasetrack.studies.claims.findings import (
    ClaimChart,
    ClaimResult,
    ClaimVerdict,
    Finding,
    Series,
)
from phasetrack.studies.claims.html_page import page, write_page
from phasetrack.studies.claims.registry import CLAIMS, Claim, chosen
from phasetrack.studies.confidence import Interval

YES, NO, OPEN = ClaimVerdict.SUPPORTED, ClaimVerdict.CONTRADICTED, ClaimVerdict.UNDECIDED


def finding(start, end, **required):
    return Finding("n", Interval((start + end) / 2, start, end, 5), **required)


@pytest.mark.parametrize(
    "found, verdict",
    [
        (finding(1.0, 2.0), None),
        (finding(1.0, 2.0, low=1.0), YES),
        (finding(1.0, 2.0, low=1.5), OPEN),
        (finding(1.0, 2.0, low=2.5), NO),
        (finding(1.0, 2.0, low=0.0, high=1.5), OPEN),
        (finding(1.0, 2.0, low=0.0, high=0.5), NO),
        (Finding("one seed", Interval(1.0, math.nan, math.nan, 1), low=0.0), OPEN),
    ],
    ids=str,
)
def test_finding_is_decided_by_its_whole_interval(found, verdict):
    assert found.verdict is verdict


@pytest.mark.parametrize(
    "findings, verdict",
    [
        ([finding(1, 2, low=0), finding(5, 6)], YES),
        ([finding(1, 2, low=0), finding(1, 2, low=1.5)], OPEN),
        ([finding(1, 2, low=1.5), finding(1, 2, low=3)], NO),
    ],
    ids=["all", "one open", "one against"],
)
def test_claim_needs_every_finding(findings, verdict):
    assert ClaimResult(findings, [], "").verdict is verdict


def test_every_claim_names_its_source_and_requirements():
    assert [claim.number for claim in CLAIMS] == sorted({claim.number for claim in CLAIMS})
    for claim in CLAIMS:
        text = claim.docstring
        assert "arXiv" in text and text.count("\nStatement") == 1 and "Required" in text
    assert [claim.number for claim in chosen([4, 1])] == [1, 4]
    with pytest.raises(
        ExpectedError, match=r"numbers: 99 is not the number of a claim. Choose from 1 to 21."
    ):
        chosen([99])


CHART = ClaimChart(
    "a <b>", "x", "y", [Series("s", [1, 2], [3, math.nan], [2, 2], [4, 4])], log_x=True
)


def test_page_escapes_names_and_loads_nothing():
    result = ClaimResult([finding(1.0, 2.0, low=0.0)], [CHART], "d < 5 <script>")
    text = page([(Claim(1, "a < b", "claim_01_two_phases"), result)], "<quick>")
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;quick&gt;" in text
    assert "1.5 [1, 2]" in text and text.count("<svg") == 1 and 'class="yes">supported' in text
    assert "http" not in text.replace("http://www.w3.org", "").split("</style>")[1].split("<svg")[0]


def test_figure_draws_every_series():
    (axes,) = figure([CHART]).axes
    assert axes.get_xscale() == "log" and axes.get_title() == "a <b>"
    assert axes.lines[0].get_ydata()[0] == 3 and math.isnan(axes.lines[0].get_ydata()[1])


def test_categories_are_not_joined_and_boundaries_have_the_colour_of_their_curve():
    series = [Series(name, [0, 1], [1, 2]) for name in "abcdefgh"]
    kinds, marked = figure(
        [
            ClaimChart("", "", "", series, kinds=["one", "two"]),
            ClaimChart("", "", "", series, marks=[(0.5, "b")]),
        ]
    ).axes
    assert [tick.get_text() for tick in kinds.get_xticklabels()] == ["one", "two"]
    assert {line.get_linestyle() for line in kinds.lines} == {"None"}
    # eight curves of seven colours: the eighth has another line style
    styles = {(line.get_color(), line.get_linestyle()) for line in marked.lines[:8]}
    assert len(styles) == 8
    boundary = marked.lines[8]
    assert list(boundary.get_xdata()) == [0.5, 0.5]
    assert boundary.get_color() == marked.lines[1].get_color()


@pytest.mark.parametrize("count, shape", [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (4, (2, 2))])
def test_figure_has_two_charts_per_row(count, shape):
    axes = figure([CHART] * count).axes
    assert len(axes) == count
    grid = axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape


def test_more_than_ten_findings_without_a_range_are_folded_up():
    few = ClaimResult([finding(1.0, 2.0, low=0.0), *[finding(3.0, 4.0)] * 10], [CHART], "")
    many = ClaimResult([finding(1.0, 2.0, low=0.0), *[finding(3.0, 4.0)] * 11], [CHART], "")
    claim = Claim(1, "a", "claim_01_two_phases")
    assert "<details>" not in page([(claim, few)], "")
    text = page([(claim, many)], "")
    assert "<summary>11 further numbers</summary>" in text
    assert text.count("3.5 [3, 4]") == 11 and text.index("1.5 [1, 2]") < text.index("<details>")


def test_page_that_cannot_be_written_is_reported(tmp_path):
    with pytest.raises(ExpectedError, match=r"report: '.*none/page.html' cannot be written"):
        write_page([], tmp_path / "none" / "page.html", "")
