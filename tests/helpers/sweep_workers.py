"""What a sweep's processes are made to do in tests: work, fail, or die. Importable by name."""

import io
import os
import signal
import tarfile
import time

from phasetrack.studies.sweeps.point import Outcome


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


def die_once_elsewhere(job):
    """`die_once` as Ray is given it: outcomes, and the archive of the run directories."""
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w").close()
    return die_once(job), packed.getvalue()


def die_always(job):
    outcomes = note(job)
    if job.points[0].settings.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return outcomes
