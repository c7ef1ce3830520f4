"""Figures of runs and of compared runs."""

import math

import numpy as np
import pytest

from phasetrack import ExpectedError, History
from phasetrack.display.page import WIDTHS
from phasetrack.display.plots import comparison_figure, run_figure, save_figure
from phasetrack.display.strip import Mark, stacked
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
    measured = next(line for line in panel.lines if line.get_label() == r"$\zeta^*$")
    np.testing.assert_array_equal(measured.get_xdata(), range(10))
    np.testing.assert_allclose(measured.get_ydata(), 10 / np.arange(1, 11))
    levels = {
        line.get_label(): line.get_ydata()[0] for line in panel.lines if line.get_gid() == "level"
    }
    assert levels == {
        r"onset level of $\zeta^*$: 1": 1.0,
        r"detection level of $\zeta^*$: 0.25": 0.25,
    }
    assert "mine" in figure.get_suptitle() and "SIGNAL_HEAVY from step" in figure.get_suptitle()


def test_target_is_drawn_in_the_units_of_the_loops_loss():
    rows = [(step, {"loss/train": 0.7, "loss/constant": math.log(2)}) for step in range(5)]
    figure = run_figure(History(rows), {"phase": "UNDETERMINED"}, panels=["loss"])
    (level,) = (line for line in figure.axes[0].lines if line.get_gid() == "level")
    assert level.get_ydata()[0] == pytest.approx(0.025) and level.get_label().endswith("0.025")


def test_phases_are_shaded_and_boundaries_marked_in_every_panel():
    figure = run_figure(history(range(10)), SUMMARY)
    *panels, strip = figure.axes
    assert len(panels) == 2  # of zeta* and margins: the others have nothing to show
    assert len(run_figure(History([(0, {"x": 1.0})]), {}).axes) == 7
    for panel in panels:
        spans = [(p.get_x(), p.get_x() + p.get_width()) for p in panel.patches]
        assert spans[0] == (0, 5) and spans[1][0] == 5
        uprights = {line.get_xdata()[0] for line in panel.lines if len(set(line.get_xdata())) == 1}
        assert uprights >= {3.5, 5, 7}  # onset, detection, alert
        assert panel.get_ylabel()
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [
        *("signal-finding", "signal-heavy", "onset of a boundary", "its detection", "alert"),
        "forecast of a boundary",
    ]
    assert {"signal-heavy 3.5", "▲ LAZY 7"} <= {text.get_text() for text in strip.texts}
    assert [tick.get_text() for tick in strip.get_yticklabels()] == ["finds-then-tunes", "forecast"]
    assert len(set(PHASE_COLOURS.values())) == 4


def test_each_vocabulary_has_a_lane():
    further = {
        "applies": True,
        "timeline": [
            {"phase": "LAZY", "start": 0, "end": 6},
            {"phase": "RICH", "start": 7, "end": 9},
        ],
    }
    summary = {
        "timeline": [{"phase": "SIGNAL_FINDING", "start": 0, "end": 9}],
        "vocabularies": {"lazy-rich": further, "grokking": {"applies": False}},
    }
    strip = run_figure(history(range(10)), summary).axes[-1]
    assert [tick.get_text() for tick in strip.get_yticklabels()] == [
        "finds-then-tunes",
        "lazy-rich",
    ]
    bars = [path.get_extents() for bar in strip.collections for path in bar.get_paths()]
    assert [(bar.x0, bar.x1) for bar in bars[1:]] == [(0, 7), (7, 9.5)]


def test_panels_are_chosen_lettered_and_without_forecast_if_asked():
    figure = run_figure(
        history(range(10)),
        SUMMARY,
        panels=["margins", "zeta"],
        width=3.25,
        forecast=False,
        serif=True,
    )
    first, second, strip = figure.axes
    titles = [panel.get_title(loc="left") for panel in (first, second)]
    assert titles == ["(a) Clean margins", "(b) Signal-heaviness"]
    assert figure.get_figwidth() == 3.25
    assert not any("forecast" in line.get_label() for line in second.lines)
    assert [tick.get_text() for tick in strip.get_yticklabels()] == ["finds-then-tunes"]
    assert first.title.get_fontfamily()[0] == "STIXGeneral"
    (alone, _) = run_figure(history(range(10)), SUMMARY, panels=["zeta"]).axes
    assert alone.get_title(loc="left") == "Signal-heaviness"
    with pytest.raises(ExpectedError, match=r"panels: 'zetas' is not one of zeta, shares, margins"):
        run_figure(history(range(10)), SUMMARY, panels=["zetas"])
    with pytest.raises(ExpectedError, match=r"^panels: No panel is named\."):
        run_figure(history(range(10)), SUMMARY, panels=[])
    with pytest.raises(ExpectedError, match="width"):
        run_figure(history(range(10)), SUMMARY, width=1)


def test_zero_on_a_logarithmic_axis_is_drawn_at_its_foot():
    falling = History(
        (step, {"loss/train": 1.0 / (1 + step), "error/train": max(0.5 - 0.1 * step, 0.0)})
        for step in range(10)
    )
    panel = run_figure(falling, {}, panels=["loss"]).axes[0]
    (error,) = (line for line in panel.lines if line.get_label() == "error (0: at the foot)")
    drawn, foot = error.get_ydata(), panel.get_ylim()[0]
    np.testing.assert_allclose(drawn[5:], foot)
    assert 0 < foot < drawn[4]
    assert any(line.get_label() == "loss" for line in panel.lines)  # no zero, and no note


def test_names_above_the_strip_do_not_overlap():
    steps = [10, 11, 12, 50, 95]
    marks = [Mark(float(step), f"boundary {step}.0", "#000000") for step in steps]
    inches, points = 5.0, 7.0
    placed = stacked(marks, (0.0, 100.0), inches, points)
    assert len(placed) == len(marks)
    per_step = 72 * inches / 100
    for row, mark in placed:
        for other_row, other in placed:
            if other.step > mark.step:
                end = mark.step * per_step + len(mark.name) * points * 0.55
                # neither a name nor the line of a name above
                assert end < other.step * per_step or row > other_row


@pytest.mark.slow
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
    save_figure(figure, tmp_path / "run.svg")
    assert (tmp_path / "run.svg").stat().st_size > 5000


def test_suffix_decides_the_format(tmp_path):
    figure = run_figure(history([0, 1]), {}, panels=["zeta"])
    for suffix, begin in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        save_figure(figure, tmp_path / f"run{suffix}")
        assert (tmp_path / f"run{suffix}").read_bytes().startswith(begin)


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
        curves = {line.get_label(): line for line in panel.lines if line.get_gid() == "curve"}
        assert curves["a"].get_color() != curves["b"].get_color()
        np.testing.assert_allclose(curves["a"].get_xdata(), np.arange(10) - shifts[0])
        np.testing.assert_allclose(curves["b"].get_xdata(), np.arange(12) - shifts[1])


def test_diverged_run_does_not_set_the_axes_of_the_others():
    steady = History(
        (step, {"loss/train": 2.0 - 0.1 * step, "margin/min": 0.1 * step}) for step in range(10)
    )
    burst = History(
        (step, {"loss/train": 10.0**step, "margin/min": -(9.0**step)}) for step in range(10)
    )
    diverged = {"alerts": [{"name": "DIVERGED", "step": 3, "evidence": {}}]}
    runs = {"runs/steady": (steady, {}), "runs/burst": (burst, diverged)}
    figure = comparison_figure(runs, panels=["loss", "margins"])
    loss, margins, strip = figure.axes
    assert loss.get_ylim()[1] < 3 and margins.get_ylim()[0] > -1
    marks = {
        line.get_marker(): line
        for axes in (loss, margins)
        for line in axes.lines
        if line.get_gid() is None
    }
    assert set(marks) == {"^", "v"}
    assert marks["^"].get_xdata()[0] == 1  # the first step above 2
    assert [tick.get_text() for tick in strip.get_yticklabels()] == ["steady", "burst"]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "leaves the range of the runs that did not diverge" in shown
    alone = comparison_figure({"burst": runs["runs/burst"]}, panels=["loss"]).axes[0]
    assert alone.get_ylim()[1] > 1e8


def test_runs_without_an_onset_cannot_be_aligned():
    runs = {"a": (history(range(3)), {"boundaries": []})}
    with pytest.raises(ExpectedError, match="aligned: None of these runs became signal-heavy"):
        comparison_figure(runs, aligned=True)


def test_boundary_without_an_onset_is_not_drawn(tmp_path):
    unseen = {"boundaries": [{"name": "fitted", "onset": math.nan, "detected": 5}]}
    save_figure(run_figure(history(range(10)), SUMMARY | unseen), tmp_path / "run.svg")


@pytest.mark.parametrize("size", WIDTHS)
def test_page_has_the_requested_width(size):
    figure = run_figure(history(range(10)), SUMMARY, size=size)
    assert figure.get_figwidth() == WIDTHS[size]
    with pytest.raises(ExpectedError, match="size: 'A0' is not one of screen, paper"):
        run_figure(history(range(10)), SUMMARY, size="A0")
