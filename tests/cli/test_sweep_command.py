"""`phasetrack sweep` as it is typed: progress, Ctrl-C, and going on."""

import os
import re
import signal
import subprocess
import time

import psutil
import pytest
from helpers.command_line import COMMAND, call, call_here

SWEEP = ["sweep", "xor", "--d", "8", "--width", "8", "--target", "0.6", "--jobs", "1"]


@pytest.mark.long
def test_ctrl_c_and_the_same_command_again(tmp_path):
    typed = [*SWEEP, "--grid", "theta=0.1,0.2,0.3", "--seeds", "1", "--out", tmp_path / "s"]
    with subprocess.Popen(
        [COMMAND, *map(str, typed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("s/*/summary.json")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors == "sweep: interrupted; the same command continues it\n"
    assert output.startswith("3 runs, 0 of them done before")
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*/checkpoint.pt")}
    done = call(*typed, "--plot")
    assert done.returncode == 0, done.stderr
    assert re.match(r"3 runs, [12] of them done before", done.stdout)
    finished = {path for path in first if (path.parent / "summary.json").exists()}
    assert any(path.stat().st_mtime_ns == first[path] for path in finished)
    assert len(list(tmp_path.glob("s/*/summary.json"))) == 3
    assert done.stdout.endswith(f"{tmp_path}/s/curves.png\n") and "1/1" in done.stdout


@pytest.mark.long
def test_killed_and_the_same_command_again(tmp_path):
    """SIGKILL: its processes end with it, what is finished stays, the rest is computed anew."""
    folder = tmp_path / "s"
    typed = [*SWEEP[:-2], "--grid", "theta=0.1,0.2,0.3,0.05", "--jobs", "2", "--out", folder]
    with subprocess.Popen([COMMAND, *map(str, typed)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(folder.glob("*/summary.json")):
            time.sleep(0.02)
        others = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(others, timeout=60)
    assert others and not alive
    finished = [path.parent for path in folder.glob("*/summary.json")]
    first = {path: (path / "checkpoint.pt").stat().st_mtime_ns for path in finished}
    done = call(*typed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"4 runs, {len(first)} of them done before")
    assert first == {path: (path / "checkpoint.pt").stat().st_mtime_ns for path in first}
    assert len(list(folder.glob("*/summary.json"))) == 4


@pytest.mark.parametrize(
    "typed, complaint",
    [
        ([], "--grid: No value is given"),
        (
            ["--grid", "depth=3"],
            "--grid: 'depth=3' is not an axis. Write NAME=VALUE,VALUE,... with one of the names d, width",
        ),
        (["--grid", "d=1"], "--d: 1 is not an integer from 2"),
        (["--grid", "d=8", "--jobs", "0"], "--jobs: 0 is not an integer >= 1."),
        (["--grid", "d=8", "--plot"], "--plot: No --grid has two values to draw against"),
        (
            ["--grid", "d=8", "--ray", "127.0.0.1:1"],
            "--ray: No Ray cluster answers at '127.0.0.1:1'",
        ),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(typed, complaint, tmp_path):
    done = call_here("sweep", "xor", "--steps", "1", *typed, "--out", tmp_path / "s")
    assert done.returncode == 2 and done.stderr.startswith(complaint), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_setting_that_is_fixed_and_varied_is_refused(tmp_path):
    done = call_here(*SWEEP, "--grid", "theta=0.1,0.2", "--grid", "d=8,16", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "--d: 8 is fixed, and --grid d=... varies it. Leave one of the two out.\n"
    assert list(tmp_path.iterdir()) == []
