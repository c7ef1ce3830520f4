"""Which steps are recorded: plain functions from step to bool."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from phasetrack.errors import check_float, check_int

Schedule = Callable[[int], bool]


def every(n: int, name: str = "every") -> Schedule:
    """Steps 0, n, 2n, ...; an error speaks of the argument `name`.

    >>> [step for step in range(7) if every(3)(step)]
    [0, 3, 6]
    """
    check_int(name, n, minimum=1)
    return _Every(n)


@dataclass(frozen=True)
class _Every:
    n: int

    def __call__(self, step: int) -> bool:
        return step % self.n == 0


def following(schedule: Schedule, step: int) -> int:
    """The first step after `step` for which a schedule has to be asked.

    >>> following(every(16), 20), following(log_spaced(), 20)
    (32, 21)
    """
    return step + schedule.n - step % schedule.n if isinstance(schedule, _Every) else step + 1


def log_spaced(per_decade: int = 20, base: float = 10.0) -> Schedule:
    """Step 0 and then about `per_decade` steps per factor of `base`; every step while they crowd.

    >>> [step for step in range(200) if log_spaced(per_decade=2)(step)]
    [0, 1, 4, 10, 32, 100]
    """
    check_int("per_decade", per_decade, minimum=1)
    check_float("base", base, above=1.0)

    def bucket(step: int) -> int:
        # The small offset keeps exact powers of the base in their own bucket despite rounding.
        return math.floor(per_decade * math.log(step, base) + 1e-9)

    return lambda step: step <= 1 or bucket(step) != bucket(step - 1)


def begins_stretch(step: int, before: int, per_decade: int) -> bool:
    """Whether a recorded step is the first in its stretch, of `per_decade` stretches per factor of ten.

    Unlike `log_spaced` it depends on the steps that are recorded, and so picks some under every ``every=``.

    Args:
        step: the recorded step.
        before: the step recorded before it; -1: none.
        per_decade: stretches per factor of ten.

    >>> recorded = range(0, 200, 16)
    >>> [s for s in recorded if begins_stretch(s, s - 16 if s else -1, per_decade=5)]
    [0, 16, 32, 48, 64, 112, 160]
    """
    return before < 0 or _stretch(step, per_decade) != _stretch(before, per_decade)


def _stretch(step: int, per_decade: int) -> int:
    # the small offset keeps exact powers of ten in their own stretch despite rounding
    return math.floor(per_decade * math.log10(step) + 1e-9) if step else -1


def as_schedule(schedule: int | Schedule, name: str = "every") -> Schedule:
    """An integer n means every(n); a callable is taken as it is; an error speaks of `name`."""
    return schedule if callable(schedule) else every(schedule, name)


def schedule_name(schedule: Schedule) -> str:
    """Return a text that is the same in every process that was given the same schedule."""
    if isinstance(schedule, _Every):
        return repr(schedule)
    return str(getattr(schedule, "__qualname__", type(schedule).__qualname__))
