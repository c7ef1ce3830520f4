"""Windows and macOS, pretended on Linux: what they lack is taken away from this process for good.

Call `pretend` once other libraries are imported, which have code of their own for each system, and before
phasetrack is.
"""

import contextlib
import ctypes
import os
import signal
import sys
import types
from pathlib import Path

O_BINARY = 0x4000_0000
# What os has on POSIX systems alone.
POSIX_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY")
POSIX_CALLS = ("register_at_fork", "sysconf", "fork", "mkfifo")
POSIX_SIGNALS = ("SIGKILL", "SIGHUP", "SIGXFSZ")


def pretend(system):
    """Take away what a system lacks: ``windows`` or ``macos``."""
    import torch

    _without(os, "sched_getaffinity")
    torch.backends.mkldnn.is_available = lambda: False
    torch.cpu.get_capabilities = dict
    if system == "windows":
        _keep_locks()
        ctypes.CDLL = _refused
        sys.modules["fcntl"] = None
        _without(os, *POSIX_FLAGS, *POSIX_CALLS)
        _without(signal, *POSIX_SIGNALS)
        use_text_mode(os, setattr)
        _refuse_folders()
    else:
        ctypes.CDLL = _WithoutMallopt
        import fcntl

        fcntl.F_FULLFSYNC = 51
        real = fcntl.fcntl
        fcntl.fcntl = lambda file, what, *rest: 0 if what == 51 else real(file, what, *rest)


def use_text_mode(module, put):
    """Make of every line feed two characters in a file that is opened without O_BINARY, as Windows does.

    Args:
        module: `os`.
        put: sets an attribute of it, as `setattr` and `monkeypatch.setattr` do.

    Returns:
        The descriptors that were opened so and not otherwise since.
    """
    text, opened, written = set(), module.open, module.write

    def open_file(path, flags, mode=0o777, **named):
        descriptor = opened(path, flags & ~O_BINARY, mode, **named)
        (text.discard if flags & O_BINARY else text.add)(descriptor)
        return descriptor

    def write(descriptor, content):
        if descriptor not in text:
            return written(descriptor, content)
        written(descriptor, bytes(content).replace(b"\n", b"\r\n"))
        return len(content)

    put(module, "O_BINARY", O_BINARY)
    put(module, "open", open_file)
    put(module, "write", write)
    return text


def _keep_locks():
    """Leave to filelock what it needs here: on Windows it has code of its own."""
    from filelock import _unix

    _unix.os = types.SimpleNamespace(**vars(os))


def _without(module, *names):
    for name in names:
        with contextlib.suppress(AttributeError):
            delattr(module, name)


def _refuse_folders():
    """Open no directory, and no file by its name in one."""
    opened = os.open

    def open_file(path, flags, mode=0o777, *, dir_fd=None):
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if not isinstance(path, int) and Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, mode)

    os.open = open_file
    os.supports_dir_fd = frozenset()


def _refused(name=None, *_, **__):
    raise OSError(f"no library {name}")


class _WithoutMallopt:
    """The C library of macOS."""

    def __init__(self, *_, **__):
        pass
