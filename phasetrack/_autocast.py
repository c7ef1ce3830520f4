"""Readings keep their digits where the training's own products are rounded to 16 bits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def unrounded(like: Tensor) -> AbstractContextManager[object]:
    """Where products on the device of `like` are taken in their own dtype, within torch.autocast too."""
    kind = like.device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
