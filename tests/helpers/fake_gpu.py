"""A GPU that is pretended: it computes on the host, and notes where a real one would make it wait.

Tensors on it say that they are on ``cuda:0``, or on another kind of device, such as ``mps:0``. Their values are out of the host's sight but for the
ways that a real GPU offers, and each of these is noted: reading a value, a shape that depends on
values, a copy to the host, and a copy from it of memory that is not pinned. There is no float64 on it, as
on Apple's (MPS) and some of Intel's.
"""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

GPU = torch.device("cuda:0")
# What PyTorch itself takes the GPU for: a device that every build has, and whose values none can see.
STAND_IN = torch.device("meta")
# Operations that end only once the host knows values: torch.cuda.set_sync_debug_mode sees the same.
READING = {
    aten._local_scalar_dense,
    aten.equal,
    aten.is_nonzero,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_consecutive,
    aten.unique_dim,
    aten.bincount,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPYING = {aten._to_copy, aten.copy_, aten._copy_from}


class _OnGPU(Tensor):
    """A tensor on the pretended GPU; `values` are on the host.

    Attributes:
        on: the device that all of them say.
    """

    on = GPU

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values):
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=STAND_IN,
        )
        made.values = values
        return made

    @property
    def device(self):
        return self.on

    @property
    def is_cuda(self):
        return self.on.type == "cuda"

    @property
    def is_mps(self):
        return self.on.type == "mps"

    @property
    def is_xpu(self):
        return self.on.type == "xpu"

    @property
    def is_meta(self):
        return False

    def __repr__(self):
        return f"_OnGPU({self.values})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise RuntimeError(f"{operation} on a GPU that is pretended no more")


def pretended_graph(passes, _):
    """In place of `graphed._captured`: the passes are made again, and their results put where they were."""
    made = passes()
    places = [part.detach() for part in tree_leaves(made) if isinstance(part, Tensor)]
    parameters = list(passes.__self__._net.parameters())

    def play():
        before = [parameter.grad for parameter in parameters]
        fresh = [part for part in tree_leaves(passes()) if isinstance(part, Tensor)]
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient  # of Python's own doings a graph knows nothing
        for place, new in zip(places, fresh, strict=True):
            place.copy_(new.detach())

    return play, made


class _Naming(TorchFunctionMode):
    """Where a device is asked for by name: builds without it would refuse it.

    Args:
        kind: of device.
    """

    def __init__(self, kind):
        super().__init__()
        self._kind = kind

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.device:
            return function(*args, **(kwargs or {}))
        if function is Tensor.tolist:
            return args[0].cpu().tolist()
        given = tree_map(self._named, (args, kwargs or {}))
        return function(*given[0], **given[1])

    def _named(self, value):
        device = isinstance(value, torch.device) and value.type == self._kind
        named = isinstance(value, str) and value.partition(":")[0] == self._kind
        return STAND_IN if device or named else value


class PretendedGPU(TorchDispatchMode):
    """While it is entered there is one GPU.

    Args:
        kind: the type of device that it says it is.

    Attributes:
        waits: what made the host wait, in order: names of operations.
        lacks_float64: whether it refuses float64.
    """

    lacks_float64 = True

    def __init__(self, kind="cuda"):
        super().__init__()
        self.waits = []
        self._kind = kind
        self._naming = ExitStack()

    def __enter__(self):
        self._naming.enter_context(_Naming(self._kind))
        self._naming.enter_context(mock.patch.object(_OnGPU, "on", torch.device(self._kind, 0)))
        return super().__enter__()

    def __exit__(self, *failure):
        super().__exit__(*failure)
        self._naming.close()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        kind, given = operation.overloadpacket, tree_leaves((args, kwargs))
        if kind is aten.is_pinned:
            return _is_pinned(args[0])
        if kind is aten._pin_memory:
            pinned = args[0].clone()
            pinned.is_said_to_be_pinned = True
            return pinned
        there = [value for value in given if isinstance(value, _OnGPU)]
        here = [v for v in given if isinstance(v, Tensor) and not isinstance(v, _OnGPU)]
        if kind in COPYING:
            on_gpu = self._copied(kind, args, kwargs)
        else:
            on_gpu = bool(there) or kwargs.get("device") == STAND_IN
            self._used(kind, there, here)
        if kwargs.get("device") == STAND_IN:
            kwargs["device"] = torch.device("cpu")
        known = {id(tensor.values): tensor for tensor in there}
        bare = tree_map(_bare, (args, kwargs))
        made = operation(*bare[0], **bare[1])
        if (
            on_gpu
            and self.lacks_float64
            and any(
                isinstance(value, Tensor) and value.dtype == torch.float64
                for value in tree_leaves(made)
            )
        ):
            raise TypeError(f"{operation}: this device has no float64")
        return tree_map(lambda value: _placed(value, known), made) if on_gpu else made

    def _copied(self, kind, args, kwargs):
        """Note a copy between host and GPU that the host waits for; whether its result is there."""
        if kind is aten._to_copy:
            source, target = args[0], kwargs.get("device")
            was = isinstance(source, _OnGPU)
            becomes = was if target is None else target == STAND_IN
        else:
            source, was, becomes = args[1], isinstance(args[1], _OnGPU), isinstance(args[0], _OnGPU)
        going_on = kwargs.get("non_blocking") or (kind is aten.copy_ and args[2:] == (True,))
        if was and not becomes and not going_on:
            self.waits.append("copy to the host")
        # from pageable memory even a copy that does not block is staged first
        if becomes and not was and not (going_on and _is_pinned(source)):
            self.waits.append("copy from the host")
        return becomes

    def _used(self, kind, there, here):
        """Note an operation that needs values; refuse one on both sides, as a real GPU does."""
        if not there:
            return
        if kind in READING:
            self.waits.append(str(kind).removeprefix("aten."))
        apart = [tensor for tensor in here if tensor.ndim]
        if kind in INDEXING:
            masks = any(tensor.dtype in (torch.bool, torch.uint8) for tensor in there[1:])
            self.waits += ["indexing"] * bool(apart or masks)
        elif apart:
            raise RuntimeError(f"{kind}: expected all tensors on one device, got cuda:0 and cpu")


def _is_pinned(tensor):
    return getattr(tensor, "is_said_to_be_pinned", False)


def _bare(value):
    return value.values if isinstance(value, _OnGPU) else value


def _placed(value, known):
    """A result on the GPU; what was computed in place is the tensor that it was."""
    if not isinstance(value, Tensor):
        return value
    return known.get(id(value)) if id(value) in known else _OnGPU(value)
