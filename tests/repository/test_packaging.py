"""What is installed: every module and data file, under two top-level names and no third."""

import itertools
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import phasetrack

ROOT = Path(__file__).parents[2]
HOMES = {"phasetrack": "phasetrack", "cli": "phasetrack_cli"}
CONSTRAINTS = {
    "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
    "PIP_BUILD_CONSTRAINT": str(ROOT / "constraints.txt"),
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def source_files():
    """Every file of the two packages, as it is called once installed."""
    for folder, package in HOMES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{package}/{path.relative_to(ROOT / folder).as_posix()}"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    # from a copy: a build leaves files behind, and old ones would get into the wheel
    copy = tmp_path_factory.mktemp("source") / "phasetrack"
    names = ["pyproject.toml", "README.md", "LICENSE", *HOMES]
    copy.mkdir()
    subprocess.run(["cp", "-r", *[ROOT / name for name in names], copy], check=True)
    subprocess.run([*command, "-w", out, copy], check=True, env=os.environ | CONSTRAINTS)
    (made,) = out.iterdir()
    return made


def test_every_file_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    installed = {n for n in names if ".dist-info/" not in n}
    assert installed == {n for n in source_files() if not n.endswith(".pyc")}
    assert {"phasetrack/py.typed", "phasetrack_cli/py.typed"} <= installed


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {n.split("/")[0] for n in archive.namelist() if ".dist-info/" in n}
        read = {
            n: archive.read(f"{folder}/{n}").decode()
            for n in ("top_level.txt", "METADATA", "entry_points.txt")
        }
    assert read["top_level.txt"].split() == ["phasetrack", "phasetrack_cli"]
    assert "phasetrack = phasetrack_cli.main:main" in read["entry_points.txt"]
    for line in ("License-Expression: MIT", "Requires-Python: >=3.11", "Requires-Dist: torch"):
        assert line in read["METADATA"]


def test_everything_is_pinned():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            pins[name.lower().replace("_", "-")] = version
    assert all(pins.values()) and pins["torch"] == "2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain(*project["optional-dependencies"].values())
    names = {wanted.split(">=")[0] for wanted in (*project["dependencies"], *extras)}
    assert {name for name in names if not name.startswith("phasetrack[")} <= set(pins)


@pytest.mark.long
def test_a_wheel_works_in_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    environment = os.environ | CONSTRAINTS
    subprocess.run([binaries / "pip", "install", "-q", wheel], check=True, env=environment)
    command = binaries / "phasetrack"
    subprocess.run([command, "--help"], check=True, cwd=tmp_path)
    subprocess.run([command, "forecast", "xor", "--d", "16", "--json"], check=True, cwd=tmp_path)
    run = [command, "run", "xor", "--d", "16", "--width", "32", "--name", "mine"]
    subprocess.run(run, check=True, cwd=tmp_path)
    subprocess.run([command, "plot", "runs/mine"], check=True, cwd=tmp_path)
    assert (tmp_path / "runs" / "mine" / "run.png").stat().st_size > 10_000
    code = "import phasetrack, sys; print(phasetrack.__file__)"
    done = subprocess.run(
        [binaries / "python", "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(tmp_path))


OPTIONAL = ["lightning", "transformers", "sklearn", "IPython"]


def imported_by(code):
    code += f"\nimport sys; print([name for name in {OPTIONAL!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_the_core_imports_no_optional_package():
    core = "import phasetrack\nfor name in phasetrack.__all__: getattr(phasetrack, name)\n"
    assert imported_by(core + "import phasetrack_cli.main") == "[]"
    # and the check can fail
    assert imported_by("import phasetrack.integrations.transformers") != "[]"


def test_no_public_name_is_also_a_module():
    """Importing the module would replace the name by it."""
    modules = {path.stem for path in (ROOT / "phasetrack").iterdir()}
    assert not (set(phasetrack.__all__) & modules) - {"measures", "probes", "tasks"}
