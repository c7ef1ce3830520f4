"""What a run is on disk, written safely and read back without torch.

A run directory holds ``config.json`` (every setting, versions), ``history.jsonl`` (one object a
recorded step: ``step``, then flat metric names), ``summary.json``, ``checkpoint.pt`` and TensorBoard's
``events.out.tfevents.*``. JSON numbers that are not finite are written as Python's json does, as
``NaN`` and ``Infinity``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError, expected_error, printable
from phasetrack.phases.classifier import METRICS, Phase, Thresholds, Verdict, relabel
from phasetrack.phases.history import History
from phasetrack.phases.summary import check_summary, summarise_again
from phasetrack.storage.atomic_files import check_plain, replace_file
from phasetrack.storage.history_reader import HistoryFile
from phasetrack.storage.history_sink import HISTORY
from phasetrack.storage.json_schema import check_config, check_text, read_object
from phasetrack.storage.parallel_reader import in_halves
from phasetrack.theory.settings import RunSettings

CONFIG, SUMMARY = "config.json", "summary.json"


@dataclass(frozen=True)
class Run:
    """A run read from disk.

    Attributes:
        path: its directory.
        config: what ``config.json`` holds.
        history: every recorded step; ``run.history["loss/train"]`` is a float64 array.
        summary: what ``summary.json`` holds; empty while the run goes on or if it was killed.
    """

    path: Path
    config: dict[str, Any]
    history: History
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """The directory's name."""
        return printable(self.path.name)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end and wrote a summary."""
        return bool(self.summary)

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds that the run was labelled with."""
        try:
            return Thresholds(**self.config.get("thresholds", {}))
        except (TypeError, ExpectedError) as error:
            raise expected_error("run", f"thresholds in {self.path / CONFIG}", f"{error}") from None

    def relabel(self, thresholds: Thresholds | None = None) -> list[tuple[int, Verdict]]:
        """Label every recorded step, with the run's own thresholds or others."""
        escape = self.config.get("escape_steps")
        return list(
            relabel(self.history.rows(names=METRICS), thresholds or self.thresholds, escape)
        )

    def summarise(self, thresholds: Thresholds | None = None) -> dict[str, Any]:
        """What ``summary.json`` would hold at the last recorded step, labelled again.

        For a run that goes on or was killed, and for other thresholds than its own.
        """
        return summarise_again(
            self.history,
            thresholds or self.thresholds,
            escape_steps=self.config.get("escape_steps"),
            undefined=self.summary.get("undefined"),
            steps=self.summary.get("steps"),
            forecast=self.config.get("forecast"),
        )

    def phases(self) -> list[Phase]:
        """The label that the run gave each recorded step.

        Raises:
            ExpectedError: if it gave none, or one that does not exist.
        """
        ids = {float(phase.id): phase for phase in Phase}
        given = self.history["phase/id"].tolist() if "phase/id" in self.history else [math.nan]
        if wrong := [number for number in given if number not in ids]:
            raise expected_error("run", f"phase/id in {self.path / HISTORY}", wrong[0])
        return [ids[number] for number in given]


def create_run_directory(out: Path, name: str) -> Path:
    """Make OUT/NAME for a new run and return it.

    Raises:
        ExpectedError: naming `out` or `name`, if the name is no plain file name, the directory
            exists and is not empty, or it cannot be written. Nothing is left behind.
    """
    if not name or name in (".", "..") or Path(name).name != name or "\0" in name:
        raise expected_error("name", "a plain directory name, without /", repr(name))
    path = out / name
    # a run that was killed before it had a config.json left no more than the beginning of one
    scratch = {f".{CONFIG}.new"}
    if path.exists() and (not path.is_dir() or {p.name for p in path.iterdir()} - scratch):
        raise expected_error(
            "name",
            "a new or empty run directory",
            f"{path}, which is not empty",
            "choose another --name or --out",
        )
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        for folder in made:
            if folder.is_dir():
                folder.rmdir()
        raise expected_error(
            "out", "a directory that can be written", f"{path} ({error.strerror})"
        ) from None
    return path


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run directory, finished or not.

    A last history line that is cut off (the run was killed, or is writing it now) is left out.

    Raises:
        ExpectedError: if it is no run directory, or a file in it is damaged; the message says
            which file and line.
    """
    directory = Path(path)
    config = read_config(directory)
    summary = directory / SUMMARY
    return Run(
        path=directory,
        config=config,
        history=_read_history(directory / HISTORY),
        summary=_read_summary(summary),
    )


def read_config(directory: Path) -> dict[str, Any]:
    """What a run's ``config.json`` holds.

    Raises:
        ExpectedError: if it is no run directory, or the file is damaged.
    """
    if not (directory / CONFIG).exists():
        raise expected_error(
            "run",
            f"a run directory with a {CONFIG}",
            str(directory),
            "`phasetrack list` shows the runs",
        )
    path = check_plain(directory / CONFIG)
    return check_config(check_text(read_object(path), path), path)


def recorded_settings(config: Mapping[str, Any], directory: Path) -> RunSettings:
    """The settings that a run was started with.

    Raises:
        ExpectedError: if they are none.
    """
    try:
        return RunSettings(**config["settings"])
    except (LookupError, TypeError, ExpectedError) as error:
        allowed = f"settings of a run in {directory / CONFIG}"
        raise expected_error("run", allowed, f"{error}") from None


def find_runs(out: Path) -> list[Path]:
    """Run directories directly in `out`, oldest first."""
    if not out.is_dir():
        return []
    found = [folder for folder in out.iterdir() if (folder / CONFIG).is_file()]
    return sorted(found, key=lambda folder: ((folder / CONFIG).stat().st_mtime, folder.name))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON so that a reader sees the old file or the new one, never a part."""
    replace_file(path, (json.dumps(content, indent=2) + "\n").encode(), sync=True)


def _read_summary(path: Path) -> dict[str, Any]:
    if not path.exists() and not path.is_symlink():
        return {}
    return check_summary(check_text(read_object(check_plain(path)), path))


def _read_history(path: Path) -> History:
    if not path.exists() and not path.is_symlink():
        return History()
    history = in_halves(check_plain(path))
    if history is not None:
        return history
    file = HistoryFile(path)
    file.refresh()
    if file.damage:
        raise expected_error("run", f"one JSON object a line in {path}", file.damage)
    return file.history
