"""Every neuron at some steps of a run: what the neuron view shows, read without torch.

Steps are saved evenly over a run of unknown length: every record at first; whenever `MOST_SAVED` are
there, every other one goes and the distance doubles.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from phasetrack.errors import check_int, expected_error
from phasetrack.phases.history import History, Record
from phasetrack.storage.atomic_files import check_folder, replace_file

FOLDER = "neurons"
# Files of one run at most (chosen here: about a megabyte at width 512).
MOST_SAVED = 100
# Neurons of one file at most, and unpacked bytes of it, for files from elsewhere (chosen here).
MOST_NEURONS = 200_000
LARGEST_FILE = 3 * 8 * MOST_NEURONS + 2**16
# Columns of a file, and the distributions of a record that they hold.
COLUMNS = {
    "signal": "neurons/signal",
    "perp": "neurons/perp",
    "second_layer": "neurons/second_layer",
}


class NeuronSink:
    """Writes ``neurons/step-<step>.npz``: float32 (p,) arrays `signal`, `perp`, `second_layer`.

    Args:
        logdir: the run directory.
    """

    state_key = "neurons"

    def __init__(self, logdir: Path) -> None:
        self._folder = logdir / FOLDER
        self._records, self._stride = 0, 1
        self._saved: list[tuple[int, int]] = []  # number of the record, and its step

    def write(self, record: Record) -> None:
        """Save the record's neurons, if its turn has come."""
        number, self._records = self._records, self._records + 1
        if number % self._stride or not record.distributions.keys() >= set(COLUMNS.values()):
            return
        check_folder(self._folder).mkdir(exist_ok=True)
        columns = {n: record.distributions[k].astype(np.float32) for n, k in COLUMNS.items()}
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **columns)
        replace_file(self._path(record.step), content.getvalue())
        self._saved.append((number, record.step))
        if len(self._saved) >= MOST_SAVED:
            self._thin()

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Nothing is left to do: every file is complete once written."""

    def state_dict(self) -> dict[str, Any]:
        """Records seen, and those that are saved."""
        saved = [list(pair) for pair in self._saved]
        return {"records": self._records, "stride": self._stride, "saved": saved}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError if it is no state of such a sink."""
        check_folder(self._folder)
        check_int("stride", state["stride"], minimum=1)
        numbers = (state["records"], *(number for pair in state["saved"] for number in pair))
        for number in numbers:
            check_int("saved", number, minimum=0)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state; files that were saved since are deleted."""
        self._records, self._stride = state["records"], state["stride"]
        self._saved = [(number, step) for number, step in state["saved"]]
        kept = {step for _, step in self._saved}
        for step in saved_neurons(self._folder.parent):
            if step not in kept:
                self._path(step).unlink(missing_ok=True)

    def sync(self) -> None:
        """Nothing: what is drawn for people is not worth a disk's time at each checkpoint."""

    def abandon(self) -> None:
        """Nothing: no file stays open."""

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:09}.npz"

    def _thin(self) -> None:
        self._stride *= 2
        for number, step in self._saved:
            if number % self._stride:
                self._path(step).unlink(missing_ok=True)
        self._saved = [pair for pair in self._saved if pair[0] % self._stride == 0]


def saved_neurons(logdir: Path) -> list[int]:
    """Steps with saved neurons, ascending."""
    if (logdir / FOLDER).is_symlink():
        return []
    names = (file.stem.removeprefix("step-") for file in (logdir / FOLDER).glob("step-*.npz"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def read_neurons(
    logdir: Path, step: int, opener: Callable[[str, int], int] | None = None
) -> dict[str, list[float]]:
    """|sig|, |perp| and a of every neuron at a saved step.

    Args:
        logdir: the run directory.
        step: one of `saved_neurons`.
        opener: as that of Python's `open`, for files from elsewhere; None opens any but links.

    Raises:
        ExpectedError: if that step was not saved, or its file is damaged or larger than is read.
    """
    path = logdir / FOLDER / f"step-{step:09}.npz"
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        raise expected_error("step", f"one of the saved steps of {logdir.name}", step)
    try:
        with open(path, "rb", opener=opener) as packed:
            with ZipFile(packed) as archive:
                if (size := sum(part.file_size for part in archive.infolist())) > LARGEST_FILE:
                    raise ValueError(f"{size} bytes unpacked, more than {LARGEST_FILE}")
            packed.seek(0)
            with np.load(packed, allow_pickle=False) as file:
                columns = {name: file[name] for name in COLUMNS}
        if (count := max(column.size for column in columns.values())) > MOST_NEURONS:
            raise ValueError(f"{count} neurons, more than {MOST_NEURONS}")
        return {name: c.astype(np.float64).ravel().tolist() for name, c in columns.items()}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise expected_error(
            "run", f"neurons in {path.name}", f"a damaged file ({error})"
        ) from None
