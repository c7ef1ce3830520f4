"""Checkpoints of a run: written in one piece with a checksum, the last two kept, read as data.

A checkpoint is a file of `torch.save`, which `torch.load` reads with ``weights_only=True``. It is a zip
archive; its comment holds the SHA-256 of all bytes before the comment.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from phasetrack.errors import ExpectedError, check_float, check_int
from phasetrack.storage.atomic_files import move_file, read_limited, replace_file, sync_folder
from phasetrack.storage.tensor_file import read_tensors

CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
FORMAT = 1
# Seconds between two checkpoints: the time that a killed run has to compute again.
CHECKPOINT_SECONDS = 60.0
# Share of a run's time that checkpoints may take: a slow disk or a large network makes them rarer.
CHECKPOINT_SHARE = 0.01
# Bytes of a checkpoint at most, as it may come from elsewhere: a first layer of 2^20 x 2^10.
LARGEST_CHECKPOINT = 2**33

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64


class CheckpointSchedule:
    """Decides when a run saves a checkpoint.

    Args:
        steps: save at every multiple of it; None leaves the decision to the clock.
        seconds: without `steps`, save after so many seconds (None: `CHECKPOINT_SECONDS`), or later if
            saving took more than `CHECKPOINT_SHARE` of the time.
        clock: returns seconds that never go back.

    Raises:
        ExpectedError: naming ``checkpoint_steps`` or ``checkpoint_seconds``.
    """

    def __init__(
        self,
        steps: int | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if steps is not None:
            check_int("checkpoint_steps", steps, minimum=1)
        self._steps = steps
        seconds = CHECKPOINT_SECONDS if seconds is None else seconds
        self._seconds = check_float("checkpoint_seconds", seconds, minimum=0.0)
        self._clock = clock
        self._due = clock() + self._seconds

    def due(self, step: int) -> bool:
        """Whether to save a checkpoint before step `step`."""
        return self._clock() >= self._due if self._steps is None else step % self._steps == 0

    def saved(self, cost: float) -> None:
        """Schedule the next checkpoint, given the seconds that saving this one took."""
        self._due = self._clock() + max(self._seconds, cost / CHECKPOINT_SHARE)


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a state as the run's last checkpoint, and keep the one before.

    Afterwards the checkpoint survives a power cut. A process that is killed while writing leaves the
    old checkpoint or the new one.

    Args:
        folder: the run directory.
        state: tensors, numbers, texts, lists and mappings.
    """
    archive = io.BytesIO()
    torch.save({"format": FORMAT, **state}, archive)
    body = archive.getvalue()[:-2]  # the comment's length, which was 0
    comment = _MARK + hashlib.sha256(body).hexdigest().encode()
    scratch = folder / ".checkpoint.next"
    replace_file(scratch, body + _COMMENT.to_bytes(2, "little") + comment, sync=True)
    with suppress(FileNotFoundError):
        move_file(folder / CHECKPOINT, folder / PREVIOUS)
    move_file(scratch, folder / CHECKPOINT)
    sync_folder(folder)


def largest_state(d: int, width: int) -> int:
    """Return the bytes that a checkpoint of such a network can have; more is not one of that run.

    Weights, optimizer and tracker hold each number a few times, at most 8 bytes long.
    """
    return min(LARGEST_CHECKPOINT, 2**26 + 256 * (d + 4) * width)


def load_checkpoint(path: str | Path, most: int = LARGEST_CHECKPOINT) -> dict[str, Any]:
    """Read a checkpoint with its tensors on the host, after checking every byte.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        ExpectedError: if the file is damaged or of a format that this version does not read.
    """
    content = read_limited(Path(path), most)
    body, comment = content[: -_COMMENT - 2], content[-_COMMENT:]
    if comment != _MARK + hashlib.sha256(body).hexdigest().encode():
        raise ExpectedError("resume", f"{str(path)!r} is damaged: its checksum does not match.")
    state = read_tensors(content, str(path))
    if state.get("format") != FORMAT:
        found = repr(state.get("format"))[:80]
        problem = f"{str(path)!r} has the format {found}; this version reads the format {FORMAT}."
        raise ExpectedError("resume", problem, "Resume with the version that wrote it.")
    return state


def checkpoints(folder: Path) -> Iterator[Path]:
    """List the checkpoints of a run directory, the last one first."""
    for name in (CHECKPOINT, PREVIOUS):
        path = folder / name
        if path.exists() or path.is_symlink():
            yield path
