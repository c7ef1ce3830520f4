"""Colours and number formats."""

import math

import pytest

from phasetrack.display import style
from phasetrack.phases.classifier import Phase


def test_number_has_three_digits_and_nan_is_a_dash():
    values = (math.nan, math.inf, 0.123456, 1234.5)
    assert [style.number(v) for v in values] == ["-", "inf", "0.123", "1.23e+03"]


@pytest.mark.parametrize(
    "table",
    [style.PHASE_COLOURS, style.PHASE_TERMINAL_COLOURS, style.PHASE_STYLES, style.PHASE_MARKS],
)
def test_every_phase_has_a_look_of_its_own(table):
    assert set(table) == set(Phase) and len(set(table.values())) == len(Phase)


def test_curves_and_runs_have_distinct_colours():
    for colours in (style.CURVE_COLOURS, style.RUN_COLOURS, style.CLUSTER_COLOURS):
        assert len(set(colours)) == len(colours)
    assert len(style.MARKERS) == len(style.CURVE_COLOURS)
