"""A long history file, read by two processes: Python decodes lines on one core at a time.

The second half goes to a process of its own, which sends its columns back as they are in memory. Whatever is
out of the ordinary, damage above all, is left to whoever reads the file by itself.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO

import numpy as np
from numpy.typing import NDArray

from phasetrack._cores import available_cores
from phasetrack.phases.history import History
from phasetrack.storage.history_reader import LONGEST_LINE, HistoryFile

# Bytes that are worth a second process (chosen here: they take a second or two, its start a quarter of one).
LONG = 2**28


def in_halves(path: Path) -> History | None:
    """A plain file's whole history; None where one process has to read it.

    That is where the file is short, there is one core, or no other process could be had, and where a
    line is damaged, or the halves have other metrics.
    """
    # a program that was frozen into one file would start itself again
    if available_cores() < 2 or not sys.executable or hasattr(sys, "frozen"):
        return None
    try:
        size = path.stat().st_size
        middle = _next_line(path, size // 2) if size >= LONG else None
        if middle is None:
            return None
        other = _start(path, middle, size)
    except OSError:  # of the file too, which one process then says
        return None
    with other:
        try:
            file = HistoryFile(path, end=middle)
            file.refresh()
            assert other.stdout is not None
            joined = not file.damage and _add(file.history, other.stdout)
        finally:
            other.kill()
    return file.history if joined else None


def _next_line(path: Path, place: int) -> int | None:
    """Where the first line begins after some place; None if none does soon."""
    with path.open("rb") as file:
        file.seek(place)
        line = file.readline(LONGEST_LINE)
    return place + len(line) if line.endswith(b"\n") else None


def _start(path: Path, start: int, end: int) -> Popen[bytes]:
    """A process that reads a part, with the packages of this one."""
    # -P: a file of the current directory is no module of ours
    command = [sys.executable, "-P", "-m", __name__, str(path), str(start), str(end)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=environment)


def _add(history: History, stream: IO[bytes]) -> bool:
    """Add what the other process sends; False, and nothing added, where it does not go on from ours."""
    try:
        names, count = json.loads(stream.readline())
        steps = _column(stream, count).view(np.int64)
        columns = {str(name): _column(stream, count) for name in names}
    except (ValueError, TypeError):  # it ended before, or is no process of ours
        return False
    goes_on = count > 0 and columns.keys() == set(history) and steps[0] > history.last_step
    if goes_on:
        history.extend(steps, columns)
    return goes_on


def _column(stream: IO[bytes], count: int) -> NDArray[np.float64]:
    column = np.frombuffer(stream.read(8 * count), np.float64)
    if len(column) < count:
        raise ValueError("cut off")
    return column


def main(path: str, start: str, end: str) -> int:
    """Read a part of a history file, and write its columns to standard output."""
    file = HistoryFile(Path(path), start=int(start), end=int(end))
    file.refresh()
    if file.damage:
        return 1
    history, out = file.history, sys.stdout.buffer
    out.write(json.dumps([list(history), history.count]).encode() + b"\n")
    for column in (history.steps, *history.values()):
        out.write(column.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
