"""A run directory: created safely, and read back without torch.

It holds ``config.json`` (settings or, of a model of one's own, layers and geometry; thresholds, versions),
``history.jsonl`` (one object per recorded step: ``step``, then flat metric names), ``summary.json``,
``checkpoint.pt`` where asked for and TensorBoard's ``events.out.tfevents.*``. Numbers that are not finite are written as Python's json writes them, ``NaN``
and ``Infinity``.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.card import as_html, as_text
from phasetrack.phases.classifier import METRICS, Thresholds, Verdict, relabel
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.summary import summarise_again
from phasetrack.phases.vocabularies import of_config
from phasetrack.phases.vocabulary import UNDETERMINED, Vocabulary
from phasetrack.phases.vocabulary_set import VocabularySet, label_again
from phasetrack.storage.atomic_files import check_plain, replace_file
from phasetrack.storage.file_names import CONFIG, HINDSIGHT, HISTORY, LOCK
from phasetrack.storage.history_reader import HistoryFile
from phasetrack.storage.results import Results, read_config, read_summary, readable
from phasetrack.theory.settings import RunSettings


@dataclass(frozen=True, repr=False)
class Run(Results):
    """A run read from disk.

    Attributes:
        path: its directory.
        config: the content of ``config.json``; empty where an early version wrote none.
        summary: the content of ``summary.json``; empty while the run lasts or if it was killed.
        history: every recorded step; ``run.history["loss/train"]`` is a float64 array.
    """

    history: History

    @property
    def told(self) -> dict[str, Any]:
        """What `labelled` holds, with the state of a run without a summary under ``stopped``."""
        return self.labelled if self.finished else {**self.labelled, "stopped": self.state}

    @property
    def hindsight(self) -> History:
        """The states that were read again along the span found at the end; empty where none could be trusted."""
        return _read_history(self.path / HINDSIGHT)

    def __repr__(self) -> str:
        """The run in a few lines: label, verdict, alerts."""
        return as_text(f"Run {self.name!r}", self.told)

    def _repr_html_(self) -> str:
        return as_html(f"run {self.name}", self.told)

    @property
    def labelled(self) -> dict[str, Any]:
        """The summary; of a run that lasts or was stopped, that of its records so far."""
        return self.summary or self.summarise()

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds that the run was labelled with."""
        try:
            return Thresholds.recorded(self.config.get("thresholds", {}))
        except (TypeError, ExpectedError) as error:
            path = str(self.path / CONFIG)
            raise ExpectedError("run", f"{path!r} is not valid: thresholds: {error}") from None

    def relabel(self, thresholds: Thresholds | None = None) -> list[tuple[int, Verdict]]:
        """Label every recorded step under the run's own thresholds, or under others."""
        escape = self.config.get("escape_steps")
        return list(
            relabel(self.history.rows(names=METRICS), thresholds or self.thresholds, escape)
        )

    @property
    def phases(self) -> VocabularySet:
        """Each vocabulary's labels of the recorded steps, by name, under the run's own levels."""
        return self.label_by(*of_config(self.config)[0])

    def label_by(self, *vocabularies: Vocabulary) -> VocabularySet:
        """Label every recorded step by vocabularies of yours, or by others' with other levels.

        Returns:
            Their labels by name; the paper's is among them.
        """
        first = RunLabels(self.thresholds, self.config.get("escape_steps"))
        names = METRICS.union(*(one.metrics for one in vocabularies))
        return label_again(vocabularies, self.history.rows(names=names), first)[0]

    def summarise(self, thresholds: Thresholds | None = None) -> dict[str, Any]:
        """Label the history again and return the content of a ``summary.json``.

        For a run that lasts or was killed, and for thresholds that are not its own.
        """
        vocabularies, unknown = of_config(self.config)
        summary = summarise_again(
            self.history,
            thresholds or self.thresholds,
            escape_steps=self.config.get("escape_steps"),
            undefined=self.summary.get("undefined"),
            steps=self.summary.get("steps"),
            forecast=self.config.get("forecast"),
            vocabularies=vocabularies,
        )
        for name in unknown:
            summary["vocabularies"][name] = _undefined(name)
        return summary


def _undefined(name: str) -> dict[str, Any]:
    """Return the entry of a vocabulary whose definition only the run's own script has."""
    reason = (
        f"phasetrack has no definition of {name!r} with these levels: pass it to Run.label_by()"
    )
    return {
        "applies": False,
        "reason": reason,
        "phase": UNDETERMINED,
        "boundaries": [],
        "alerts": [],
    }


def absolute(path: str | os.PathLike[str], argument: str = "logdir") -> Path:
    """Return a path that names the same place after the process has changed its directory.

    Raises:
        ExpectedError: naming `argument`, for a value that is not the path of a directory.
    """
    if not isinstance(path, str | os.PathLike) or not str(path) or "\0" in str(path):
        raise ExpectedError(argument, f"{path!r} is not a path.", "Pass the path of a directory.")
    try:
        # Path.expanduser raises for a folder whose name begins with ~
        return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111
    except FileNotFoundError:
        problem = f"{str(path)!r} lies in the current directory, which was deleted."
        raise ExpectedError(argument, problem, "Pass an absolute path.") from None


def create_numbered_directory(out: Path, name: str) -> Path:
    """Create OUT/NAME for a new run, or OUT/NAME-2, -3, ... where that is taken, and return its path.

    Raises:
        ExpectedError: as `create_run_directory`.
    """
    for number in itertools.count(1):
        free = name if number == 1 else f"{name}-{number}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / free).mkdir()  # of two processes one succeeds
        except FileExistsError:
            if out.is_dir():
                continue
            break
        except OSError:
            break
        return out / free
    return create_run_directory(out, free)  # says why it cannot be written


def create_run_directory(out: Path, name: str) -> Path:
    """Create the directory OUT/NAME for a new run and return its path.

    Raises:
        ExpectedError: naming `out` or `name`: the name is not a plain file name, the directory is not
            empty, or it cannot be written. A failed call leaves nothing behind.
    """
    if not name or name in (".", "..") or Path(name).name != name or "\0" in name:
        raise ExpectedError(
            "name", f"{name!r} is not a plain directory name.", "Pass a name without /."
        )
    path = out / name
    check_unused(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        replace_file(probe, b"")
        probe.unlink()
    except OSError as error:
        for folder in made:
            if folder.is_dir():
                folder.rmdir()
        problem = f"{str(path)!r} cannot be written ({error.strerror})."
        raise ExpectedError("out", problem, "Choose a folder that can be written.") from None
    return path


def check_unused(path: Path) -> None:
    """Raise ExpectedError, naming `name`, if something lies where a new run would be written."""
    # a run that was killed before it had a config.json left at most its lock and the beginning of one
    scratch = {f".{CONFIG}.new", LOCK}
    if path.exists() and (not path.is_dir() or {p.name for p in path.iterdir()} - scratch):
        problem = f"{str(path)!r} already exists and is not empty."
        raise ExpectedError("name", problem, "Choose another name or out folder.")


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run directory, finished or not.

    A last history line without its end (the run was killed, or is writing it now) is left out.

    Raises:
        ExpectedError: naming the file and line if the path is not a run directory, or a file in it is
            damaged.
    """
    directory = Path(path)
    with readable(directory):
        return Run(
            path=directory,
            config=read_config(directory),
            summary=read_summary(directory),
            history=_read_history(directory / HISTORY),
        )


def recorded_settings(config: Mapping[str, Any], directory: Path) -> RunSettings:
    """Return the settings that a run of `phasetrack run` was started with.

    Raises:
        ExpectedError: if the configuration does not hold valid ones, as that of a model of the user's own.
    """
    if "settings" not in config:
        problem = f"{str(directory)!r} is a run of a model of your own: its data and its training are in your code."
        fix = "Use attach(..., resume=True) to resume it, and phasetrack.replay(run, x, y) to measure it again."
        raise ExpectedError("run", problem, fix)
    try:
        return RunSettings(**config["settings"])
    except (LookupError, TypeError, ExpectedError) as error:
        problem = f"{str(directory / CONFIG)!r} holds no valid settings: {error}"
        raise ExpectedError("run", problem) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON so that a reader sees the old file or the new one, never a part."""
    replace_file(path, (json.dumps(content, indent=2) + "\n").encode(), sync=True)


def _read_history(path: Path) -> History:
    if not path.exists() and not path.is_symlink():
        return History()
    file = HistoryFile(check_plain(path))
    file.refresh()
    if file.damage:
        raise ExpectedError("run", f"{str(path)!r} is damaged: {file.damage}.")
    return file.history
