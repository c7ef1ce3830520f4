"""`phasetrack plan` as it is typed."""

import json

import pytest
from helpers.command_line import call, call_here

from phasetrack_cli.planning import amount, duration


@pytest.mark.long
def test_plan_beyond_what_can_be_tried():
    text = call("plan", "--d", 10_000, "--width", 16, "--gpus", 4)
    assert text.returncode == 0 and "4 GPUs" in text.stdout and "too small" not in text.stdout
    done = call("plan", "--d", 10_000, "--width", 16, "--gpu-memory", 0.001, "--json")
    made = json.loads(done.stdout)
    cost, bands = made["cost"], made["forecast"]
    assert bands["signal_heavy_onset"]["low"] <= bands["fitted"]["value"] <= cost["steps"]
    assert cost["samples"] == 40_000 * cost["steps"] and not cost["fits_gpu"]
    assert made["seconds"]["gpus"] < made["seconds"]["gpu"]


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--gpus", "0"], "--gpus: 0 is not an integer >= 1."),
        (["--gpu-share", "2"], "--gpu-share: 2 is not a finite number > 0 and <= 1."),
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments, complaint):
    done = call_here("plan", *arguments)
    assert (done.returncode, done.stderr) == (2, complaint + "\n")


@pytest.mark.parametrize("command", ["plan", "forecast"])
def test_no_forecast_says_why(command):
    done = call_here(command, "xor", "--d", "16", "--eta", "5")
    assert done.returncode == 0 and "eta = 5 is too large a step" in done.stdout


def test_numbers_for_people():
    shown = [duration(s) for s in (0.001, 119, 3 * 3600, 1e7)]
    assert shown == ["0.001 s", "119 s", "3 h", "116 days"]
    assert [amount(v, "B") for v in (0, 999, 16e12)] == ["0 B", "999 B", "16 TB"]
