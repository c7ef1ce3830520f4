"""Whether the means of the classes can stand for the data's clusters, where nobody declared any (theory.md 15)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.cluster_means import CLEAR
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.samples import class_labels, column

# Samples from which on the test is made, and samples of each class in it.
LEAST_SAMPLES = 256
LEAST_OF_A_CLASS = 4
# Standard errors by which the nearest mean has to tell more labels than the largest class has.
LABEL_ERRORS = 4.0


class ClassClusters(NamedTuple):
    """The outcome.

    Attributes:
        geometry: clusters at the means; None where they cannot stand for clusters.
        sentence: the outcome in words, with its numbers.
    """

    geometry: ClusterGeometry | None
    sentence: str


def class_clusters(inputs: Tensor, targets: Tensor, classes: int) -> ClassClusters:
    """Take the means of the classes as clusters where they differ beyond their errors and tell labels.

    Every pair of means has to differ by more than noise does, `CLEAR` standard deviations of it
    (`model.cluster_means`); the means of one half have to tell labels of the other half; and their span has to
    leave out a part of the input space.

    Args:
        inputs: distinct samples (m, d).
        targets: (m,), (m, 1), or one-hot rows (m, n).
        classes: number of classes that the network distinguishes.
    """
    try:
        labels = class_labels("targets", column("targets", targets))
    except ExpectedError:
        return ClassClusters(None, "the targets are not classes")
    counts = torch.unique(labels, return_counts=True)[1]
    if len(counts) != classes:
        return ClassClusters(None, f"{len(counts)} classes of {classes} were seen")
    if len(labels) < LEAST_SAMPLES or counts.min() < LEAST_OF_A_CLASS:
        few = f"{len(labels)} distinct samples, {int(counts.min())} of the rarest class"
        return ClassClusters(None, f"only {few}, were seen")
    x = inputs.detach().cpu().double()
    try:
        geometry = ClusterGeometry.from_data(x, labels)
        told, majority, deviation = _told(x, labels)
    except ExpectedError as refused:
        return ClassClusters(None, refused.problem.rstrip("."))
    if geometry.separated < 1:
        return ClassClusters(
            None,
            f"the means of the classes do not differ by more than their errors in "
            f"{1 - geometry.separated:.0%} of the pairs of classes",
        )
    if geometry.signal_dim == geometry.dim:
        return ClassClusters(None, "the means of the classes span all of the input space")
    if told <= majority + LABEL_ERRORS * deviation:
        return ClassClusters(
            None,
            f"the nearest mean of a class tells {told:.0%} of the labels of further samples, where "
            f"{majority:.0%} are guessed",
        )
    return ClassClusters(
        geometry,
        f"The means of the {classes} classes are taken as the data's clusters: on {len(labels)} distinct samples "
        f"each two differ by more than {CLEAR:g} standard deviations of noise, and the nearest mean tells "
        f"{told:.0%} of the labels of further samples, where {majority:.0%} are guessed.",
    )


def _told(x: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Return the labels that means of one half tell of the other, those guessed, and the standard error."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0), device="cpu")
    one, other = order.chunk(2)
    half = ClusterGeometry.from_data(x[one], labels[one])
    owners = half.classes if half.class_count > 2 else half.labels
    told = float((owners[half.assign(x[other])] == labels[other]).double().mean())
    majority = float(torch.unique(labels[other], return_counts=True)[1].max()) / len(other)
    return told, majority, math.sqrt(majority * (1 - majority) / len(other)) + 1 / len(other)
