"""The runs under a log directory: found, listed, and read no further than they must be.

Everything in a log directory is data from somebody: a name is only ever compared with those that were
found, files that lead elsewhere are refused, and what cannot be read is listed with its reason.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasetrack.display.charts import describe
from phasetrack.display.downsample import min_max
from phasetrack.display.tensorboard.incremental_labels import (
    Labels,
    bounded,
    recorded_labels,
    without_infinity,
)
from phasetrack.display.tensorboard.safe_folder import RunFolder
from phasetrack.errors import ExpectedError, check_float, expected_error, printable
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import ROWS_AT_ONCE, History
from phasetrack.storage.clock_sink import CLOCK, read_clock
from phasetrack.storage.directory import CONFIG, SUMMARY
from phasetrack.storage.history_reader import EXACT_STEPS, HistoryFile
from phasetrack.storage.history_sink import HISTORY
from phasetrack.storage.neuron_sink import read_neurons, saved_neurons

# Chosen here: how many runs are listed, how deep they are looked for, and how many readings of
# histories (8 bytes each) stay in memory when others are opened.
MOST_RUNS = 2000
DEEPEST = 8
MOST_READINGS = 200_000_000
# Label sets of other thresholds that a run keeps, so that a slider moves back at once.
LABELS_KEPT = 8
MOST_COLUMNS = 4000
# Records that stay for their boundaries and changes of label however few columns there are.
EXACT_MARKS = 100

Changes = Mapping[str, float]
log = logging.getLogger(__name__)


class RunStore:
    """Runs under one log directory.

    Args:
        root: the directory; runs may lie in it at any depth down to `DEEPEST`, or be it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenRun] = OrderedDict()
        self._entries: dict[str, tuple[tuple[object, ...], dict[str, Any]]] = {}

    def any(self) -> bool:
        """Whether there is a run at all."""
        return next(self._walk(), None) is not None

    def runs(self) -> dict[str, Any]:
        """The newest runs, an entry each, and what is wrong with the list as a whole.

        An entry has id, state, problem, phase, steps, started and revision. The state is
        ``finished``, ``running``, ``empty``, ``damaged`` (the history can be read up to some line)
        or ``unreadable``.
        """
        found = self._find()
        with self._lock:
            for name in self._open.keys() - found.keys():
                del self._open[name]
            for name in self._entries.keys() - found.keys():
                del self._entries[name]
        newest = sorted(found.items(), key=lambda pair: _started(pair[1]), reverse=True)
        problem, left_out = "", len(found) - MOST_RUNS
        if left_out > 0:
            problem = (
                f"{left_out} older runs are left out, {MOST_RUNS} are listed; "
                "start TensorBoard with --logdir on a folder of fewer"
            )
        entries = [self._entry(name, folder) for name, folder in newest[:MOST_RUNS]]
        return {
            "runs": sorted(entries, key=lambda entry: (-entry["started"], entry["id"])),
            "problem": problem,
        }

    def open(self, name: str) -> OpenRun:
        """A run by its id.

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
                run = OpenRun(name, folder)
            except OSError:
                allowed = "a run under the log directory"
                raise expected_error("run", allowed, printable(repr(name)[:200])) from None
            self._open[name] = run
            self._forget_oldest()
            return run

    def _forget_oldest(self) -> None:
        while len(self._open) > 1 and sum(r.readings for r in self._open.values()) > MOST_READINGS:
            self._open.popitem(last=False)

    def _find(self) -> dict[str, Path]:
        """Directory of each run by its id, no two the same."""
        found: dict[str, Path] = {}
        for plain, folder in self._walk():
            name = plain
            while name in found:  # the log directory's own name, or bytes that are no UTF-8
                name = f"./{name}"
            found[name] = folder
        return found

    def _walk(self) -> Iterator[tuple[str, Path]]:
        """Name and directory of each run; links to other places are not followed."""
        root = self._root.resolve()
        for where, folders, files in os.walk(root, followlinks=False):
            folder = Path(where)
            below = folder.relative_to(root)
            folders[:] = sorted(folders) if len(below.parts) < DEEPEST else []
            if HISTORY in files or CONFIG in files:
                yield printable(below.as_posix() if below.parts else root.name), folder

    def _entry(self, name: str, path: Path) -> dict[str, Any]:
        try:
            folder = RunFolder(path)
            stamps = folder.stamps()
            known = self._entries.get(name)
            if known is None or known[0] != stamps:
                known = self._entries[name] = (stamps, describe_run(name, folder))
            opened = self._open.get(name)
            return known[1] if opened is None else opened.corrected(known[1])
        except Exception as error:  # whatever lies in one directory, the others are listed
            log.exception("phases: %s cannot be described", name)
            problem = f"{type(error).__name__}: {error}"
            return _entry_of(name, _started(path)) | {
                "state": "unreadable",
                "problem": problem[:300],
            }


class OpenRun:
    """One run, read as far as it is written; every method may be called from any thread.

    Attributes:
        readings: numbers in memory, as last counted.

    Args:
        name: its id.
        path: its directory.

    Raises:
        OSError: if the directory is none, or a link.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.folder = name, RunFolder(path)
        self._lock = threading.RLock()
        self._live = HistoryFile(path / HISTORY, opener=self.folder.open)
        self._labels: OrderedDict[Thresholds, Labels] = OrderedDict()
        self._labelled = self._live.generation
        # counted under our lock: a history packs its last rows when it is asked for its metrics
        self.readings = 0

    @property
    def problem(self) -> str:
        """What is wrong with the history; empty if nothing is."""
        return self._live.problem

    def history(self) -> History:
        """Everything recorded so far; for reading only."""
        with self._lock:
            self._live.refresh()
            if self._labelled != self._live.generation:
                self._labels.clear()
                self._labelled = self._live.generation
            history = self._live.history
            self.readings = len(history) * history.count
            return history

    def entry(self) -> dict[str, Any]:
        """The run as it stands in the list."""
        with self._lock:
            self.history()
            return self.corrected(describe_run(self.name, self.folder))

    def corrected(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """An entry of the list, with what only the history can say."""
        problem, count = self.problem, self._live.history.count
        if entry["state"] not in ("finished", "running"):  # that says enough
            return dict(entry)
        if problem:
            return {**entry, "state": "damaged" if count else "unreadable", "problem": problem}
        if entry["state"] == "finished" and self._live.looked and not count:
            problem = f"{HISTORY} holds no complete record"
            return {**entry, "state": "unreadable", "problem": problem}
        return dict(entry)

    def about(self) -> dict[str, Any]:
        """Charts, thresholds, clock and saved neurons of the run."""
        with self._lock:
            history, config = self.history(), self._read(CONFIG)
            return describe(history) | {
                "id": self.name,
                "own": asdict(_thresholds(config)),
                "clock": read_clock(self.folder.path / CLOCK, self.folder.open),
                "neurons": saved_neurons(self.folder.path) if self.folder.there() else [],
            }

    def series(
        self,
        *,
        columns: int = 600,
        first: float = -math.inf,
        last: float = math.inf,
        log: bool = False,
        changes: Changes | None = None,
    ) -> dict[str, Any]:
        """Points of every charted metric between two steps, no more than a screen can show.

        Args:
            columns: pixel columns, 1 to `MOST_COLUMNS`.
            first: the first step wanted; the record before it is there too, so that lines enter.
            last: the last step wanted, and the record after it.
            log: whether pixel columns are equal in log(step + 1); steps below 0 count as 0.
            changes: thresholds other than the run's own, beside whose boundaries records stay.

        Raises:
            ExpectedError: for thresholds that are none.
        """
        with self._lock:
            history = self.history()
            steps = history.steps
            low = max(int(np.searchsorted(steps, first)) - 1, 0)
            high = min(int(np.searchsorted(steps, last, "right")) + 1, len(steps))
            shown = steps[low:high]
            at = np.log1p(np.maximum(shown, 0)) if log else shown.astype(np.float64)
            columns = max(1, min(columns, MOST_COLUMNS))
            keep = _thinned(_beside(self._all_labels(changes), shown), at, columns)
            drawn = {
                curve["metric"]: chart["log"]
                for chart in describe(history)["charts"]
                for curve in chart["curves"]
            }
            points = {}
            for metric, log_values in drawn.items():
                values = history[metric][low:high]
                index = min_max(at, values, columns, keep, log=log_values)
                points[metric] = [shown[index].tolist(), without_infinity(values[index].tolist())]
            return {"id": self.name, "last": history.last_step, "count": len(steps)} | {
                "first": int(steps[0]) if len(steps) else 0,
                "generation": self._live.generation,
                "problem": self._live.problem,
                "points": points,
            }

    def labels(self, changes: Changes | None = None) -> dict[str, Any]:
        """Phases, boundaries and alerts, as recorded or under changed thresholds.

        Not more than can be seen; ``omitted`` counts the rest.

        Raises:
            ExpectedError: for thresholds that are none.
        """
        with self._lock:
            found: dict[str, Any] = without_infinity(bounded(self._all_labels(changes)))
            return found | {"generation": self._live.generation}

    def neurons(self, step: int) -> dict[str, Any]:
        """Every neuron at a saved step."""
        read = read_neurons(self.folder.path, step, self.folder.open)
        neurons: dict[str, Any] = without_infinity(read)
        return {"step": step} | neurons

    def csv(self) -> Iterator[str]:
        """Every record of every metric, as lines of comma-separated values; gaps are empty.

        A run that is damaged ends with a comment that says so.
        """
        with self._lock:
            history, problem = self.history(), self.problem
            names, count = list(history), history.count
        yield ",".join(["step", *(_quoted(name) for name in names)]) + "\n"
        for start in range(0, count, ROWS_AT_ONCE):
            with self._lock:  # the history may be growing
                wanted = min(ROWS_AT_ONCE, count - start)
                rows = list(itertools.islice(history.rows(start, set(names)), wanted))
            for step, readings in rows:
                values = ("" if math.isnan(v) else repr(v) for v in readings.values())
                yield ",".join([str(step), *values]) + "\n"
        if problem:
            yield f"# {' '.join(problem.split())}\n"

    def _all_labels(self, changes: Changes | None) -> dict[str, Any]:
        history, config, summary = self.history(), self._read(CONFIG), self._read(SUMMARY)
        own = _thresholds(config)
        wanted = Thresholds(**(asdict(own) | dict(changes or {})))
        if wanted == own and summary:
            try:
                return recorded_labels(summary) | {"thresholds": asdict(own)}
            except ExpectedError:
                pass  # the run list says so; the labels can be had again
        labels = self._labels.pop(wanted, None) or Labels(wanted, _escape_steps(config))
        self._labels[wanted] = labels
        while len(self._labels) > LABELS_KEPT:
            self._labels.popitem(last=False)
        return labels.advance(history)

    def _read(self, file: str) -> dict[str, Any]:
        """A JSON file of the run; empty if there is none that can be read."""
        try:
            return self.folder.read(file)
        except ExpectedError:
            return {}


def describe_run(name: str, folder: RunFolder) -> dict[str, Any]:
    """The entry of a run in the list, from all but its history's records."""
    stamps = folder.stamps()
    entry = _entry_of(name, _started(folder.path)) | {"revision": repr(stamps)}
    try:
        summary, config = folder.read(SUMMARY), folder.read(CONFIG)
        _thresholds(config, strict=True)
        os.close(folder.open(str(folder.path / HISTORY), os.O_RDONLY))
    except FileNotFoundError:
        return entry | {"state": "empty", "problem": "nothing was recorded yet"}
    except ExpectedError as error:
        return entry | {"state": "unreadable", "problem": printable(error)[:300]}
    except OSError as error:
        return entry | {"state": "unreadable", "problem": f"{HISTORY}, {error.strerror}"}
    if stamps[0] is None or stamps[0][1] == 0:
        return entry | {"state": "empty", "problem": "nothing was recorded yet"}
    if summary:
        try:
            labels = recorded_labels(summary)
        except ExpectedError as error:
            return entry | {"problem": printable(error)[:300]}
        steps = summary.get("steps")
        known = type(steps) is int and 0 <= steps < EXACT_STEPS
        entry |= {"phase": labels["phase"], "state": "finished", "steps": steps if known else None}
    return entry


def _entry_of(name: str, started: float) -> dict[str, Any]:
    entry = {"id": name, "state": "running", "problem": "", "phase": None, "steps": None}
    return entry | {"started": started, "revision": ""}


def _beside(labels: Mapping[str, Any], steps: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indices of the records before every boundary and change of label; the next ones are after it."""
    marks = [b[key] for b in labels["boundaries"] for key in ("onset", "detected")]
    marks += [stretch["start"] for stretch in labels["timeline"]]
    marks += [alert["step"] for alert in labels["alerts"]]
    known = np.array(marks, dtype=np.float64)
    places = np.searchsorted(steps, known[np.isfinite(known)], "right") - 1
    return np.unique(places[places >= 0])


def _thinned(places: NDArray[np.intp], at: NDArray[np.float64], columns: int) -> list[int]:
    """Pairs of neighbours from `places` on; where those are many, one pair a pixel column."""
    if len(places) > max(columns, EXACT_MARKS):
        ends = np.linspace(at[0], at[-1], columns + 1)
        _, first = np.unique(np.searchsorted(ends, at[places]), return_index=True)
        places = places[first]
    both: list[int] = np.concatenate([places, places + 1]).tolist()
    return both


def _thresholds(config: Mapping[str, Any], *, strict: bool = False) -> Thresholds:
    """A run's own thresholds; the defaults where it has none, or (unless strict) none that work."""
    try:
        return Thresholds(**config.get("thresholds", {}))
    except (TypeError, ValueError) as error:
        if strict:
            raise expected_error("run", "thresholds in its config.json", f"{error}") from None
        return Thresholds()


def _escape_steps(config: Mapping[str, Any]) -> float | None:
    """The yardstick of SADDLE that a run was started with; None if it has none that is a number."""
    try:
        return check_float("escape_steps", config.get("escape_steps"))
    except ExpectedError:
        return None


def _started(path: Path) -> float:
    """When a run began, in seconds, for sorting."""
    for file in (CONFIG, HISTORY):
        try:
            return os.lstat(path / file).st_mtime
        except OSError:
            continue
    return 0.0


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text
