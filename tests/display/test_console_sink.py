"""The display of a run in progress: a live panel on a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from phasetrack.display.console_sink import ConsoleSink
from phasetrack.phases.classifier import Boundary, Phase, Transition
from phasetrack.phases.history import History, Record


def record(step, phase=Phase.SIGNAL_FINDING, **others):
    readings = {"heaviness/zeta_star": 12.3456, "loss/train": 1.0, "forecast/loss": 0.9}
    return Record(step, readings, phase, **others)


def show(records, terminal, width=80):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, color_system=None)
    with ConsoleSink(console, title="a run", expected=100.0) as sink:
        for item in records:
            sink.write(item)
        sink.close({}, History())
    return file.getvalue()


NEWS = record(
    1,
    Phase.SIGNAL_HEAVY,
    transition=Transition(1, Phase.SIGNAL_FINDING, Phase.SIGNAL_HEAVY),
    boundaries=(Boundary("signal_heavy", 0.5, 1),),
)


def test_plain_lines_report_news_at_once():
    lines = show([record(0), NEWS, *[record(step) for step in range(2, 50)]], False).splitlines()
    assert lines == [
        "step     0  SIGNAL_FINDING  zeta* 12.3  loss 1",
        "step     1  SIGNAL_HEAVY    zeta* 12.3  loss 1",
        "  step 1: SIGNAL_FINDING to SIGNAL_HEAVY",
        "  step 1: boundary signal_heavy, onset 0.5",
    ]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_live_panel_fits_the_terminal_and_restores_it(width):
    shown = show([record(0), NEWS], True, width)
    assert "\x1b[?25l" in shown and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "SIGNAL_HEAVY" in shown and "zeta*" in shown
    assert max(len(line) for line in shown.split("\n") if "\x1b" not in line) <= width


def test_terminal_is_restored_after_a_failure():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True)
    with pytest.raises(RuntimeError), ConsoleSink(console, title="x", expected=10.0) as sink:
        sink.write(record(0))
        raise RuntimeError
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")
