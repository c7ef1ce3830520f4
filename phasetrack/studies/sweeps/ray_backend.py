"""Jobs on Ray, when one machine is too small (`phasetrack[ray]`). Ray schedules and retries."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from phasetrack.errors import expected_error
from phasetrack.studies.sweeps.job import Job, compute_elsewhere, unpack
from phasetrack.studies.sweeps.point import Outcome
from phasetrack.studies.sweeps.process_backend import ATTEMPTS

LOCAL = "local"
ANSWER_SECONDS = 5.0  # that a cluster is given to answer (chosen here)


def run_on_ray(
    jobs: Iterable[Job],
    address: str,
    cores: int,
    work: Callable[[Job], tuple[list[Outcome], bytes]] = compute_elsewhere,
) -> Iterator[list[Outcome]]:
    """Compute jobs on a Ray cluster and yield their outcomes as they come.

    Run directories come back through Ray, so that its nodes need not share a file system; they need
    phasetrack installed. A worker that dies is replaced, and its job begun again.

    Args:
        jobs: what to compute.
        address: of a cluster, ``auto``, or ``local`` for one on this machine.
        cores: how many of this machine a local one may use.
        work: what computes a job; a function of a module.

    Raises:
        ExpectedError: if Ray is not installed, or nobody answers at the address.
    """
    try:
        import ray
    except ImportError:
        mend = "pip install 'phasetrack[ray]'"
        raise expected_error("ray", "Ray to be installed", "none", mend) from None
    if address == LOCAL:
        where: dict[str, Any] = {"num_cpus": cores}
    else:
        _check_answers(address)
        where = {"address": address}
    ray.init(**where, include_dashboard=False, log_to_driver=False, configure_logging=False)
    # one core for each job: Ray then fills the cluster with them
    remote = ray.remote(work).options(max_retries=ATTEMPTS - 1, num_cpus=1)
    try:
        under_way = {remote.remote(job): job for job in jobs}
        while under_way:
            (done,), _ = ray.wait(list(under_way), num_returns=1)
            job = under_way.pop(done)
            try:
                outcomes, packed = ray.get(done)
            except ray.exceptions.RayError as error:
                reason = " ".join(str(error).split())[:500]
                yield [Outcome(point, reason) for point in job.points]
                continue
            unpack(packed, job.folder)
            yield outcomes
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise ExpectedError unless somebody listens at host:port; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # such as ``auto``, which Ray resolves
    allowed = "local, auto, or the host:port of a Ray cluster"
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise expected_error("ray", allowed, f"{address} ({error})") from None
