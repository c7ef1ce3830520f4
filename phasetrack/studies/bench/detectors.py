"""What the bench scores: vocabularies, and two baselines that know nothing of networks."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from phasetrack.errors import ExpectedError
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.labels import PAPERS
from phasetrack.phases.run_labels import Labels, RunLabels
from phasetrack.phases.vocabularies import chosen, kind, names
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.phases.vocabulary_set import VocabularySet
from phasetrack.studies.bench.known_run import Row
from phasetrack.studies.bench.score import ANY, Found

# Baselines read the loss at so many log-spaced records at most, and HMM has two states.
POINTS = 400
INSTALL = "Run pip install 'phasetrack[baselines]'."


class Detector(Protocol):
    """Finds boundaries in the records of a run.

    Attributes:
        name: in the table.
        names: of the boundaries and alerts that it can find; None: any.
    """

    name: str
    names: frozenset[str] | None

    def find(self, rows: Sequence[Row]) -> list[Found]:
        """Return the boundaries and alerts."""


class VocabularyDetector:
    """A vocabulary that labels the records one after the other.

    Args:
        vocabulary: the definition; None for the paper's, under its default levels.
    """

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        self._vocabulary = vocabulary
        one: Vocabulary | type[Vocabulary] = vocabulary or kind(PAPERS)
        self.name = one.name
        self.names: frozenset[str] | None = frozenset([*one.boundaries, *one.alerts])

    def find(self, rows: Sequence[Row]) -> list[Found]:
        """Label the rows, and return the boundaries and alerts."""
        first = RunLabels(Thresholds())
        if self._vocabulary is None:
            labels: Labels = first
            for step, readings in rows:
                first.update(step, readings)
        else:
            spoken = VocabularySet(first, [self._vocabulary])
            labels = spoken[self.name]
            for step, readings in rows:
                spoken.update(step, readings)
        alerts = [Found(a.name, a.step, a.step) for a in labels.alerts]
        return [*(Found(b.name, b.onset, b.detected) for b in labels.boundaries), *alerts]


class ChangePoints:
    """Change points in the mean of the log loss, by PELT (Killick, Fearnhead and Eckley, arXiv 1101.1438).

    The penalty is 3 log n times the noise variance, which the median of squared differences estimates.
    """

    name = "change points"
    names: frozenset[str] | None = None

    def find(self, rows: Sequence[Row]) -> list[Found]:
        """Return each change point as a boundary of any name, said at once."""
        ruptures = _installed("ruptures")
        steps, loss = log_losses(rows)
        if len(loss) < 10:
            return []
        noise = float(np.median(np.diff(loss) ** 2)) / (2 * 0.455)
        floor = 1e-6 * float(np.var(loss)) + 1e-12
        penalty = 3 * math.log(len(loss)) * max(noise, floor)
        ends = ruptures.Pelt(model="l2", min_size=3, jump=1).fit_predict(loss, pen=penalty)
        return [Found(ANY, steps[end], steps[end]) for end in ends[:-1]]


class HiddenStates:
    """Changes of state of a Gaussian hidden Markov model of two states over log loss and its slope, standardised."""

    name = "hidden states"
    names: frozenset[str] | None = None

    def find(self, rows: Sequence[Row]) -> list[Found]:
        """Return each change of the most probable state as a boundary of any name, said at once."""
        hmm = _installed("hmmlearn.hmm")
        # a fit that ends before its tolerance is met is judged like any other
        logging.getLogger("hmmlearn").setLevel(logging.ERROR)
        steps, loss = log_losses(rows)
        if len(loss) < 10:
            return []
        table = np.stack([loss, np.gradient(loss)], axis=1)
        spread = table.std(axis=0)
        table = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        model = hmm.GaussianHMM(2, covariance_type="diag", n_iter=50, random_state=0)
        states = model.fit(table).predict(table)
        return [Found(ANY, steps[t], steps[t]) for t in np.flatnonzero(np.diff(states)) + 1]


def log_losses(rows: Sequence[Row]) -> tuple[list[int], NDArray[np.float64]]:
    """Return steps and log of the loss at log-spaced records, `POINTS` at most."""
    known = [(s, r["loss/train"]) for s, r in rows if 0 < r.get("loss/train", -1.0) < math.inf]
    places = np.unique(np.geomspace(1, max(len(known), 1), POINTS).astype(int)) - 1
    taken = [known[place] for place in places] if known else []
    return [step for step, _ in taken], np.log([loss for _, loss in taken])


def published() -> list[Detector]:
    """Return the vocabularies of this package."""
    further = {one.name: one for one in chosen()}
    return [VocabularyDetector(further.get(name)) for name in names()]


def baselines() -> list[Detector]:
    """Return the baselines.

    Raises:
        ExpectedError: if their libraries are not installed.
    """
    for module in ("ruptures", "hmmlearn"):
        if find_spec(module) is None:
            raise ExpectedError("baselines", f"{module} is not installed.", INSTALL)
    return [ChangePoints(), HiddenStates()]


def of_name(given: str) -> Detector:
    """Return a detector by ``module:name``: a `Vocabulary`, its class, or an object with `find`; or a published name.

    Raises:
        ExpectedError: naming `vocabulary`, if there is none.
    """
    module, colon, attribute = given.partition(":")
    if not colon:
        try:
            found: object = kind(given)
        except ExpectedError as error:
            raise ExpectedError("vocabulary", error.problem, error.fix) from None
    else:
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            fix = "Pass module:name of a Vocabulary that Python can import here."
            raise ExpectedError(
                "vocabulary", f"{given!r} cannot be imported ({error}).", fix
            ) from None
    if isinstance(found, type):
        found = found()
    if isinstance(found, Vocabulary):
        return VocabularyDetector(None if found.name == PAPERS else found)
    if not callable(getattr(found, "find", None)):
        fix = "Pass a Vocabulary, or an object with name, names and find(rows)."
        raise ExpectedError("vocabulary", f"{given!r} is not a detector.", fix)
    detector: Detector = found  # type: ignore[assignment]
    return detector


def _installed(name: str):  # type: ignore[no-untyped-def]
    try:
        return import_module(name)
    except ImportError:
        raise ExpectedError("baselines", f"{name} is not installed.", INSTALL) from None
