"""The installed command, called as from a shell."""

import subprocess
import sys
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("phasetrack"))


def call(*arguments, **options):
    command = [COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)
