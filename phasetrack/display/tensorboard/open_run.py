"""Read one run for the Phases tab: its charts, points, labels and neurons, as far as it is written."""

from __future__ import annotations

import itertools
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
from phasetrack.display.lanes import Lane, described, lanes
from phasetrack.display.tensorboard.incremental_labels import (
    Labels,
    bounded,
    recorded_labels,
    without_infinity,
)
from phasetrack.display.tensorboard.safe_folder import RunFolder
from phasetrack.display.tensorboard.spoken_labels import spoken
from phasetrack.errors import ExpectedError, check_float, printable
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import ROWS_AT_ONCE, History
from phasetrack.phases.labels import PAPERS
from phasetrack.phases.loss_watch import drawn_unit
from phasetrack.phases.timeline import timeline
from phasetrack.phases.vocabularies import of_config
from phasetrack.phases.vocabulary import UNDETERMINED
from phasetrack.phases.vocabulary_set import column
from phasetrack.storage.clock_sink import CLOCK, read_clock
from phasetrack.storage.file_names import CONFIG, HISTORY, SUMMARY
from phasetrack.storage.history_reader import EXACT_STEPS, HistoryFile
from phasetrack.storage.json_schema import check_config, check_summary
from phasetrack.storage.neuron_sink import FOLDER as NEURONS
from phasetrack.storage.neuron_sink import read_neurons, steps_of
from phasetrack.storage.run_state import run_state

# Labels under changed thresholds that a run keeps, so that moving a slider back is immediate.
LABELS_KEPT = 8
MOST_COLUMNS = 4000
STORY_METRICS = ("loss/train", "heaviness/zeta_star")
# Records at boundaries and changes of label that are sent however few pixel columns there are.
EXACT_MARKS = 100

# Characters with which a formula of a spreadsheet begins.
FORMULA = tuple("=+-@\t\r")

Changes = Mapping[str, float]


class OpenRun:
    """One run, read as far as it is written; every method may be called from any thread.

    Attributes:
        readings: number of readings in memory when the history was last read.

    Args:
        name: the run's id.
        path: the run's directory.

    Raises:
        OSError: if `path` is not a directory, or is a link.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.folder = name, RunFolder(path)
        self._lock = threading.RLock()
        self._live = HistoryFile(path / HISTORY, opener=self.folder.open)
        self._labels: OrderedDict[Thresholds, Labels] = OrderedDict()
        self._labelled = self._live.generation
        # a stored count: counting packs the history's last rows, which needs the lock
        self.readings = 0

    @property
    def problem(self) -> str:
        """Problem of the history, or an empty text."""
        return self._live.problem

    def history(self) -> History:
        """Return everything recorded so far; callers must not change it."""
        with self._lock:
            self._live.refresh()
            if self._labelled != self._live.generation:
                self._labels.clear()
                self._labelled = self._live.generation
            history = self._live.history
            self.readings = len(history) * history.count
            return history

    def entry(self) -> dict[str, Any]:
        """Return the run's entry in the list."""
        with self._lock:
            self.history()
            return self.corrected(describe_run(self.name, self.folder))

    def corrected(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return an entry of the list with the problems that only reading the history reveals."""
        problem, count = self.problem, self._live.history.count
        if entry["state"] not in ("finished", "running", "stopped"):
            return dict(entry)
        if problem:
            return {**entry, "state": "damaged" if count else "unreadable", "problem": problem}
        if entry["state"] == "finished" and self._live.looked and not count:
            problem = f"{HISTORY} does not hold a complete record"
            return {**entry, "state": "unreadable", "problem": problem}
        return dict(entry)

    def about(self) -> dict[str, Any]:
        """Return charts, thresholds, clock and saved neurons of the run."""
        with self._lock:
            history, config = self.history(), self._read(CONFIG)
            return describe(history) | {
                "id": self.name,
                "own": asdict(_thresholds(config)),
                "units": _units(history),
                "clock": read_clock(self.folder.path / CLOCK, self.folder.open),
                "neurons": steps_of(self.folder.names(NEURONS)),
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
        """Return the points of every charted metric between two steps, reduced to what a screen shows.

        Args:
            columns: number of pixel columns, 1 to `MOST_COLUMNS`.
            first: the first step; the record before it is included, so that lines enter the chart.
            last: the last step; the record after it is included.
            log: whether pixel columns are equal in log(step + 1); steps below 0 count as 0.
            changes: thresholds that differ from the run's own; records beside the boundaries under
                these thresholds are included.

        Raises:
            ExpectedError: if a threshold is out of range.
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
        """Return phases, boundaries and alerts in words, as recorded or under changed thresholds.

        Labels that a screen cannot show are left out; ``omitted`` counts them.

        Raises:
            ExpectedError: if a threshold is out of range.
        """
        with self._lock:
            labels = self._all_labels(changes)
            told = spoken(bounded(labels), self._told(labels["thresholds"]))
            told["lanes"] = described(self._lanes(labels))
            found: dict[str, Any] = without_infinity(told)
            return found | {"generation": self._live.generation}

    def _lanes(self, labels: Mapping[str, Any]) -> list[Lane]:
        """Return the lanes: the paper's under `labels`, the others as they were recorded."""
        history, known = self.history(), of_config(self._read(CONFIG))[0]
        spoken_by = {
            one.name: {
                "applies": True,
                "timeline": timeline(history, column(one.name), one.phases),
            }
            for one in known
        }
        try:
            summary = check_summary(self._read(SUMMARY), Path(SUMMARY))
        except ExpectedError:
            summary = {}
        told = {
            "timeline": labels["timeline"],
            "vocabularies": spoken_by | summary.get("vocabularies", {}),
            "hindsight": summary.get("hindsight", {}),
        }
        return [lane for lane in lanes(told) if not _never_speaks(lane)]

    def told(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the configuration, and the summary as far as it is known; empty where damaged."""
        with self._lock:
            labels = self._all_labels(None)
            try:
                config = check_config(dict(self._read(CONFIG)), Path(CONFIG))
            except ExpectedError:
                config = {}
            return config, {**self._told(labels["thresholds"]), **labels}

    def _told(self, thresholds: Mapping[str, Any]) -> dict[str, Any]:
        """Return the summary, or the last readings of a run without one, for the story."""
        summary, config = self._read(SUMMARY), self._read(CONFIG)
        if summary:
            try:
                summary = check_summary(summary, Path(SUMMARY))
            except ExpectedError:
                return {}
            if summary.get("thresholds", thresholds) != thresholds:
                summary.pop("loss_at", None)  # at other boundaries
            return summary
        history = self.history()
        try:
            forecast = check_config(dict(config), Path(CONFIG)).get("forecast", {})
        except ExpectedError:
            forecast = {}
        return {
            "final": {n: float(history[n][-1]) for n in STORY_METRICS if n in history},
            "units": _units(history),
            "forecast": forecast,
            "steps": history.last_step + 1,
            "stopped": state_of(self.folder),
        }

    def neurons(self, step: int) -> dict[str, Any]:
        """Return every neuron at a saved step."""
        read = read_neurons(self.folder.path, step, self.folder.open)
        neurons: dict[str, Any] = without_infinity(read)
        return {"step": step} | neurons

    def csv(self) -> Iterator[str]:
        """Yield every record as a line of comma-separated values; missing values are empty.

        The last line of a damaged run is a comment with the problem.
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
                pass  # the list of runs reports it; the history has the labels too
        labels = self._labels.pop(wanted, None) or Labels(wanted, _escape_steps(config))
        self._labels[wanted] = labels
        while len(self._labels) > LABELS_KEPT:
            self._labels.popitem(last=False)
        return labels.advance(history)

    def _read(self, file: str) -> dict[str, Any]:
        """Return the object in a JSON file of the run; empty if the file cannot be read."""
        try:
            return self.folder.read(file)
        except ExpectedError:
            return {}


def _never_speaks(lane: Lane) -> bool:
    """Whether a further vocabulary has no label but UNDETERMINED, as one without its readings."""
    return lane.name != PAPERS and {stretch["phase"] for stretch in lane.stretches} == {
        UNDETERMINED
    }


def describe_run(name: str, folder: RunFolder) -> dict[str, Any]:
    """Return the entry of a run in the list, without reading the records of its history."""
    stamps = folder.stamps()
    entry = blank_entry(name, started(folder.path)) | {"revision": repr(stamps)}
    try:
        summary, config = folder.read(SUMMARY), folder.read(CONFIG)
        _thresholds(config, strict=True)
        os.close(folder.open(str(folder.path / HISTORY), os.O_RDONLY))
    except FileNotFoundError:
        return entry | {"state": "empty", "problem": "nothing has been recorded yet"}
    except ExpectedError as error:
        return entry | {"state": "unreadable", "problem": printable(error)[:300]}
    except OSError as error:
        return entry | {"state": "unreadable", "problem": f"{HISTORY}, {error.strerror}"}
    if stamps[0] is None or stamps[0][1] == 0:
        return entry | {"state": "empty", "problem": "nothing has been recorded yet"}
    if summary:
        try:
            labels = recorded_labels(summary)
        except ExpectedError as error:
            return entry | {"state": state_of(folder), "problem": printable(error)[:300]}
        steps = summary.get("steps")
        known = type(steps) is int and 0 <= steps < EXACT_STEPS
        return entry | {
            "phase": labels["phase"],
            "state": "finished",
            "steps": steps if known else None,
            "alerts": list(dict.fromkeys(alert["name"] for alert in labels["alerts"])),
        }
    return entry | {"state": state_of(folder)}


def state_of(folder: RunFolder) -> str:
    """Return whether a run without a summary is ``running``, or ``stopped`` before its end."""
    return run_state(folder.path, finished=False, opener=folder.open)


def blank_entry(name: str, start: float) -> dict[str, Any]:
    """Return the entry of a run about which nothing is known but its start."""
    entry = {"id": name, "state": "running", "problem": "", "phase": None, "steps": None}
    return entry | {"started": start, "revision": "", "alerts": []}


def _beside(labels: Mapping[str, Any], steps: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the indices of the last records before every boundary, change of label and alert."""
    marks = [b[key] for b in labels["boundaries"] for key in ("onset", "detected")]
    marks += [stretch["start"] for stretch in labels["timeline"]]
    marks += [alert["step"] for alert in labels["alerts"]]
    known = np.array(marks, dtype=np.float64)
    places = np.searchsorted(steps, known[np.isfinite(known)], "right") - 1
    return np.unique(places[places >= 0])


def _thinned(places: NDArray[np.intp], at: NDArray[np.float64], columns: int) -> list[int]:
    """Return each place and its successor; of many places, one pair per pixel column."""
    if len(places) > max(columns, EXACT_MARKS):
        ends = np.linspace(at[0], at[-1], columns + 1)
        _, first = np.unique(np.searchsorted(ends, at[places]), return_index=True)
        places = places[first]
    both: list[int] = np.concatenate([places, places + 1]).tolist()
    return both


def _units(history: History) -> dict[str, float]:
    """Return what thresholds are to be multiplied by to be in units of the run's own readings."""
    return {"loss_target": drawn_unit(history)}


def _thresholds(config: Mapping[str, Any], *, strict: bool = False) -> Thresholds:
    """Return a run's own thresholds, or the defaults if it has none or (unless strict) invalid ones."""
    try:
        return Thresholds.recorded(config.get("thresholds", {}))
    except (TypeError, ValueError) as error:
        if strict:
            raise ExpectedError(
                "run", f"The thresholds in {CONFIG} are invalid ({error})."
            ) from None
        return Thresholds()


def _escape_steps(config: Mapping[str, Any]) -> float | None:
    """Return the predicted escape time, by which SADDLE is judged, or None if it is not a number."""
    try:
        return check_float("escape_steps", config.get("escape_steps"))
    except ExpectedError:
        return None


def started(path: str | Path) -> float:
    """Return the time at which a run began, in seconds, for sorting."""
    for file in (CONFIG, HISTORY):
        try:
            return os.lstat(f"{path}/{file}").st_mtime  # thousands in a poll: no Path
        except OSError:
            continue
    return 0.0


def _quoted(text: str) -> str:
    if text[:1] in FORMULA:  # a spreadsheet would compute it
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text
