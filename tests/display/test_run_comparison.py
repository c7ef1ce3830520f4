"""The comparison of runs: settings that differ, results as in their summaries."""

import math

from phasetrack.display.run_comparison import compare

CONFIGS = [{"settings": {"d": 64, "eta": 0.2}}, {"settings": {"d": 128, "eta": 0.2}}, {}]
SUMMARIES = [
    {
        "phase": "FITTED",
        "steps": 128,
        "boundaries": [{"name": "signal_heavy", "onset": 34.9, "detected": 41}],
        "loss_halving_step": 72.6,
        "growth": {"signal_finding": {"measured": 0.37, "predicted": 0.374}},
        "final": {"loss/train": 0.049, "margin/balance": math.nan},
        "alerts": [],
    },
    {
        "phase": "FITTED",
        "steps": 9,
        "boundaries": [],
        "loss_halving_step": math.nan,
        "alerts": [{"name": "LAZY", "step": 3}, {"name": "DIVERGED", "step": 9}],
    },
    {},
]


def test_rows_hold_differing_settings_and_all_results():
    rows = {row.name: row for row in compare(CONFIGS, SUMMARIES)}
    assert rows["d"].values == (64, 128, None) and rows["d"].kind == "setting"
    assert rows["eta"].values == (0.2, 0.2, None) and rows["eta"].differs
    assert rows["onset of signal-heaviness"].values == (34.9, None, None)
    assert rows["loss halved"].values == (72.6, None, None)
    assert rows["growth in signal-finding, measured"].values == (0.37, None, None)
    assert rows["final loss"].values == (0.049, None, None)
    assert rows["alerts"].values == (None, "LAZY, DIVERGED", None)
    # a result that every run lacks has no row
    assert "final balance" not in rows and "loss target met" not in rows


def test_equal_settings_are_left_out():
    rows = compare(CONFIGS[:2], SUMMARIES[:2])
    assert [row.name for row in rows if row.kind == "setting"] == ["d"]
    assert not {row.name: row for row in rows}["phase"].differs
