"""All that needs no torch, on every other Python that is found here: storage, phases, figures, commands, the tab.

    python tests/pythons.py [3.12 3.13 ...]

Where torch has no wheels for a Python yet, runs are still listed, shown, drawn and reported there. Each Python
gets an environment of its own under build/pythons, with the pinned versions of constraints.txt and without
torch; tests that need torch are skipped. A Python that is not found is named and left out.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("storage", "phases", "display", "cli", "studies", "test_errors.py")
EXTRAS = ("test-core", "claims")  # what the tests of these rooms import
BESIDE = "pyarrow"  # of the extra `test`, whose other libraries need torch
MARKS = "not long and not claims and not slow and not browser and not process"


def without_torch() -> list[str]:
    """Return phasetrack's requirements and those of the tests, but for torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    return [
        *(line for line in project["dependencies"] if not line.startswith("torch")),
        *extras,
        BESIDE,
    ]


def interpreter(version: str) -> str | None:
    """Return a Python of a version: among pyenv's, or on the path."""
    homes = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*"))
    return next((f"{home}/bin/python" for home in homes), shutil.which(f"python{version}"))


def environment(python: str, version: str) -> Path:
    """Make an environment with everything but torch; return its Python."""
    folder = ROOT / "build" / "pythons" / version
    own = folder / "bin" / "python"
    if not (folder / ".made").exists():
        install = [own, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([*install, *without_torch()], check=True)
        subprocess.run([*install, "--no-deps", "-e", ROOT], check=True)
        (folder / ".made").touch()
    return own


def tried(version: str) -> bool:
    """Run the tests on a Python; return whether they passed, or it is not here."""
    python = interpreter(version)
    if python is None:
        print(f"Python {version} is not found here: left out")
        return True
    print(f"Python {version}: {python}", flush=True)
    rooms = [f"tests/{room}" for room in ROOMS]
    command = [environment(python, version), "-m", "pytest", "-n", "auto", "-m", MARKS, *rooms]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, env=quiet, check=False).returncode == 0


if __name__ == "__main__":
    results = [tried(version) for version in sys.argv[1:] or ("3.12", "3.13")]
    sys.exit(not all(results))
