"""What a sweep's processes are made to do in tests: work, fail, or die. Importable by name."""

import os
import signal
import time

from phasetrack.sweeps.points import Outcome


def note(job):
    """Leave a line for each attempt."""
    with (job.folder / "attempts").open("a") as file:
        file.write("".join(f"{point.name}\n" for point in job.points))
    return [Outcome(point) for point in job.points]


def die_once(job):
    """The first attempt at the first point is killed, as by a system out of memory."""
    first = not (job.folder / "attempts").exists()
    outcomes = note(job)
    if job.points[0].settings.seed == 0 and first:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return outcomes


def die_always(job):
    outcomes = note(job)
    if job.points[0].settings.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return outcomes
