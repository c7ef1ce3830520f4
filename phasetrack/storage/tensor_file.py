"""Files of torch.save, read as data: nothing in them is run, and nothing unpacks to more than it is."""

from __future__ import annotations

import io
from zipfile import ZIP_STORED, ZipFile

import torch

from phasetrack.errors import expected_error


def read_tensors(content: bytes, what: str) -> dict[str, object]:
    """The mapping that a file holds, tensors on the host.

    Args:
        content: the file's bytes.
        what: what an error calls the file.

    Raises:
        ExpectedError: if it is damaged, packed, or holds what only unpickling could read.
    """
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            if any(part.compress_type != ZIP_STORED for part in archive.infolist()):
                raise ValueError("packed content")  # which may unpack to any size
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the archive makes it
        found = f"a damaged file, or one that would have to be unpickled ({type(error).__name__})"
        raise expected_error("run", f"tensors in {what}", found) from None
    if not isinstance(state, dict):
        raise expected_error("run", f"a mapping in {what}", type(state).__name__)
    return state
