"""SparseTries: tries that become rarer, of what costs time and may never succeed."""

from __future__ import annotations

# How many more times, relative to those so far, pass by between two tries. A heuristic of ours.
GROWTH = 0.25


class SparseTries:
    """Says which times are worth a try: the first ones, and then a fixed number per factor of ten.

    Args:
        first: tries at the start, one each time.

    >>> tries = SparseTries(2)
    >>> [time for time in range(1, 30) if tries.are_due()]
    [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24]
    """

    def __init__(self, first: int) -> None:
        self._first, self._times, self._next = first, 0, 1

    def are_due(self) -> bool:
        """Count one more time, and return whether it is worth a try."""
        self._times += 1
        if self._times < self._next:
            return False
        gap = 1 if self._times < self._first else max(1, round(GROWTH * self._times))
        self._next = self._times + gap
        return True
