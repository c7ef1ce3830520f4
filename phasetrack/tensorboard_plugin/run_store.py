"""The runs under a log directory: found, listed, and read no further than they must be.

Everything in a log directory is data from somebody: a name is only ever compared with those that were
found, files that lead elsewhere are refused, and what cannot be read is listed with its reason.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from phasetrack._checks import ExpectedError
from phasetrack.charts import describe
from phasetrack.downsample import min_max
from phasetrack.history_file import HistoryFile
from phasetrack.phases import Thresholds
from phasetrack.records import History
from phasetrack.run_directory import CONFIG, HISTORY, SUMMARY, read_object
from phasetrack.sinks.clock import CLOCK, read_clock
from phasetrack.sinks.neurons import read_neurons, saved_neurons
from phasetrack.tensorboard_plugin.labels import Labels, recorded_labels, without_infinity

# Chosen here: how many runs are listed, how deep they are looked for, and how many readings of
# histories (8 bytes each) stay in memory when others are opened.
MOST_RUNS = 2000
DEEPEST = 8
MOST_READINGS = 200_000_000
# Label sets of other thresholds that a run keeps, so that a slider moves back at once.
LABELS_KEPT = 8
MOST_COLUMNS = 4000


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
        return next(self._find(), None) is not None

    def runs(self) -> list[dict[str, Any]]:
        """One entry a run: id, state, problem, phase, boundaries, revision; newest first."""
        found = [self._entry(name, folder) for name, folder in self._find()]
        return sorted(found, key=lambda entry: (-entry["started"], entry["id"]))

    def open(self, name: str) -> OpenRun:
        """A run by its id.

        Raises:
            ExpectedError: if no run under the log directory has this id.
        """
        with self._lock:
            if name in self._open:
                self._open.move_to_end(name)
                return self._open[name]
            folder = dict(self._find()).get(name)
            if folder is None:
                raise ExpectedError("run", "a run under the log directory", repr(name)[:200])
            run = self._open[name] = OpenRun(name, folder)
            self._forget_oldest()
            return run

    def _forget_oldest(self) -> None:
        while len(self._open) > 1 and sum(r.readings for r in self._open.values()) > MOST_READINGS:
            self._open.popitem(last=False)

    def _find(self) -> Iterator[tuple[str, Path]]:
        """Id and directory of each run; links to other places are not followed."""
        count = 0
        for where, folders, files in os.walk(self._root, followlinks=False):
            folder = Path(where)
            depth = len(folder.relative_to(self._root).parts)
            folders[:] = sorted(folders) if depth < DEEPEST else []
            if HISTORY not in files and CONFIG not in files:
                continue
            name = folder.relative_to(self._root).as_posix()
            yield (folder.resolve().name if name == "." else name), folder
            count += 1
            if count == MOST_RUNS:
                return

    def _entry(self, name: str, folder: Path) -> dict[str, Any]:
        stamps = tuple(_stamp(folder / file) for file in (HISTORY, SUMMARY, CONFIG))
        known = self._entries.get(name)
        if known is None or known[0] != stamps:
            known = self._entries[name] = (stamps, _describe_run(name, folder, stamps))
        entry = dict(known[1])
        opened = self._open.get(name)
        problem = "" if opened is None else opened.problem
        if opened is not None and not problem and entry["state"] == "finished":
            problem = "" if opened.readings else f"{HISTORY} holds no complete record"
        if problem:
            entry |= {"state": "unreadable", "problem": problem}
        return entry


class OpenRun:
    """One run, read as far as it is written; every method may be called from any thread."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._lock = threading.RLock()
        self._live = HistoryFile(_inside(folder, HISTORY))
        self._labels: OrderedDict[Thresholds, Labels] = OrderedDict()

    @property
    def readings(self) -> int:
        """Numbers in memory."""
        return len(self._live.history) * self._live.history.count

    @property
    def problem(self) -> str:
        """What is wrong with the history; empty if nothing is."""
        return self._live.problem

    def history(self) -> History:
        """Everything recorded so far; for reading only."""
        with self._lock:
            self._live.refresh()
            return self._live.history

    def about(self) -> dict[str, Any]:
        """Charts, thresholds, clock and saved neurons of the run."""
        with self._lock:
            history, config = self.history(), self._read(CONFIG)
            return describe(history) | {
                "id": self.name,
                "own": asdict(_thresholds(config)),
                "clock": self._clock(),
                "neurons": saved_neurons(self.folder),
            }

    def series(
        self,
        *,
        columns: int = 600,
        first: float = -math.inf,
        last: float = math.inf,
        log: bool = False,
    ) -> dict[str, Any]:
        """Points of every charted metric between two steps, no more than a screen can show.

        Args:
            columns: pixel columns, 1 to `MOST_COLUMNS`.
            first: the first step wanted; the record before it is there too, so that lines enter.
            last: the last step wanted, and the record after it.
            log: whether pixel columns are equal in log(step + 1).
        """
        with self._lock:
            history = self.history()
            steps = history.steps
            low = max(int(np.searchsorted(steps, first)) - 1, 0)
            high = min(int(np.searchsorted(steps, last, "right")) + 1, len(steps))
            shown = steps[low:high]
            at = np.log1p(shown) if log else shown.astype(np.float64)
            keep = self._beside_boundaries(shown)
            charted = [
                c["metric"] for chart in describe(history)["charts"] for c in chart["curves"]
            ]
            points = {}
            for metric in dict.fromkeys(charted):
                values = history[metric][low:high]
                index = min_max(at, values, min(columns, MOST_COLUMNS), keep)
                points[metric] = [shown[index].tolist(), without_infinity(values[index].tolist())]
            return {"id": self.name, "last": history.last_step, "count": len(steps)} | {
                "first": int(steps[0]) if len(steps) else 0,
                "problem": self._live.problem,
                "points": points,
            }

    def labels(self, changes: dict[str, float] | None = None) -> dict[str, Any]:
        """Phases, boundaries and alerts, as recorded or under changed thresholds.

        Raises:
            ExpectedError: for thresholds that are none.
        """
        with self._lock:
            history, config, summary = self.history(), self._read(CONFIG), self._read(SUMMARY)
            own = _thresholds(config)
            wanted = Thresholds(**(asdict(own) | (changes or {})))
            if wanted == own and summary:
                try:
                    return recorded_labels(summary) | {"thresholds": asdict(own)}
                except ExpectedError:
                    pass  # the run list says so; the labels can be had again
            escape = config.get("escape_steps")
            labels = self._labels.pop(wanted, None) or Labels(
                wanted, float(escape) if isinstance(escape, int | float) else None
            )
            self._labels[wanted] = labels
            while len(self._labels) > LABELS_KEPT:
                self._labels.popitem(last=False)
            finite: dict[str, Any] = without_infinity(labels.advance(history))
            return finite

    def neurons(self, step: int) -> dict[str, Any]:
        """Every neuron at a saved step."""
        neurons: dict[str, Any] = without_infinity(read_neurons(self.folder, step))
        return {"step": step} | neurons

    def csv(self) -> Iterator[str]:
        """Every record of every metric, as lines of comma-separated values; gaps are empty."""
        history = self.history()
        yield ",".join(["step", *(_quoted(name) for name in history)]) + "\n"
        for step, readings in history.rows():
            values = ("" if math.isnan(v) else repr(v) for v in readings.values())
            yield ",".join([str(step), *values]) + "\n"

    def _beside_boundaries(self, steps: np.ndarray[Any, np.dtype[np.int64]]) -> list[int]:
        """Indices of the records on both sides of every boundary and change of label."""
        labels = self.labels()
        marks = [b[key] for b in labels["boundaries"] or () for key in ("onset", "detected")]
        marks += [stretch["start"] for stretch in labels["timeline"] or ()]
        marks += [alert["step"] for alert in labels["alerts"] or ()]
        places = np.searchsorted(steps, [m for m in marks if m is not None], "right")
        return [int(place) + shift for place in places for shift in (-1, 0)]

    def _clock(self) -> list[list[float]]:
        try:
            return read_clock(_inside(self.folder, CLOCK))
        except ExpectedError:
            return []

    def _read(self, file: str) -> dict[str, Any]:
        """A JSON file of the run; empty if there is none that can be read."""
        try:
            return read_object(_inside(self.folder, file))
        except (ExpectedError, OSError):
            return {}


def _describe_run(name: str, folder: Path, stamps: tuple[object, ...]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": name,
        "state": "running",
        "problem": "",
        "phase": None,
        "steps": None,
        "boundaries": [],
        "alerts": [],
        "started": _modified(folder / CONFIG) or _modified(folder / HISTORY),
        "revision": repr(stamps),
    }
    try:
        for file in (HISTORY, SUMMARY, CONFIG):
            _inside(folder, file)
        if not (folder / HISTORY).is_file():
            return entry | {"state": "empty", "problem": "nothing was recorded yet"}
        summary = read_object(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
        if (folder / CONFIG).is_file():
            _thresholds(read_object(folder / CONFIG), strict=True)
    except (ExpectedError, OSError) as error:
        return entry | {"state": "unreadable", "problem": str(error)[:300]}
    if (folder / HISTORY).stat().st_size == 0:
        return entry | {"state": "empty", "problem": "nothing was recorded yet"}
    if summary:
        try:
            labels = recorded_labels(summary)
        except ExpectedError as error:
            return entry | {"problem": str(error)[:300]}
        steps = summary.get("steps")
        entry |= {key: labels[key] for key in ("phase", "boundaries", "alerts")}
        entry |= {"state": "finished", "steps": steps if isinstance(steps, int) else None}
    return entry


def _thresholds(config: dict[str, Any], *, strict: bool = False) -> Thresholds:
    """A run's own thresholds; the defaults where it has none, or (unless strict) none that work."""
    try:
        return Thresholds(**config.get("thresholds", {}))
    except (TypeError, ValueError) as error:
        if strict:
            raise ExpectedError("run", "thresholds in its config.json", f"{error}") from None
        return Thresholds()


def _inside(folder: Path, file: str) -> Path:
    """A file of a run.

    Raises:
        ExpectedError: if it is a link to somewhere else, or no plain file.
    """
    path = folder / file
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ExpectedError("run", f"a plain file {file}", "a link or something else")
    return path


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _modified(path: Path) -> float:
    stamp = _stamp(path)
    return 0.0 if stamp is None else stamp[0] / 1e9


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text
