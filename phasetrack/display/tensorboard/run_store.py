"""Find, list and open the runs under a log directory.

A log directory may hold anybody's data: a run's name is only compared with the names that were found,
links are not followed, and a run that cannot be read is listed with the reason.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phasetrack.display.style import RUN_COLOURS
from phasetrack.display.tensorboard.open_run import (
    OpenRun,
    blank_entry,
    describe_run,
    started,
    state_of,
)
from phasetrack.display.tensorboard.safe_folder import RunFolder
from phasetrack.errors import ExpectedError, encodable, printable
from phasetrack.storage.file_names import CONFIG, HISTORY
from phasetrack.storage.neuron_sink import FOLDER as NEURONS

WEIGHTS = "weights"  # saved weights of a run, whose writer needs torch
MOST_RUNS = 2000  # listed
DEEPEST = 8  # levels of directories that are searched
# Readings (8 bytes each) that stay in memory when further runs are opened.
MOST_READINGS = 200_000_000

log = logging.getLogger(__name__)


class RunStore:
    """The runs under one log directory.

    Args:
        root: the directory: a run itself, or with runs in it down to `DEEPEST` levels.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenRun] = OrderedDict()
        self._entries: dict[str, tuple[RunFolder, tuple[object, ...], dict[str, Any]]] = {}

    def any(self) -> bool:
        """Whether the directory has a run."""
        return next(self._walk(), None) is not None

    def runs(self) -> dict[str, Any]:
        """Return an entry for each of the newest runs, their colours, and a problem of the whole list.

        An entry has id, state, problem, phase, steps, started and revision. The state is
        ``finished``, ``running``, ``stopped`` (its process ended without a summary), ``empty``, ``damaged`` (the history can be read up to some line)
        or ``unreadable``.
        """
        found = self._find()
        with self._lock:
            for name in self._open.keys() - found.keys():
                del self._open[name]
            for name in self._entries.keys() - found.keys():
                del self._entries[name]
        newest = sorted(found.items(), key=lambda pair: started(pair[1]), reverse=True)
        problem, left_out = "", len(found) - MOST_RUNS
        if left_out > 0:
            problem = (
                f"Only the {MOST_RUNS} newest runs are listed, {left_out} older ones are left out; "
                "start TensorBoard with --logdir on a smaller directory to see them"
            )
        entries = [self._entry(name, folder) for name, folder in newest[:MOST_RUNS]]
        return {
            "runs": sorted(entries, key=lambda entry: (-entry["started"], entry["id"])),
            "problem": problem,
            "colours": RUN_COLOURS,
        }

    def open(self, name: str) -> OpenRun:
        """Open a run by its id.

        Raises:
            ExpectedError: if no run under the log directory has this id.
        """
        with self._lock:
            if name in self._open and not self._open[name].folder.there():
                del self._open[name]
            if name in self._open:
                self._open.move_to_end(name)
                return self._open[name]
            folder = self._find().get(name)
            try:
                if folder is None:
                    raise FileNotFoundError
                run = OpenRun(name, Path(folder))
            except OSError:
                problem = f"{printable(repr(name)[:200])} is not a run under the log directory."
                raise ExpectedError("run", problem) from None
            self._open[name] = run
            self._close_oldest()
            return run

    def _close_oldest(self) -> None:
        while len(self._open) > 1 and sum(r.readings for r in self._open.values()) > MOST_READINGS:
            self._open.popitem(last=False)

    def _find(self) -> dict[str, str]:
        """Return the directory of each run by a unique id."""
        found: dict[str, str] = {}
        for plain, folder in self._walk():
            name = plain
            while name in found:  # the log directory's own name, or names that are not UTF-8
                name = f"./{name}"
            found[name] = folder
        return found

    def _walk(self) -> Iterator[tuple[str, str]]:
        """Yield name and directory of each run, without following links."""
        root = self._root.resolve()
        for below in _run_folders(str(root)):
            yield encodable(below or root.name), f"{root}/{below}" if below else str(root)

    def _entry(self, name: str, path: str) -> dict[str, Any]:
        try:
            folder, seen, entry = self._entries.get(name, (None, None, {}))
            if folder is None or not folder.there():
                folder, seen = RunFolder(Path(path)), None
            stamps = folder.stamps()
            if seen != stamps:
                entry = describe_run(name, folder)
                self._entries[name] = folder, stamps, entry
            opened = self._open.get(name)
            if entry["state"] in ("running", "stopped"):  # a process that ends changes no file
                entry = entry | {"state": state_of(folder)}
            return entry if opened is None else opened.corrected(entry)
        except Exception as error:  # one broken directory must not hide the other runs
            log.exception("phases: %s cannot be described", name)
            problem = f"{type(error).__name__}: {error}"
            return blank_entry(name, started(path)) | {
                "state": "unreadable",
                "problem": problem[:300],
            }


def _run_folders(root: str, below: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the path of each run below a directory, relative to it and "" for itself.

    A poll looks at every directory again, and `os.walk` with a `Path` each takes twice the time.
    """
    try:
        with os.scandir(f"{root}/{below}") as found:
            folders, files = list[str](), list[str]()
            for entry in found:
                inner = entry.is_dir(follow_symlinks=False)
                (folders if inner else files).append(entry.name)
    except OSError:  # a directory of another user, or one that was deleted meanwhile
        return
    if HISTORY in files or CONFIG in files:
        yield below
        folders = [name for name in folders if name not in (NEURONS, WEIGHTS)]
    for name in sorted(folders) if depth < DEEPEST else ():
        yield from _run_folders(root, f"{below}/{name}" if below else name, depth + 1)
