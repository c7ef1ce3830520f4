"""After `import phasetrack`, every name that the documentation spells by attribute is there."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import phasetrack

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "phasetrack"
TEXTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
# also as the documentation of earlier versions spelled them
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in PACKAGE.glob("tracking/probes/[!_]*.py")
}
EXTRAS = {
    "integrations.lightning": "lightning",
    "integrations.transformers": "transformers",
    "sweeps.ray_backend": "ray",
}
# each name in a child of its own, so that no name finds what an earlier one imported
RESOLVE = """
import contextlib, importlib, json, os, sys
import matplotlib.figure, numpy, rich.console, torch
for library in ("lightning.pytorch", "transformers"):  # seconds each, and no names of ours
    with contextlib.suppress(ImportError):
        importlib.import_module(library)
failures = {}
for name in json.load(sys.stdin):
    reads, writes = os.pipe()
    if os.fork() == 0:
        try:
            import phasetrack
            eval(name)
        except BaseException as error:
            os.write(writes, repr(error).encode()[:1000])
        os._exit(0)
    os.close(writes)
    said = os.fdopen(reads).read()
    os.wait()
    if said:
        failures[name] = said
print(json.dumps(failures))
"""


def installed(name):
    return all(
        importlib.util.find_spec(needed)
        for part, needed in EXTRAS.items()
        if name.startswith("phasetrack") and part in name
    )


def documented():
    found = set()
    for path in TEXTS:
        found |= set(re.findall(r"\bphasetrack(?:\.[A-Za-z]\w*)+", path.read_text()))
    return found


@pytest.mark.slow
def test_every_documented_name_is_there_after_the_import():
    names = documented()
    assert len(names) > 20
    names = sorted(filter(installed, names | MODULES))
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {}


@pytest.mark.parametrize(
    "module", [phasetrack, phasetrack.tracking, phasetrack.tasks, phasetrack.measures]
)
@pytest.mark.parametrize("name", ["nothing", "_private", "__wrapped__", "_cores.x"])
def test_a_name_that_is_none_is_an_attribute_error(module, name):
    assert not hasattr(module, name)
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute"):
        getattr(module, name)


def test_the_import_waits_for_no_torch():
    script = "import sys, phasetrack, phasetrack.tracking; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
