"""Values of every neuron at some steps of a run, for the neuron view; read without torch.

The saved steps are spread evenly over a run of unknown length: every record at first; at `MOST_SAVED`
files every second one is deleted and the distance between saved records doubles.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from phasetrack.errors import ExpectedError, check_int
from phasetrack.phases.history import History, Record
from phasetrack.storage.atomic_files import check_folder, replace_file

FOLDER = "neurons"
# Files per run at most: about a megabyte at width 512.
MOST_SAVED = 100
# Neurons per file at most, and unpacked bytes, as files may come from elsewhere.
MOST_NEURONS = 200_000
LARGEST_FILE = 4 * 8 * MOST_NEURONS + 2**16
_FILE = re.compile(r"step-([0-9]{9,18})\.npz")
# Column of a file to distribution of a record.
COLUMNS = {
    "signal": "neurons/signal",
    "perp": "neurons/perp",
    "second_layer": "neurons/second_layer",
}
# Columns that not every run has: the index of the cluster to whose margin a neuron adds most, or -1.
FURTHER = {"cluster": "neurons/cluster"}


class NeuronSink:
    """Writes ``neurons/step-<step>.npz``: float32 (p,) arrays `signal`, `perp`, `second_layer`, and `cluster` where there are clusters.

    Args:
        logdir: the run directory.
    """

    state_key = "neurons"

    def __init__(self, logdir: Path) -> None:
        self._folder = logdir / FOLDER
        self._records, self._stride = 0, 1
        self._saved: list[tuple[int, int]] = []  # (record number, step)

    def write(self, record: Record) -> None:
        """Save the neurons of every `stride`-th record."""
        number, self._records = self._records, self._records + 1
        if number % self._stride or not record.distributions.keys() >= set(COLUMNS.values()):
            return
        check_folder(self._folder).mkdir(exist_ok=True)
        known = record.distributions
        columns = {
            name: known[key].astype(np.float32)
            for name, key in (COLUMNS | FURTHER).items()
            if key in known
        }
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **columns)
        replace_file(self._path(record.step), content.getvalue())
        self._saved.append((number, record.step))
        if len(self._saved) >= MOST_SAVED:
            self._thin()

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Do nothing: every file is complete once written."""

    def state_dict(self) -> dict[str, Any]:
        """Return the number of records so far, the stride and the saved records."""
        saved = [list(pair) for pair in self._saved]
        return {"records": self._records, "stride": self._stride, "saved": saved}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError unless the state is valid for this sink."""
        check_folder(self._folder)
        check_int("stride", state["stride"], minimum=1)
        numbers = (state["records"], *(number for pair in state["saved"] for number in pair))
        for number in numbers:
            check_int("saved", number, minimum=0)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; files that were saved later are deleted."""
        self._records, self._stride = state["records"], state["stride"]
        self._saved = [(number, step) for number, step in state["saved"]]
        kept = {step for _, step in self._saved}
        for step in saved_neurons(self._folder.parent):
            if step not in kept:
                self._path(step).unlink(missing_ok=True)

    def sync(self) -> None:
        """Do nothing: drawings are not worth the disk's time at each checkpoint."""

    def abandon(self) -> None:
        """Do nothing: no file stays open."""

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:09}.npz"

    def _thin(self) -> None:
        self._stride *= 2
        for number, step in self._saved:
            if number % self._stride:
                self._path(step).unlink(missing_ok=True)
        self._saved = [pair for pair in self._saved if pair[0] % self._stride == 0]


def saved_neurons(logdir: Path) -> list[int]:
    """List the steps with saved neurons, ascending."""
    folder = logdir / FOLDER
    return [] if folder.is_symlink() else steps_of(file.name for file in folder.glob("step-*.npz"))


def steps_of(names: Iterable[str]) -> list[int]:
    """List the steps that names of files stand for, ascending; other names are left out."""
    found = (_FILE.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def read_neurons(
    logdir: Path, step: int, opener: Callable[[str, int], int] | None = None
) -> dict[str, list[float]]:
    """Read |sig|, |perp|, a and, where it is known, the cluster of every neuron at a saved step.

    Args:
        logdir: the run directory.
        step: one of `saved_neurons`.
        opener: as Python's `open` takes it; None opens any file except links.

    Raises:
        ExpectedError: if the step was not saved, or its file is damaged or too large.
    """
    path = logdir / FOLDER / f"step-{step:09}.npz"
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        raise ExpectedError("step", f"{step} is not a saved step of {logdir.name!r}.")
    try:
        with open(path, "rb", opener=opener) as packed:
            with ZipFile(packed) as archive:
                if (size := sum(part.file_size for part in archive.infolist())) > LARGEST_FILE:
                    raise ValueError(f"{size} bytes unpacked, more than {LARGEST_FILE}")
            packed.seek(0)
            with np.load(packed, allow_pickle=False) as file:
                further = [name for name in FURTHER if name in file]
                columns = {name: file[name] for name in (*COLUMNS, *further)}
        if (count := max(column.size for column in columns.values())) > MOST_NEURONS:
            raise ValueError(f"{count} neurons, more than {MOST_NEURONS}")
        return {name: c.astype(np.float64).ravel().tolist() for name, c in columns.items()}
    except Exception as error:  # zipfile, zlib and numpy raise their own
        raise ExpectedError("run", f"{path.name!r} is damaged: {error}.") from None
