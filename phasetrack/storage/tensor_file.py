"""Files of `torch.save`, read as data: no code in them runs, and no content unpacks to a larger size."""

from __future__ import annotations

import io
from zipfile import ZIP_STORED, ZipFile

import torch

from phasetrack.errors import ExpectedError


def read_tensors(content: bytes, what: str) -> dict[str, object]:
    """Read the mapping that a file holds, with its tensors on the host.

    Args:
        content: the file's bytes.
        what: the file's name, for errors.

    Raises:
        ExpectedError: if the file is damaged or compressed, or holds objects that need unpickling.
    """
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            if any(part.compress_type != ZIP_STORED for part in archive.infolist()):
                raise ValueError("compressed content")  # which may unpack to any size
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        problem = f"{what!r} is damaged, or needs unpickling ({type(error).__name__})."
        raise ExpectedError("run", problem) from None
    if not isinstance(state, dict):
        raise ExpectedError("run", f"{what!r} holds a {type(state).__name__}, not a mapping.")
    return state
