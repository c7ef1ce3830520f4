"""Readings keep their digits where the training's own products are rounded, to 16 bits or to TensorFloat32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

EXACT = "ieee"  # as PyTorch calls float32 products that are not rounded further
UNSET = "none"  # as what it is set to further up
LEGACY_EXACT = "highest"  # likewise, where PyTorch has one setting for all devices
# Where PyTorch keeps it for each kind of device, since 2.9.
_SETTINGS: dict[str, Any] = {
    kind: backend.matmul
    for kind, backend in {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}.items()
    if hasattr(getattr(backend, "matmul", None), "fp32_precision")
}


def is_away(tensor: Tensor) -> bool:
    """Whether a tensor is on another device than the host, of whatever kind: reading it waits for that."""
    return tensor.device.type != "cpu"


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor as float64, or on a device that may lack it (MPS, some XPU) as float32 at least."""
    if not is_away(tensor):
        return tensor.double()
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def unrounded(like: Tensor) -> AbstractContextManager[object]:
    """Where products on the device of `like` are taken in their own dtype.

    Within torch.autocast too, and where float32 products are let be rounded, by
    `torch.set_float32_matmul_precision` or the settings under `torch.backends`.
    """
    kind = like.device.type
    cast, rounded = torch.is_autocast_enabled(kind), _rounds(kind)
    return _exact(kind, cast, rounded) if cast or rounded else nullcontext()


@contextmanager
def float32_products(kind: str, precision: str) -> Iterator[None]:
    """A device's float32 products are taken so within, and as before afterwards; the process's setting.

    Args:
        kind: ``cpu`` or ``cuda``.
        precision: as PyTorch calls it: ``ieee``, ``tf32`` or ``bf16``.
    """
    settings = _SETTINGS[kind]
    before = settings.fp32_precision
    settings.fp32_precision = precision
    try:
        yield
    finally:
        settings.fp32_precision = UNSET
        if settings.fp32_precision != before:  # it was its own, and not from further up
            settings.fp32_precision = before


def can_choose(kind: str) -> bool:
    """Whether this PyTorch has a setting for a device's float32 products alone."""
    return kind in _SETTINGS


def _rounds(kind: str) -> bool:
    if kind in _SETTINGS:
        return _SETTINGS[kind].fp32_precision not in (EXACT, UNSET)
    return torch.get_float32_matmul_precision() != LEGACY_EXACT


@contextmanager
def _exact(kind: str, cast: bool, rounded: bool) -> Iterator[None]:
    with ExitStack() as until:
        if cast:
            until.enter_context(torch.autocast(kind, enabled=False))
        if rounded and can_choose(kind):
            until.enter_context(float32_products(kind, EXACT))
        elif rounded:
            until.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision(LEGACY_EXACT)
        yield
