"""BatchExchange: of several processes that train one model, each reads the whole batch or its own part.

The processes exchange their parts of a recorded step through the key-value store of their process
group, and every wait has a time limit. No collective is entered: a process without a tracker, or
one whose hook fails, cannot stop the training of the rest.

The first process of the group gathers the parts and publishes the batch, so that one process decides
whether a step's batch is whole. A process that leaves withdraws the name under which it takes part,
and the rest read their own parts from then on.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.nn.parallel import DistributedDataParallel

from phasetrack.errors import ExpectedError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup  # some builds of PyTorch have none

# Seconds that the first process waits for the parts of a step; the rest wait twice as long for the
# batch. All processes come out of the same backward pass, so that waits last milliseconds.
EXCHANGE_LIMIT = 5.0
# Seconds between two looks into the store, which double from the first to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1e-4, 1e-2
# Numbers of a parameter by which processes recognise that they train the same model.
SAMPLED = 4096
# The content of a key that does not exist.
ABSENT = b"absent"

Processes: TypeAlias = "ProcessGroup | Literal['auto'] | None"
Part = TypeVar("Part")


class BatchExchange:
    """Exchanges the parts of recorded batches among the processes that train one model.

    Args:
        model: the model as `attach` was given it.
        processes: the group whose processes train the model together; ``"auto"`` takes that of
            DistributedDataParallel, around the model or within it; None reads the own part.
        parameters: the watched parameters, which are equal in all processes.
        schedule: text that names the recorded steps, equal in all processes.
        keeps_inputs: whether a probe reads the inputs, which stay in their process.
        say: called once, with `note`, when readings begin to be of the own part.
        limit: seconds to wait for the parts of a step.

    Attributes:
        is_first: whether this process writes the run's files, as the first of those that train the model.
        note: why readings are of this process's part of the batch; empty while they are of the whole.
    """

    def __init__(
        self,
        model: nn.Module,
        processes: Processes = "auto",
        *,
        parameters: Sequence[Tensor] = (),
        schedule: str = "",
        keeps_inputs: bool = False,
        say: Callable[[str], object] = lambda _: None,
        limit: float = EXCHANGE_LIMIT,
    ) -> None:
        self._parameters, self._schedule = list(parameters), schedule
        self._keeps_inputs, self._say, self._limit = keeps_inputs, say, limit
        self._group: ProcessGroup | None = None
        self._wrapper: Callable[[], DistributedDataParallel | None] = lambda: None
        self._looks = processes is not None  # for a wrapper that runs the model's forward passes
        self._owner = os.getpid()  # a forked child has a copy, and leaves the store alone
        self._entered = False
        self._slots = ""  # prefix of the keys under which the processes of this model take part
        self._names: dict[int, str] = {}  # process to the name of its tracker
        self.note = ""
        if processes == "auto":
            wrapper = _wrapper_of(model, self._parameters)
            if wrapper is not None:
                self._is_within(wrapper)
        elif processes is not None:
            self._group = _checked(processes)
        self.is_first = _rank_of(self._group) == 0

    @property
    def shared(self) -> bool:
        """Whether several processes are known to train the model."""
        return self._group is not None and self._group.size() > 1

    @property
    def whole(self) -> bool:
        """Whether readings are of the whole batch."""
        return not self.note

    def on_forward(self) -> None:
        """Look, once, whether DistributedDataParallel is running the model's forward pass."""
        if not self._looks or is_dynamo_compiling():
            return
        self._looks = False
        wrapper = getattr(DistributedDataParallel, "_active_ddp_module", None)
        if wrapper is not None:
            self._is_within(wrapper)

    def gather(self, step: int, pack: Callable[[], Part]) -> list[Part] | None:
        """Return the parts of all processes in their order, or None for the own part; never raises.

        Args:
            step: the recorded step.
            pack: makes this process's part, of picklable values on the host.
        """
        if not self.shared or self.note or os.getpid() != self._owner:
            return None
        try:
            self._check()
            return self._exchanged(step, pickle.dumps(pack()))
        except _OwnPartError as reason:
            self._read_own_part(step, str(reason))
        except Exception as error:  # the store is gone, for example
            self._read_own_part(step, f"The exchange failed ({error!r}).")
        return None

    def leave(self) -> None:
        """Take part no more; the rest read their own parts from then on. May be called again."""
        if self._entered and os.getpid() == self._owner:
            self._entered = False
            with suppress(Exception):  # the process group may be gone
                self._store.delete_key(self._slot(self._rank))
        self._looks, self._group, self._parameters = False, None, []

    # --- who takes part ----------------------------------------------------------------------

    def _is_within(self, wrapper: DistributedDataParallel) -> None:
        self._wrapper = weakref.ref(wrapper)
        if self._group is None:
            self._group = wrapper.process_group

    def _check(self) -> None:
        """Raise _OwnPartError where no exchange is possible, which holds in all processes alike."""
        if self._keeps_inputs:
            raise _OwnPartError("A probe needs the inputs, which stay in their process.")
        config = getattr(self._wrapper(), "_join_config", None)
        if getattr(config, "enable", False):
            raise _OwnPartError("Join lets the processes have different numbers of batches.")

    @property
    def _rank(self) -> int:
        assert self._group is not None
        return self._group.rank()

    @property
    def _store(self) -> Any:
        """The key-value store of the group, which no collective uses once it is set up."""
        group: Any = self._group
        if hasattr(group, "get_group_store"):
            return group.get_group_store()
        return torch.distributed.distributed_c10d._get_process_group_store(group)

    def _slot(self, rank: int) -> str:
        return f"{self._slots}/{rank}"

    def _enter(self, step: int) -> None:
        """Take part from a step on, under a name that no tracker has had before."""
        identity = hashlib.sha256(f"{step} {self._schedule}".encode())
        for parameter in self._parameters:
            identity.update(_sampled_bytes(parameter))
        self._slots = f"phasetrack/{identity.hexdigest()}"
        self._names[self._rank] = uuid.uuid4().hex
        self._store.set(self._slot(self._rank), self._names[self._rank])
        self._entered = True

    def _read_own_part(self, step: int, reason: str) -> None:
        self.leave()
        self.note = (
            f"From step {step} on, readings are of this process's part of the batch. {reason}"
        )
        self._say(self.note)

    # --- the exchange ------------------------------------------------------------------------

    def _exchanged(self, step: int, own: bytes) -> list[Any]:
        """Give the own part away, and return those of all processes."""
        assert self._group is not None
        if not self._entered:
            self._enter(step)
        size, late = self._group.size(), time.monotonic() + self._limit
        if self._rank == 0:
            parts = [own, *(self._read(rank, step, late, late) for rank in range(1, size))]
            self._publish(step, pickle.dumps(parts))
        else:
            self._publish(step, own)
            try:
                parts = pickle.loads(self._read(0, step, late, late + self._limit))
            finally:  # read by the first process, or too late
                self._withdraw(self._key(self._rank, step))
            if self._store.add(self._key(0, step) + "/read", 1) == size - 1:
                self._withdraw(self._key(0, step), self._key(0, step) + "/read")
        return [pickle.loads(part) for part in parts]

    def _key(self, rank: int, step: int) -> str:
        return f"phasetrack/{self._names[rank]}/{step}"

    def _publish(self, step: int, content: bytes) -> None:
        self._store.set(self._key(self._rank, step), content)

    def _withdraw(self, *keys: str) -> None:
        for key in keys:
            self._store.delete_key(key)

    def _read(self, rank: int, step: int, unnamed: float, named: float) -> bytes:
        """Return the content that a process publishes for a step.

        Args:
            rank: the process.
            step: the step.
            unnamed: the time until which the process has to take part.
            named: the time until which a process that takes part has to publish.
        """
        pause = FIRST_PAUSE
        while True:
            present = self._is_present(rank)
            # the look comes after: a process may publish, and leave
            if rank in self._names and (content := self._look(self._key(rank, step))) != ABSENT:
                return content
            if not present and rank in self._names:
                raise _OwnPartError(f"Process {rank} takes part no more.")
            if time.monotonic() > (named if present else unnamed):
                raise _OwnPartError(
                    f"Process {rank} gave no part within {self._limit:g} s."
                    if present
                    else f"Process {rank} has no tracker that records this step: attach in every "
                    "process, with the same every=."
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _is_present(self, rank: int) -> bool:
        """Whether a process takes part; its first name is kept, and a second one is not it."""
        name = self._look(self._slot(rank))
        if name == ABSENT:
            return False
        return self._names.setdefault(rank, name.decode()) == name.decode()

    def _look(self, key: str) -> bytes:
        """Return the content of a key, or ABSENT; never waits for the key, as `Store.get` does."""
        absent = ABSENT.decode()
        return bytes(self._store.compare_set(key, absent, absent))


class _OwnPartError(Exception):
    """The batch is not whole; its message is the reason."""


def _wrapper_of(model: nn.Module, parameters: Sequence[Tensor]) -> DistributedDataParallel | None:
    """Return DistributedDataParallel around the watched parameters: the model, or a module within it."""
    watched = {id(parameter) for parameter in parameters}
    for module in model.modules():  # a compiled model holds its original as a module
        if isinstance(module, DistributedDataParallel) and any(
            id(parameter) in watched for parameter in module.parameters()
        ):
            return module
    return None


def _rank_of(group: ProcessGroup | None) -> int:
    """Return this process's number in a group, or among all processes."""
    distributed = torch.distributed
    if group is not None:
        return group.rank()
    if not distributed.is_available() or not distributed.is_initialized():
        return 0
    return int(distributed.get_rank())


def _checked(processes: object) -> ProcessGroup:
    distributed = torch.distributed
    if not distributed.is_available() or not isinstance(processes, distributed.ProcessGroup):
        raise ExpectedError(
            "processes",
            f"{processes!r} is not a process group that this process belongs to.",
            "Pass a torch.distributed.ProcessGroup, 'auto' or None.",
        )
    return processes


def _sampled_bytes(values: Tensor) -> bytes:
    flat = values.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLED)].cpu().contiguous()
    return bytes(sample.view(torch.uint8).numpy())
