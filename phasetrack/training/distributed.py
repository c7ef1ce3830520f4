"""What the processes that train one run do together; a process alone does it all by itself.

Each holds the whole network and takes its part of every batch; DistributedDataParallel adds the
gradients up. The first process writes, and decides what has to be decided once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from phasetrack.errors import ExpectedError
from phasetrack.training.launcher_env import Place, ProcessError, place

FAILED = "failed"  # key of what the first process to fail has to say
# Parts of what torch raises where the connection to another process breaks.
BROKEN = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")

T = TypeVar("T")
# Groups are numbered, as one process may train several runs after each other.
_numbers = itertools.count()


class Processes:
    """The processes that train one run, seen from one of them.

    Args:
        place: which one this is.
        store: where they leave word for each other; None if they have no such place.
    """

    def __init__(self, place: Place, store: Any = None) -> None:
        self.place, self._store = place, store

    @property
    def count(self) -> int:
        """How many there are."""
        return self.place.count

    @property
    def leads(self) -> bool:
        """Whether this is the first one."""
        return self.place.leads

    def part(self, batch: int) -> tuple[int, int]:
        """First sample of this process's part of a batch, and the one after its last.

        >>> [Processes(Place(rank, 3)).part(8) for rank in range(3)]
        [(0, 2), (2, 5), (5, 8)]
        """
        rank, count = self.place.rank, self.count
        return rank * batch // count, (rank + 1) * batch // count

    def decided(self, make: Callable[[], T]) -> T:
        """What the first process makes, handed to all of them; so is an error that it raises."""
        if self.count == 1:
            return make()
        made, error = _attempted(make) if self.leads else (None, None)
        told: list[Any] = [made, error and self._told(error)]
        distributed.broadcast_object_list(told, src=0)
        if error is not None:
            raise error
        if told[1] is not None:
            raise told[1]
        result: T = told[0]
        return result

    def agreed(self, make: Callable[[], T]) -> T:
        """What each process makes for itself; an error of one is raised by all."""
        made, error = _attempted(make)
        if self.count > 1:
            errors: list[Exception | None] = [None] * self.count
            distributed.all_gather_object(errors, error and self._told(error))
            error = error or next((other for other in errors if other is not None), None)
        if error is not None:
            raise error
        return made  # type: ignore[return-value]

    def highest(self, number: int) -> int:
        """The largest of the numbers that the processes come with."""
        if self.count == 1:
            return number
        shared = torch.tensor(number, device="cpu")
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return int(shared)

    def joined_model(self, net: nn.Module, device: torch.device) -> nn.Module:
        """A network whose gradients are the mean over the processes; alone, the network itself."""
        if self.count == 1:
            return net
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, devices)

    def adding(self, model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Around a backward pass: gradients travel with the last one of a step only."""
        if last or not isinstance(model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return model.no_sync()

    @torch.no_grad()
    def copy_first(self, weights: Sequence[torch.Tensor]) -> None:
        """Give all processes the first one's weights."""
        if self.count > 1:
            for weight in weights:
                distributed.broadcast(weight, src=0)

    @contextmanager
    def united(self) -> Iterator[None]:
        """Within, a failure of one process ends all: it says why, they raise `ProcessError`."""
        try:
            yield
        except ExpectedError as error:  # one's mistake is mostly everyone's, and each knows it
            self._say(error)
            raise
        except Exception as error:
            if self.count == 1 or isinstance(error, ProcessError):
                raise
            said = self._said()
            if not said and not any(sign in str(error) for sign in BROKEN):
                self._say(error)
                raise
            raise ProcessError(said or "another process of the run was lost") from None

    def _told(self, error: Exception) -> Exception:
        """An error as the other processes raise it."""
        return error if isinstance(error, ExpectedError) else ProcessError(self._line(error))

    def _line(self, error: Exception) -> str:
        what = " ".join((str(error) or repr(error)).split())[:500]
        return f"process {self.place.rank} of {self.count} failed: {what}"

    def _say(self, error: Exception) -> None:
        if self._store is not None:
            with suppress(Exception):  # whoever keeps it may be gone
                self._store.set(FAILED, self._line(error))

    def _said(self) -> str:
        if self._store is not None:
            with suppress(Exception):
                if self._store.check([FAILED]):
                    return str(self._store.get(FAILED).decode())
        return ""


ALONE = Processes(Place())


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that this one trains with, joined for as long as it is entered.

    Those are the ones that torchrun started (it sets ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and
    ``MASTER_PORT``), or those of a process group that there is already; otherwise it is alone.

    Raises:
        ExpectedError: if the environment says what no launcher would, or this PyTorch cannot do it.
        ProcessError: if another process has failed.
    """
    if distributed.is_available() and distributed.is_initialized():
        here = Place(distributed.get_rank(), distributed.get_world_size(), place().local)
        processes = Processes(here)
        with processes.united():
            yield processes
        return
    here = place()
    if here.count == 1:
        yield ALONE
        return
    if not distributed.is_available():
        raise ExpectedError(
            "torchrun",
            "This PyTorch was built without torch.distributed.",
            "Train in one process, or install another build.",
        )
    from torch.distributed.rendezvous import rendezvous  # some builds have none

    met, _, _ = next(iter(rendezvous("env://")))
    store = distributed.distributed_c10d.PrefixStore(f"phasetrack/{next(_numbers)}", met)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=here.rank, world_size=here.count)
    processes = Processes(here, store)
    try:
        with processes.united():
            yield processes
    finally:
        distributed.destroy_process_group()


def _attempted(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, error
