"""Requests to stop, taken between two steps and not within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):  # the terminal was closed; Windows has no such signal
    NAMES[signal.SIGHUP] = "terminated"


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGHUP while it is entered; a second one raises KeyboardInterrupt at once.

    In other threads than the main one, where no handler can be set, it notes nothing.

    Attributes:
        received: ``interrupted`` or ``terminated``; empty until then.
    """

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in NAMES:
                if signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGINT:
                    continue  # nohup: the run outlives its terminal
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Set the handlers of before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = NAMES[signal.Signals(number)]
