"""The harness: processes that die, disks that fail, files that are damaged, all on purpose.

How to break something new: a function that trains goes to `Victims.run` with a `Fault`; what is left
is read by the test. Every write of a run passes `phasetrack.storage.atomic_files`, whose system calls (`os.open`,
`os.write`, `os.ftruncate`, `os.fsync`, `os.replace`) are the places where a `Fault` strikes.
"""

import errno
import multiprocessing
import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

# what training imports only once it is needed
USED_LATER = ("torch.optim", "rich.console")
CALLS = ("open", "write", "ftruncate", "fsync", "replace")


@dataclass(frozen=True)
class Fault:
    """What happens at a system call.

    Attributes:
        at: number of the call that it strikes, from 0; it and, unless `once`, all later ones.
        kind: ``kill`` (the process dies before the call), ``kill after`` (right after it), ``tear``
            (half is written, then the process dies) or an errno, which the call fails with.
        calls: the calls that are counted.
        path: only calls on files whose path contains this.
        once: whether later calls work again.
    """

    at: int = 0
    kind: str | int = "kill"
    calls: tuple[str, ...] = CALLS
    path: str = ""
    once: bool = False


@contextmanager
def struck(fault):
    """Break the system calls of this process as `fault` says; yields the list of calls seen."""
    real = {name: getattr(os, name) for name in CALLS}
    seen = []

    def breaking(name):
        def call(first, *rest, **named):
            path = _path(first)
            if name not in fault.calls or fault.path not in path:
                return real[name](first, *rest, **named)
            number = len(seen)
            seen.append((name, path))
            if number < fault.at or (fault.once and number > fault.at):
                return real[name](first, *rest, **named)
            if isinstance(fault.kind, int):
                # a full disk takes what still fits
                if name == "write" and fault.kind == errno.ENOSPC and number == fault.at:
                    return real[name](first, rest[0][: len(rest[0]) // 2])
                raise OSError(fault.kind, os.strerror(fault.kind), path)
            if fault.kind == "tear" and name == "write":
                real[name](first, rest[0][: len(rest[0]) // 2])
            if fault.kind == "kill after":
                real[name](first, *rest, **named)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("unreachable")

        return call

    try:
        for name in CALLS:
            setattr(os, name, breaking(name))
        yield seen
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def _path(target):
    where = f"/proc/self/fd/{target}"
    return str(Path(where).readlink()) if isinstance(target, int) else os.fspath(target)


class Victims:
    """Processes that are there to be killed, forked from a server that has imported torch already.

    The server itself computes nothing, so that no thread is lost in the fork.
    """

    def __init__(self):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["helpers.victims", "torch._dynamo", *USED_LATER])
        path = os.environ.get("PYTHONPATH")
        try:  # before Python 3.12 a server does not take over where modules are looked for
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
            forkserver.ensure_running()
        finally:
            os.environ.pop("PYTHONPATH")
            if path is not None:
                os.environ["PYTHONPATH"] = path

    def run(self, target, *arguments, kill_after=None):
        """Run `target(*arguments)` in a process of its own; its exit code, -9 if it was killed.

        Args:
            kill_after: seconds after its start message at which it is killed; None waits for its end.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_begin, args=(sender, target, arguments))
        process.start()
        sender.close()
        with suppress(EOFError):  # it died before it could say that it is there
            receiver.recv()
        if kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        process.join()
        code = process.exitcode
        process.close()
        return code


def _begin(sender, target, arguments):
    sender.send(True)
    sender.close()
    target(*arguments)
