"""KeptResults: a claim's result on a block of seeds, kept in a folder, so that hours of work survive their end. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from phasetrack.storage.atomic_files import make_output_folder, write_output
from phasetrack.studies.claims.findings import ClaimResult

FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """What a file holds: a result, and all that it depends on beside the code.

    Attributes:
        format: of the file.
        number: of the claim.
        quick: whether its sizes are small.
        seed: the block's first seed.
        phasetrack: version that made it.
        torch: version that made it.
        result: the result.
    """

    format: int
    number: int
    quick: bool
    seed: int
    phasetrack: str
    torch: str
    result: ClaimResult


def _plain(value: object) -> object:
    """A chart's ranges, arrays and numpy numbers as lists and numbers."""
    return (
        value.tolist() if isinstance(value, np.ndarray | np.generic) else list(cast("range", value))
    )


class KeptResults:
    """The results in a folder.

    A result of other versions, sizes or seeds is not taken: it is made again and replaced.

    Args:
        folder: made where it is missing.
        quick: whether sizes are small.

    Raises:
        ExpectedError: naming `keep`, if the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self._folder, self._quick = make_output_folder(folder, "keep"), quick

    def find(self, number: int, seed: int) -> ClaimResult | None:
        """Return the result of a claim on the block that begins at a seed; None where it has to be made."""
        try:
            content = self._path(number, seed).read_bytes()
            kept = msgspec.msgpack.decode(content, type=Kept)
        except (OSError, msgspec.MsgspecError):
            return None
        return kept.result if kept == self._record(number, seed, kept.result) else None

    def keep(self, number: int, seed: int, result: ClaimResult) -> None:
        """Write a result, in one piece."""
        content = msgspec.msgpack.encode(self._record(number, seed, result), enc_hook=_plain)
        write_output(self._path(number, seed), content, "keep")

    def _record(self, number: int, seed: int, result: ClaimResult) -> Kept:
        versions = version("phasetrack"), version("torch")
        return Kept(FORMAT, number, self._quick, seed, *versions, result)

    def _path(self, number: int, seed: int) -> Path:
        sizes = "quick" if self._quick else "full"
        return self._folder / f"claim-{number:02}-{sizes}-{seed}.msgpack"
