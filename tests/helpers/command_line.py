"""The installed command, called as from a shell; or within the tests' own process, where that is enough."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

COMMAND = str(Path(sys.executable).with_name("phasetrack"))


def call(*arguments, **options):
    command = [COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def call_here(*arguments, cwd="."):
    """The same in a fraction of the time: for all but signals, streams and the start of the process."""
    from phasetrack_cli.main import main

    typed = ["phasetrack", *map(str, arguments)]
    out, err, before = io.StringIO(), io.StringIO(), set(sys.modules)
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.multiple(sys, argv=typed, path=[*sys.path]),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == Path(cwd).resolve():
            del sys.modules[name]  # what the command has imported from there
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
