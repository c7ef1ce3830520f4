"""Jobs of a sweep for tests: they leave a line per attempt, or kill their worker. Importable by name."""

import io
import os
import signal
import tarfile
import time

from phasetrack.studies.sweeps.point import PointOutcome


def note(job):
    """Append a line per point to the file `attempts`."""
    with (job.folder / "attempts").open("a") as file:
        file.write("".join(f"{point.name}\n" for point in job.points))
    return [PointOutcome(point) for point in job.points]


def die_once(job):
    """Kill the worker at the first attempt at the first point, as a system out of memory would."""
    first = not (job.folder / "attempts").exists()
    outcomes = note(job)
    if job.points[0].settings.seed == 0 and first:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return outcomes


def die_once_elsewhere(job):
    """`die_once` for Ray: return outcomes and an archive of the run directories."""
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w").close()
    return die_once(job), packed.getvalue()


def die_always(job):
    """Kill the worker at every attempt at the first point."""
    outcomes = note(job)
    if job.points[0].settings.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return outcomes
