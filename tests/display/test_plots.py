"""Figures of runs and of compared runs."""

import math

import numpy as np
import pytest

from phasetrack import ExpectedError, History
from phasetrack.display.panels import SIZES
from phasetrack.display.plots import comparison_figure, run_figure, save_figure
from phasetrack.display.style import PHASE_COLOURS

SUMMARY = {
    "phase": "SIGNAL_HEAVY",
    "boundaries": [{"name": "signal_heavy", "onset": 3.5, "detected": 5}],
    "alerts": [{"name": "LAZY", "step": 7, "evidence": {}}],
    "forecast": {"signal_heavy_onset": {"value": 3.0, "low": 2.0, "high": 4.0}},
    "thresholds": {"zeta_enter": 0.25},
}


def history(steps, zeta=lambda step: 10.0 / (1 + step)):
    return History(
        (
            step,
            {
                "heaviness/zeta_star": zeta(step),
                "forecast/zeta_star": 8.0 / (1 + step),
                "margin/clean/mu1": float(step),
                "margin/clean/odd name $x_{1$": -1.0,
                "phase/id": 1.0 if step < 5 else 2.0,
            },
        )
        for step in steps
    )


def test_curves_have_the_values_of_the_history():
    figure = run_figure(history(range(10)), SUMMARY, title="mine")
    panel = figure.axes[0]
    measured = next(line for line in panel.lines if line.get_label() == "ζ*")
    np.testing.assert_array_equal(measured.get_xdata(), range(10))
    np.testing.assert_allclose(measured.get_ydata(), 10 / np.arange(1, 11))
    levels = {line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == ":"}
    assert levels == {1.0, 0.25}
    assert "mine" in figure.get_suptitle() and "SIGNAL_HEAVY from step" in figure.get_suptitle()


def test_phases_are_shaded_and_boundaries_marked_in_every_panel():
    figure = run_figure(history(range(10)), SUMMARY)
    assert len(figure.axes) == 6
    for panel in figure.axes:
        spans = [(p.get_x(), p.get_x() + p.get_width()) for p in panel.patches]
        assert spans[0] == (0, 5) and spans[1][0] == 5
        uprights = {line.get_xdata()[0] for line in panel.lines if len(set(line.get_xdata())) == 1}
        assert uprights >= {3.5, 7}
        assert [2.0, 4.0] in [list(line.get_xdata()) for line in panel.lines]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["SIGNAL_FINDING", "SIGNAL_HEAVY", "boundary as forecast"]
    assert len(set(PHASE_COLOURS.values())) == 4


@pytest.mark.parametrize(
    "made",
    [
        history([]),
        history([0]),
        history([0, 1000]),
        history(range(5), lambda _: math.nan),
        history(range(5), lambda _: math.inf),
        History([(0, {"x": 1.0})]),
    ],
    ids=["empty", "one step", "two steps", "nan", "infinite", "other metrics"],
)
def test_any_run_can_be_drawn(made, tmp_path):
    figure = run_figure(made, {"phase": "UNDETERMINED"}, title="a_b $c{$")
    for ending in (".png", ".pdf", ".svg"):
        path = tmp_path / f"run{ending}"
        save_figure(figure, path)
        assert path.stat().st_size > 5000


def test_files_that_cannot_be_written_are_explained(tmp_path):
    figure = run_figure(history([0, 1]), {})
    with pytest.raises(
        ExpectedError, match=r"run.gif' has an unknown suffix. Use one of .png, .pdf, .svg"
    ):
        save_figure(figure, tmp_path / "run.gif")
    with pytest.raises(ExpectedError, match=r"^file: '.*run.png' cannot be written \(No such"):
        save_figure(figure, tmp_path / "none" / "run.png")


def test_compared_runs_differ_in_colour_and_align_at_their_onsets():
    early = {"boundaries": [{"name": "signal_heavy", "onset": 3.5, "detected": 5}]}
    late = {"boundaries": [{"name": "signal_heavy", "onset": 6.0, "detected": 7}]}
    runs = {"a": (history(range(10)), early), "b": (history(range(12)), late)}
    for aligned, shifts in ((False, (0, 0)), (True, (3.5, 6.0))):
        panel = comparison_figure(runs, aligned=aligned).axes[0]
        curves = {line.get_label(): line for line in panel.lines if line.get_label() in runs}
        assert curves["a"].get_color() != curves["b"].get_color()
        np.testing.assert_allclose(curves["a"].get_xdata(), np.arange(10) - shifts[0])
        np.testing.assert_allclose(curves["b"].get_xdata(), np.arange(12) - shifts[1])


def test_runs_without_an_onset_cannot_be_aligned():
    runs = {"a": (history(range(3)), {"boundaries": []})}
    with pytest.raises(ExpectedError, match="aligned: None of these runs became signal-heavy"):
        comparison_figure(runs, aligned=True)


def test_boundary_without_an_onset_is_not_drawn(tmp_path):
    unseen = {"boundaries": [{"name": "fitted", "onset": math.nan, "detected": 5}]}
    save_figure(run_figure(history(range(10)), SUMMARY | unseen), tmp_path / "run.svg")


@pytest.mark.parametrize("size", SIZES)
def test_page_has_the_requested_size(size):
    figure = run_figure(history(range(10)), SUMMARY, size=size)
    assert tuple(figure.get_size_inches()) == SIZES[size]
    with pytest.raises(ExpectedError, match="size: 'A0' is not one of screen, paper"):
        run_figure(history(range(10)), SUMMARY, size="A0")
