"""An archive of run directories from a stranger, unpacked, and every command that reads runs called on each."""

import io
import json
import re
import shutil
import signal
import tarfile
import unicodedata
import warnings
from pathlib import Path

import matplotlib.font_manager  # noqa: F401 - finds its cache before HOME is another
import pytest

from phasetrack import RunSettings, train
from phasetrack.display.tensorboard.run_store import RunStore
from phasetrack.errors import printable
from phasetrack_cli import main as command

SETTINGS = RunSettings(task="and", d=6, width=6, batch=16, steps=8, snapshots=2)
PRECIOUS = b"alias ls=ls # precious\n"
HOME_FILES = (".bashrc", ".lock", "config.json", "history.jsonl", "weights.pt", "inner/neurons.npz")
PATIENCE = 60  # seconds after which a command hangs

# A file of the run that is a link into the user's home, or a pipe.
OUTPUTS = ("report.html", ".report.html.new", "run.png", ".run.png.new", "checkpoint.pt")
FILES = ("config.json", "history.jsonl", "summary.json", "clock.jsonl", ".lock", "checkpoint.pt")
BOMBS = {
    "config.json": b'{"settings": ' + b"[" * 200_000,
    "summary.json": b'{"phase": "\\u001b]0;owned\\u0007"}',
    "history.jsonl": b'{"step": 0, "' + b"x" * 17_000_000,
    "checkpoint.pt": b"cbuiltins\nexec\n(S'raise SystemExit(77)'\ntR.",
}
NAMES = ("e\033]0;owned\007x", "x[red]y[bold]", "line\nline", "\u202eexe", "~", "-rf", "%s{0}")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A tar file of runs: sound ones with odd names, and one for each link, pipe, bomb and wrong right."""
    out = tmp_path_factory.mktemp("stranger")
    train(SETTINGS, out=out, name="run", checkpoint_steps=4)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:

        def run(name, *leave_out, mode=None):
            def chosen(member):
                if Path(member.name).name in leave_out:
                    return None
                member.mode = member.mode if mode is None else mode
                return member

            tar.add(out / "run", name, filter=chosen)

        def special(name, kind, target=""):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)

        run("good")
        for name in NAMES:
            run(name)
        run("outputs", *OUTPUTS)
        for name in OUTPUTS:
            special(f"outputs/{name}", tarfile.SYMTYPE, "../../home/.bashrc")
        for name in FILES:
            run(f"link {name}", name)
            home = name if name in HOME_FILES else ".bashrc"
            special(f"link {name}/{name}", tarfile.SYMTYPE, f"../../home/{home}")
            run(f"pipe {name}", name)
            special(f"pipe {name}/{name}", tarfile.FIFOTYPE)
        for name in ("neurons", "weights"):
            run(f"link {name}", name)
            special(f"link {name}/{name}", tarfile.SYMTYPE, "../../home/inner")
        for name, content in BOMBS.items():
            run(f"bomb {name}", name)
            member = tarfile.TarInfo(f"bomb {name}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        run("closed", mode=0)
        special("linked", tarfile.SYMTYPE, "../home")
        special("circle", tarfile.SYMTYPE, ".")
    return packed.getvalue()


@pytest.fixture
def unpacked(archive, tmp_path, monkeypatch):
    """The archive, unpacked beside a home."""
    for name in HOME_FILES:
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(PRECIOUS)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    out = tmp_path / "runs"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(out, filter="fully_trusted")
    yield out
    for folder in out.iterdir():
        if not folder.is_symlink():
            folder.chmod(0o700)
    shutil.rmtree(out)


def as_it_is(folder):
    """Every file with its content, rights and time."""
    files = sorted(folder.rglob("*"))
    seen = [(path, path.lstat().st_mode, path.lstat().st_mtime_ns) for path in files]
    return seen, [path.read_bytes() for path in files if path.is_file()]


def call(line, monkeypatch, capfd):
    """Call a command; nothing hangs, no traceback is printed and nothing raw reaches the terminal."""

    def too_late(*_):
        raise AssertionError(f"{line} hangs")

    monkeypatch.setattr("sys.argv", ["phasetrack", *line])
    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(PATIENCE)
    try:
        with pytest.raises(SystemExit) as end, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            command.main()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    out, err = capfd.readouterr()
    assert "Traceback" not in err, (line, err)
    raw = {c for c in out + err if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\r\t"}
    assert not raw, (line, raw)
    assert (end.value.code or 0) in (0, 2, 3), (line, err)
    return end.value.code or 0, out, err


def _names(path, line):
    return re.search(f"/{re.escape(printable(path.name))}(/|  )", line) is not None


def test_a_list_has_one_line_for_each_run_or_oddity(unpacked, monkeypatch, capfd):
    before = as_it_is(unpacked.parent / "home")
    code, out, err = call(["list", "--out", str(unpacked)], monkeypatch, capfd)
    assert code == 0
    odd = [line for line in err.splitlines() if line]
    assert all(line.startswith("unreadable") for line in odd)
    lines = [line for line in out.splitlines() if line.startswith(str(unpacked))] + odd
    missing = {
        path.name for path in unpacked.iterdir() if sum(_names(path, line) for line in lines) != 1
    }
    assert missing == {"circle"}  # a link to the folder itself
    for name in ("link config.json", "pipe config.json", "link summary.json", "pipe summary.json"):
        assert any(f"{name}/" in line for line in odd), (name, odd)
    assert as_it_is(unpacked.parent / "home") == before


@pytest.mark.long
def test_every_command_leaves_the_home_as_it_is(unpacked, monkeypatch, capfd):
    before = as_it_is(unpacked.parent / "home")
    good = str(unpacked / "good")
    for path in sorted(unpacked.iterdir()):
        run = str(path)
        for line in (
            ["show", run],
            ["compare", good, run],
            ["replay", run, "--json"],
            ["plot", run],
            ["report", run],
            ["run", "and", "--resume", run],
        ):
            code, out, err = call(line, monkeypatch, capfd)
            if code == 2:
                assert len(err.splitlines()) == 1, (line, err)
            elif "--json" in line:
                json.loads(out)
        assert as_it_is(unpacked.parent / "home") == before, run


def test_the_tab_lists_every_run_and_opens_what_it_can(unpacked):
    before = as_it_is(unpacked.parent / "home")
    store = RunStore(unpacked)
    entries = {entry["id"]: entry for entry in store.runs()["runs"]}
    assert not {"linked", "circle"} & entries.keys()
    for name, entry in entries.items():
        opened = store.open(name)
        opened.about(), opened.series(), opened.labels(), list(opened.csv())
        if name.startswith(("link config", "pipe config", "bomb config", "link history")):
            assert entry["state"] == "unreadable" and entry["problem"], name
    assert entries["good"]["state"] == "finished"
    assert as_it_is(unpacked.parent / "home") == before
