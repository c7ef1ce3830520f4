"""Verdicts, and what is shown of them."""

import math

import pytest

from phasetrack import ExpectedError
from phasetrack.experiments.figures import figure
from phasetrack.experiments.page import page
from phasetrack.experiments.registry import CLAIMS, Claim, chosen
from phasetrack.experiments.result import Chart, Finding, Result, Series, Verdict
from phasetrack.intervals import Interval

YES, NO, OPEN = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNDECIDED


def finding(start, end, **asked):
    return Finding("n", Interval((start + end) / 2, start, end, 5), **asked)


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
def test_a_number_decides_by_its_whole_interval(found, verdict):
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
def test_a_statement_stands_on_all_its_numbers(findings, verdict):
    assert Result(findings, [], "").verdict is verdict


def test_every_claim_says_where_it_comes_from_and_what_it_asks():
    assert [claim.number for claim in CLAIMS] == sorted({claim.number for claim in CLAIMS})
    for claim in CLAIMS:
        assert "arXiv" in claim.about and "Statement:" in claim.about and "Asked" in claim.about
    assert [claim.number for claim in chosen([4, 1])] == [1, 4]
    with pytest.raises(ExpectedError, match=r"only: expected numbers of claims, 1, 2, .* got 99"):
        chosen([99])


CHART = Chart("a <b>", "x", "y", [Series("s", [1, 2], [3, math.nan], [2, 2], [4, 4])], log_x=True)


def test_a_page_shows_numbers_and_runs_nothing():
    result = Result([finding(1.0, 2.0, low=0.0)], [CHART], "d < 5 <script>")
    text = page([(Claim(1, "a < b", "two_phases"), result)], "<quick>")
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;quick&gt;" in text
    assert "1.5 [1, 2]" in text and text.count("<svg") == 1 and 'class="yes">supported' in text
    assert "http" not in text.replace("http://www.w3.org", "").split("</style>")[1].split("<svg")[0]


def test_a_figure_draws_every_series():
    (axes,) = figure([CHART]).axes
    assert axes.get_xscale() == "log" and axes.get_title() == "a <b>"
    assert axes.lines[0].get_ydata()[0] == 3 and math.isnan(axes.lines[0].get_ydata()[1])
