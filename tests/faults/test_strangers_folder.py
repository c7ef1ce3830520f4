"""A folder of somebody else's: links, pipes, markup, odd names, unreadable files; every command looks at it."""

import os
import shutil
import warnings

import pytest

from phasetrack import ExpectedError, RunSettings, read_run, train
from phasetrack.display.html_report import report, write_report
from phasetrack.errors import encodable, printable
from phasetrack.storage.results import find_runs, read_results
from phasetrack.storage.weight_store import read_weights
from phasetrack_cli import main as command

SETTINGS = RunSettings(task="and", d=6, width=6, batch=16, steps=8, snapshots=2)
PRECIOUS = "alias ls=ls # precious\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    train(SETTINGS, out=out, name="run", checkpoint_steps=4)
    return out / "run"


@pytest.fixture
def stranger(made, tmp_path):
    """A run whose every possible output is a link to a file of ours, among further odd ones."""
    (tmp_path / "home").mkdir()
    out = tmp_path / "runs"
    run = out / "run"
    shutil.copytree(made, run)
    (tmp_path / "here").mkdir()  # reports are written where the command is called
    for folder, name in (
        (tmp_path / "here", "report-run.html"),
        (tmp_path / "here", ".report-run.html.new"),
        (run, "run.png"),
        (run, ".run.png.new"),
        (run, ".lock"),
    ):
        precious = tmp_path / "home" / name.removeprefix(".")
        precious.write_text(PRECIOUS)
        (folder / name).symlink_to(precious)
    shutil.copytree(made, out / "e\033]0;owned\007\u202ex[/red]")
    shutil.copytree(made, out / "piped")
    os.mkfifo(tmp_path / "here" / "report-piped.html")
    os.mkfifo(out / "piped" / "run.png")
    (out / "linked").mkdir()
    (out / "linked" / "config.json").symlink_to(tmp_path / "home" / "lock")
    (out / "folder" / "config.json").mkdir(parents=True)
    return tmp_path


def call(line, monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["phasetrack", *line])
    with pytest.raises(SystemExit) as end, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        command.main()
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return end.value.code or 0, out, err


def test_no_command_writes_through_a_link_or_hangs_on_a_pipe(stranger, monkeypatch, capfd):
    out = stranger / "runs"
    monkeypatch.chdir(stranger / "here")
    files = [stranger / "here" / "report-run.html", out / "run" / "run.png"]
    lines = [
        ["list", "--out", str(out)],
        ["show", str(out / "run")],
        ["compare", str(out / "run"), str(out / "piped")],
        ["replay", str(out / "run"), "--json"],
        ["plot", str(out / "run")],
        ["plot", str(out / "piped")],
        ["report", str(out / "run")],
        ["report", str(out / "piped")],
        ["run", "and", "--resume", str(out / "run")],
    ]
    for line in lines:
        _, said, complained = call(line, monkeypatch, capfd)
        assert "\033]0" not in said + complained and "\u202e" not in said + complained
    for file in (stranger / "home").iterdir():
        assert file.read_text() == PRECIOUS, file
    for file in files:
        assert file.is_file() and not file.is_symlink()
    assert (out / "piped" / "run.png").read_bytes().startswith(b"\x89PNG")


def test_reading_commands_write_nothing(made, tmp_path, monkeypatch, capfd):
    run = tmp_path / "runs" / "run"
    shutil.copytree(made, run)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    for line in ("list --out {0.parent}", "show {0}", "compare {0} {0}", "replay {0}"):
        call(line.format(run).split(), monkeypatch, capfd)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def refused(path, monkeypatch):
    """Make the system refuse a file, as it refuses one of another user: tests may run as root."""
    opened, is_file, exists = os.open, type(path).is_file, type(path).exists

    def refuse(name):
        if str(name).startswith(str(path)):
            raise PermissionError(13, "Permission denied", str(name))

    def checked(function):
        def call(self, *rest, **named):
            refuse(self)
            return function(self, *rest, **named)

        return call

    monkeypatch.setattr(type(path), "is_file", checked(is_file))
    monkeypatch.setattr(type(path), "exists", checked(exists))
    return opened


def test_a_directory_that_may_not_be_entered_hides_no_other_run(made, tmp_path, monkeypatch):
    for name in ("a", "b"):
        shutil.copytree(made, tmp_path / name)
    refused(tmp_path / "a", monkeypatch)
    closed, open_one = find_runs(tmp_path)
    assert closed.name == "a"
    for read in (read_run, read_results):
        with pytest.raises(ExpectedError, match="Permission denied"):
            read(closed)
    assert read_results(open_one).finished


def test_a_list_needs_no_history(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    (run / "history.jsonl").write_text("no history")
    assert read_results(run).summary["steps"] == 8


def test_a_damaged_file_of_neurons_or_weights_costs_its_step(made, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    whole = read_weights(run)
    (run / "weights" / "step-000000002.pt").write_bytes(b"cut")
    (run / "neurons" / "step-000000003.npz").write_bytes(b"cut")
    saved = read_weights(run)
    assert list(saved.states) == [step for step in whole.states if step != 2]
    assert len(saved.damaged) == 1 and "step-000000002.pt" in saved.damaged[0]
    (problem,) = write_report([run], tmp_path / "report.html")
    assert "step-000000003.npz" in problem


def test_a_file_larger_than_its_run_can_have_is_not_read(made, tmp_path, monkeypatch, capfd):
    """A sparse file takes no room in an archive, and its size fills any memory."""
    run, size = tmp_path / "run", 7900 * 2**20
    shutil.copytree(made, run)
    large = [run / "weights" / "step-000000002.pt", run / "checkpoint.pt"]
    for file in large:
        os.truncate(file, size)
    (run / "checkpoint.previous.pt").unlink()
    read = type(run).read_bytes
    monkeypatch.setattr(
        type(run), "read_bytes", lambda path: pytest.fail() if path in large else read(path)
    )
    (problem,) = read_weights(run).damaged
    assert "step-000000002.pt" in problem and f"{size} bytes, more than" in problem
    code, _, complained = call(["run", "and", "--resume", str(run)], monkeypatch, capfd)
    assert code == 2 and f"{size} bytes, more than" in complained


def test_a_report_of_a_run_with_a_damaged_summary_says_so(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    (run / "summary.json").write_text("{")
    (problem,) = write_report([run], tmp_path / "report.html")
    assert "summary.json" in problem
    assert '"state": "damaged"' in report([run])


def test_names_do_not_reach_a_terminal_raw():
    assert printable("a\033[2J\u202e\n\x9b") == r"a\x1b[2J\u202e\n\x9b"
    assert printable("ünï-日本-😀") == "ünï-日本-😀"
    assert encodable("a\n\udce9") == "a\n\\udce9"
