"""The lowest versions that are declared are those that `make test-minimum` installs."""

import re
import tomllib
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[2]


def test_minimums_are_those_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = dict(line.split(">=") for line in project["dependencies"])
    pinned = dict(
        re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints-minimum.txt").read_text(), re.M)
    )
    assert pinned.keys() == declared.keys()
    for name in declared.keys() - {"torch"}:  # 2.6 is tried by the workflow
        assert Version(pinned[name]) == Version(declared[name]), name
