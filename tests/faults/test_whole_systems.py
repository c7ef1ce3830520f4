"""Attach, run, resume, list, report and the tab as one user's day, here and on systems that lack what Linux has."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

DAY = """
    import json, shutil, sys, warnings
    from pathlib import Path

    # libraries of others have code of their own for each system
    import torch, numpy, typer, rich.console, tensorboard.backend.http_util, filelock
    import tensorboard.plugins.base_plugin, concurrent.futures.process, werkzeug, matplotlib.figure

    from helpers.other_systems import pretend

    if sys.argv[1] != "this one":
        pretend(sys.argv[1])
    import phasetrack
    from phasetrack.tasks import XOR
    from phasetrack_cli.main import main

    warnings.simplefilter("error", phasetrack.TrackingWarning)  # nothing may be switched off
    out = Path("runs")

    def command(*typed):
        sys.argv = ["phasetrack", *typed]
        try:
            main()
        except SystemExit as end:
            assert not end.code, typed

    task = XOR(d=8)
    net = phasetrack.TwoLayerNet(8, 16)
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=1.6), phasetrack.LogisticLoss()
    options = dict(loss=loss, geometry=task.geometry, logdir=out / "own", snapshots=2)
    with phasetrack.attach(net, optimizer, **options) as tracker:
        for step in range(8):
            x, y = task.sample(32, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    assert tracker.complete and tracker.history.count == 8

    size = ["--d", "8", "--width", "16", "--batch", "32", "--steps", "20", "--threads", "1"]
    command("run", "xor", *size, "--checkpoint-steps", "8", "--snapshots", "2", "--out", "runs", "--name", "whole")
    # killed after its last but one checkpoint
    shutil.copytree(out / "whole", out / "killed")
    (out / "killed/summary.json").unlink()
    (out / "killed/checkpoint.previous.pt").replace(out / "killed/checkpoint.pt")
    command("run", "xor", "--resume", "runs/killed")
    whole, resumed = (out / name / "history.jsonl" for name in ("whole", "killed"))
    assert whole.read_bytes() == resumed.read_bytes() and b"\\r" not in whole.read_bytes()

    command("list", "--out", "runs")
    command("replay", "runs/whole")
    command("plot", "runs/whole", "--file", "run.png")
    command("report", *(f"runs/{name}" for name in ("own", "whole", "killed")), "--file", "report.html")
    assert b"\\r" not in Path("run.png").read_bytes()[8:9] and "whole" in Path("report.html").read_text()

    from phasetrack.display.tensorboard.plugin import PhasesPlugin

    class Context:
        logdir = "runs"

    plugin = PhasesPlugin(Context())
    told = [(run["id"], run["state"], run["problem"]) for run in plugin._runs({})["runs"]]
    for name in ("own", "whole", "killed"):
        assert (name, "finished", "") in told, told
        assert plugin._run({"run": name}).series()["count"] == (8 if name == "own" else 20)
    print("a whole day on", sys.platform)
"""


@pytest.mark.slow
@pytest.mark.parametrize("system", ["this one", "windows", "macos"])
def test_a_whole_day(system, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(DAY), system]
    paths = {"PYTHONPATH": ":".join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=paths
    )
    assert done.returncode == 0, done.stderr
    assert "a whole day on" in done.stdout
