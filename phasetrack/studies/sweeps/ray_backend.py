"""Compute jobs on a Ray cluster (`phasetrack[ray]`), which schedules and retries them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.studies.sweeps.job import Job, compute_elsewhere, unpack
from phasetrack.studies.sweeps.point import PointOutcome
from phasetrack.studies.sweeps.process_backend import ATTEMPTS

LOCAL = "local"
ANSWER_SECONDS = 5.0  # that a cluster may take to accept a connection


def run_on_ray(
    jobs: Iterable[Job],
    address: str,
    cores: int,
    work: Callable[[Job], tuple[list[PointOutcome], bytes]] = compute_elsewhere,
) -> Iterator[list[PointOutcome]]:
    """Compute jobs on a Ray cluster and yield the outcomes of each job as it finishes.

    Ray sends the run directories back, so that its nodes need phasetrack but no common file system.
    It replaces a worker that dies and retries its job.

    Args:
        jobs: the jobs.
        address: address of a cluster, ``auto``, or ``local`` for a cluster on this machine.
        cores: number of cores that a local cluster may use.
        work: a function of a module that computes a job.

    Raises:
        ExpectedError: if Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ImportError:
        raise ExpectedError(
            "ray", "Ray is not installed.", "Run pip install 'phasetrack[ray]'."
        ) from None
    if address == LOCAL:
        where: dict[str, Any] = {"num_cpus": cores}
    else:
        _check_answers(address)
        where = {"address": address}
    ray.init(**where, include_dashboard=False, log_to_driver=False, configure_logging=False)
    # one core per job, so that Ray fills the cluster with jobs
    remote = ray.remote(work).options(max_retries=ATTEMPTS - 1, num_cpus=1)
    try:
        running = {remote.remote(job): job for job in jobs}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                outcomes, packed = ray.get(done)
            except ray.exceptions.RayError as error:
                reason = " ".join(str(error).split())[:500]
                yield [PointOutcome(point, reason) for point in job.points]
                continue
            unpack(packed, job.folder)
            yield outcomes
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise ExpectedError unless host:port accepts a connection; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # such as ``auto``, which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ExpectedError(
            "ray",
            f"No Ray cluster answers at {address!r} ({error}).",
            "Pass local, auto, or the host:port of a running cluster.",
        ) from None
