"""Checkpoints of a run: written in one piece with a checksum, the last two kept, read as data.

A checkpoint is a file of `torch.save`, which `torch.load` reads with ``weights_only=True``; being a
zip archive, it carries the SHA-256 of everything before it in its comment.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from phasetrack.errors import check_float, check_int, expected_error
from phasetrack.storage.atomic_files import read_limited, replace_file, sync_folder
from phasetrack.storage.tensor_file import read_tensors

CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
FORMAT = 1
# Seconds between two checkpoints unless somebody asks for steps (chosen here: what a killed run has
# to compute again).
CHECKPOINT_SECONDS = 60.0
# Share of a run's time that checkpoints by the clock may take (chosen here): a slow disk, or a
# large network, makes them rarer.
CHECKPOINT_SHARE = 0.01
# Bytes of a checkpoint from elsewhere at most (chosen here: a first layer of 2^20 x 2^10).
LARGEST_CHECKPOINT = 2**33

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64


class CheckpointSchedule:
    """When a run saves a checkpoint.

    Args:
        steps: at every so many-th step; None leaves it to the clock.
        seconds: otherwise after so many seconds, `CHECKPOINT_SECONDS` if None, or later if they
            would take more than `CHECKPOINT_SHARE` of the time.
        clock: seconds that never go back.

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
        """Whether a checkpoint is to be saved before step `step`."""
        return self._clock() >= self._due if self._steps is None else step % self._steps == 0

    def saved(self, cost: float) -> None:
        """Note that a checkpoint was saved, and the seconds it took."""
        self._due = self._clock() + max(self._seconds, cost / CHECKPOINT_SHARE)


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Make a state the run's last checkpoint, and the last one the previous.

    Once this returns a power cut spares it; a process that is killed in it leaves the one or the
    other.

    Args:
        folder: the run directory.
        state: tensors, numbers, text, lists and mappings.
    """
    archive = io.BytesIO()
    torch.save({"format": FORMAT, **state}, archive)
    body = archive.getvalue()[:-2]  # the comment's length, which was 0
    comment = _MARK + hashlib.sha256(body).hexdigest().encode()
    scratch = folder / ".checkpoint.next"
    replace_file(scratch, body + _COMMENT.to_bytes(2, "little") + comment, sync=True)
    with suppress(FileNotFoundError):
        os.replace(folder / CHECKPOINT, folder / PREVIOUS)  # noqa: PTH105
    os.replace(scratch, folder / CHECKPOINT)  # noqa: PTH105
    sync_folder(folder)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, checked from its first byte to its last, tensors on the host.

    Raises:
        ExpectedError: if it is no whole checkpoint, or one of another format.
    """
    content = read_limited(Path(path), LARGEST_CHECKPOINT)
    body, comment = content[: -_COMMENT - 2], content[-_COMMENT:]
    if comment != _MARK + hashlib.sha256(body).hexdigest().encode():
        raise expected_error("resume", f"a whole checkpoint in {path}", "a damaged file")
    state = read_tensors(content, str(path))
    if state.get("format") != FORMAT:
        found = repr(state.get("format"))[:80]
        raise expected_error("resume", f"a checkpoint of format {FORMAT} in {path}", found)
    return state


def checkpoints(folder: Path) -> Iterator[Path]:
    """The checkpoints that there are, the last one first."""
    for name in (CHECKPOINT, PREVIOUS):
        path = folder / name
        if path.exists() or path.is_symlink():
            yield path
