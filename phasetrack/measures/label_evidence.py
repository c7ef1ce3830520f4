"""What directions and clusters of a span tell of labels, on samples that were not used to find them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.measures.label_moment import label_moment

# Standard errors by which a span, or a direction, has to know more labels.
MIN_LABEL_ERRORS = 4.0
NEIGHBOURS = 5
TEST_SAMPLES = 1000  # of each half at most, which keeps the search for neighbours small
# Noise added to each direction, as a share of its spread: in discrete inputs a direction that is off by a
# thousandth would otherwise tell the labels by its last digits.
BLUR = 0.05
# Means per class that are tried, and rounds of each search for them.
MEANS = (2, 4, 8)
ROUNDS = 20


class HeldOut:
    """Samples seen along some directions, a half to look neighbours up in and a half to test.

    Args:
        reference: (m, n), with `labels` (m,).
        tested: (l, n), with `answers` (l,).
    """

    def __init__(self, reference: Tensor, labels: Tensor, tested: Tensor, answers: Tensor) -> None:
        self._labels, self._answers = labels[:TEST_SAMPLES], answers[:TEST_SAMPLES]
        reference, tested = reference[:TEST_SAMPLES], tested[:TEST_SAMPLES]
        spread = reference.std(dim=0, correction=0)
        spread = torch.where(spread > 0, spread, 1.0)
        draw = torch.Generator().manual_seed(0)
        self._reference, self._tested = (
            half / spread + BLUR * torch.randn(half.shape, generator=draw, device="cpu").to(half)
            for half in (reference, tested)
        )

    @cached_property
    def majority(self) -> float:
        """Share of the largest class among the tested."""
        counts: Tensor = torch.unique(self._answers, return_counts=True)[1]
        return int(counts.max()) / len(self._answers)

    @property
    def error(self) -> float:
        """Standard error of that share as an accuracy, a sample more for small halves."""
        count = len(self._answers)
        return math.sqrt(self.majority * (1 - self.majority) / count) + 1 / count

    def accuracy(self, directions: Sequence[int]) -> float:
        """Share of the tested labels that most nearest neighbours along some directions have."""
        return float(self._known(directions).mean())

    def informative(self) -> list[int]:
        """Directions that tell labels alone, or with those before them; the first where none does."""
        count = self._reference.shape[1]
        alone = {i for i in range(count) if self._tells([i], [])}
        last = -1
        best: list[int] = []
        for i in range(count):
            if self._tells(list(range(i + 1)), best):
                last, best = i, list(range(i + 1))
        kept = sorted({*range(last + 1), *alone}) or [0]
        for i in list(kept):
            without = [j for j in kept if j != i]
            if without and i not in alone and not self._tells(kept, without):
                kept = without
        return kept

    def _tells(self, directions: Sequence[int], base: Sequence[int]) -> bool:
        """Whether some directions know more labels than others do; than the largest class, where there are none."""
        if not base:
            return self.accuracy(directions) > self.majority + MIN_LABEL_ERRORS * self.error
        change = self._known(directions) - self._known(base)
        spread = float(change.std()) / len(change) ** 0.5 + 1 / len(change)
        return bool(change.mean() > MIN_LABEL_ERRORS * spread)

    def _known(self, directions: Sequence[int]) -> Tensor:
        """Whether each tested label is known, as 0 and 1."""
        chosen = list(directions)
        distances = torch.cdist(self._tested[:, chosen], self._reference[:, chosen])
        count = min(NEIGHBOURS, len(self._reference))
        votes = self._labels[distances.topk(count, largest=False).indices]
        return (votes.mode(dim=1).values == self._answers).double()


def proposed_clusters(inputs: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Centres (K, k) and their labels (K,) for inputs (m, k) in a span, simplest first."""
    # of two classes the positive one comes first
    classes: Tensor = torch.unique(labels)
    classes = classes.flip(0) if len(classes) == 2 else classes
    yield torch.stack([inputs[labels == label].mean(dim=0) for label in classes]), classes
    if len(classes) == 2:
        yield from _along_directions(inputs, labels)
    for count in MEANS:
        found = [_means(inputs[labels == label], count) for label in classes]
        owners = [label.repeat(len(rows)) for label, rows in zip(classes, found, strict=True)]
        yield torch.cat(found), torch.cat(owners)


def _along_directions(inputs: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Both sides of the mean, along each direction of the label-weighted second moment."""
    values, directions = torch.linalg.eigh(label_moment(inputs, labels))
    signs = torch.where(values > 0, 1.0, -1.0).to(labels)
    if len(torch.unique(signs)) < 2:
        return
    middle = inputs.mean(dim=0)
    if middle.norm() < MIN_LABEL_ERRORS * (inputs.var(dim=0).sum() / len(inputs)).sqrt():
        middle = torch.zeros_like(
            middle
        )  # within its standard error: then the spans of the classes split
    along = (inputs - middle) @ directions
    reach = [
        along[labels == sign, index].square().mean().sqrt() for index, sign in enumerate(signs)
    ]
    out = (directions * torch.stack(reach)).T
    yield torch.stack([middle + out, middle - out], dim=1).flatten(0, 1), signs.repeat_interleave(2)


def _means(inputs: Tensor, count: int) -> Tensor:
    """At most `count` means of a class (Lloyd's rounds, begun at points far from each other), (n, k)."""
    chosen = [inputs[(inputs - inputs.mean(dim=0)).norm(dim=1).argmax()]]
    for _ in range(count - 1):
        distance = torch.cdist(inputs, torch.stack(chosen)).amin(dim=1)
        if distance.max() == 0:
            break
        chosen.append(inputs[distance.argmax()])
    centres = torch.stack(chosen)
    for _ in range(ROUNDS):
        nearest = torch.cdist(inputs, centres).argmin(dim=1)
        centres = torch.stack(
            [inputs[nearest == i].mean(dim=0) for i in range(len(centres)) if (nearest == i).any()]
        )
    distinct: Tensor = torch.unique(centres, dim=0)
    return distinct
