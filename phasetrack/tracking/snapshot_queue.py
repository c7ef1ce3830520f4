"""SnapshotQueue: snapshots that wait to be measured together."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice

from phasetrack.tracking.snapshot import Snapshot

# Most snapshots measured together, unless something reads the tracker before: Python's cost of a
# reading is then so well shared that the hooks cost more. Fewer where snapshots are large.
MAX_STACK = 128
# Most seconds that a snapshot waits while steps go on: long enough to fill a stack where steps take
# milliseconds, short enough for a person who watches the run.
LATEST = 1.0


class SnapshotQueue:
    """Snapshots of one state each, in the order of their steps.

    Args:
        limit: most snapshots measured together.
        patience: most seconds that a snapshot waits; None takes `LATEST`, infinity waits for a full
            stack.
    """

    def __init__(self, limit: int = MAX_STACK, patience: float | None = None) -> None:
        self._limit, self._patience = limit, patience
        self._waiting: deque[Snapshot] = deque()
        self._any_measured = False
        self._room = 1
        self._since = self._last = -math.inf

    def __len__(self) -> int:
        """The number of snapshots that wait."""
        return len(self._waiting)

    def append(self, snapshot: Snapshot) -> bool:
        """Add a snapshot; return whether the queue should be measured now."""
        now = time.monotonic()
        if not self._waiting:
            self._since, self._room = now, min(self._limit, snapshot.max_stack)
        self._waiting.append(snapshot)
        # the next snapshot will come about as long after this one as this one came after the last
        expected, self._last = now - self._since + now - self._last, now
        late = expected >= (LATEST if self._patience is None else self._patience)
        return late or len(self._waiting) >= self._room or not self._any_measured

    def head(self) -> list[Snapshot]:
        """Return the snapshots at the head of the queue that can be stacked."""
        one = self._waiting[0]
        # the first of all stands alone: no state comes before it
        most = one.max_stack if self._any_measured else 1
        return list(self._alike(one, most))

    def _alike(self, one: Snapshot, most: int) -> Iterator[Snapshot]:
        yield one
        for other in islice(self._waiting, 1, most):
            if not one.can_stack_with(other):
                return
            yield other

    def pop(self) -> None:
        """Remove the first snapshot, which has been measured."""
        self._waiting.popleft()
        self._any_measured = True

    def restart(self, *, any_measured: bool) -> None:
        """Drop every snapshot, and say whether any state was measured before the next one."""
        self._waiting.clear()
        self._any_measured = any_measured
