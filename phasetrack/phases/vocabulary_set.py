"""VocabularySet: every vocabulary that speaks about a run, by name, fed record after record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from phasetrack.phases.history import History
from phasetrack.phases.labels import PAPERS
from phasetrack.phases.run_labels import Labels, RunLabels
from phasetrack.phases.vocabulary import Vocabulary


def column(name: str) -> str:
    """Return the metric that holds a vocabulary's labels.

    >>> column("lazy-rich")
    'phase/lazy-rich'
    """
    return f"phase/{name}"


class VocabularySet(Mapping[str, Labels]):
    """The labels of several vocabularies; the paper's stands first.

    A vocabulary costs nothing until its readings are recorded, and afterwards only at the records that have
    one of them; the records between keep its label.

    Args:
        first: the paper's labels, which their owner updates.
        further: the other vocabularies.
    """

    def __init__(self, first: RunLabels, further: Sequence[Vocabulary] = ()) -> None:
        self.first = first
        self.further = {one.name: Labels(one) for one in further}
        self.failed: dict[str, str] = {}  # name to the exception that ended a vocabulary
        self._sort()

    def _sort(self) -> None:
        """Tell the vocabularies that speak from those that wait for a metric, and list the metrics."""
        there = {n: one for n, one in self.further.items() if n not in self.failed}
        self._speaking = {
            column(n): (one, one.vocabulary.metrics) for n, one in there.items() if one.applies
        }
        self._waiting = [one for one in there.values() if not one.applies]
        self._awaited = frozenset().union(*(one.awaited for one in self._waiting))

    def __getitem__(self, name: str) -> Labels:
        """Return the labels of a vocabulary; KeyError lists the names."""
        if name == self.first.vocabulary.name:
            return self.first
        if name not in self.further:
            raise KeyError(f"no vocabulary {name!r} was chosen; there are {list(self)}")
        return self.further[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        yield self.first.vocabulary.name
        yield from self.further

    def __len__(self) -> int:
        """Count the vocabularies."""
        return 1 + len(self.further)

    def __repr__(self) -> str:
        """Each name with its label."""
        return f"<{', '.join(f'{name}: {labels.label}' for name, labels in self.items())}>"

    def update(
        self,
        step: int,
        readings: Mapping[str, float],
        failed: Callable[[str, Exception], object] | None = None,
    ) -> dict[str, float]:
        """Label one record by every vocabulary but the first, and return the columns ``phase/<name>``.

        Args:
            step: of the record.
            readings: metric name to value.
            failed: called with the name of a vocabulary that raises, which then speaks no more; None raises.
        """
        names = readings.keys()
        if self._awaited and not names.isdisjoint(self._awaited):
            for one in self._waiting:
                one.notice(readings)
            self._sort()
        columns = {}
        for key, (one, metrics) in list(self._speaking.items()):
            if not names.isdisjoint(metrics):
                try:
                    one.update(step, readings)
                except Exception as error:
                    if failed is None:
                        raise
                    name = one.vocabulary.name
                    self.failed[name] = f"the vocabulary failed: {error!r}"
                    self._sort()
                    failed(name, error)
                    continue
            columns[key] = one.number
        return columns

    def summary(self, undefined: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the entry ``vocabularies`` of ``summary.json``.

        Args:
            undefined: metric to the reason why it could not be read.
        """
        told = {name: labels.summary(undefined) for name, labels in self.items()}
        for name, reason in self.failed.items():
            told[name] |= {"applies": False, "reason": reason}
        return told

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every vocabulary but the first."""
        return {name: labels.state_dict() for name, labels in self.further.items()}

    def restored(self, first: RunLabels, state: Mapping[str, Any]) -> VocabularySet:
        """Return the vocabularies of these as they continue from a state; one that it lacks begins anew."""
        found = VocabularySet(first, [labels.vocabulary for labels in self.further.values()])
        for name in found.further.keys() & state.keys():
            found.further[name] = found.further[name].restored(state[name])
        found._sort()
        return found


def label_again(
    vocabularies: Iterable[Vocabulary],
    rows: Iterable[tuple[int, Mapping[str, float]]],
    first: RunLabels,
) -> tuple[VocabularySet, History]:
    """Label recorded rows by vocabularies, whatever levels they were recorded under.

    Args:
        vocabularies: beside the paper's.
        rows: step and readings of each record.
        first: the paper's labels, which are updated too.

    Returns:
        All of them, and the columns ``phase/<name>`` of the rows that have one: step and values.
    """
    found = VocabularySet(first, list(vocabularies))
    columns = History()
    for step, readings in rows:
        verdict = first.update(step, readings)
        own = {"phase/id": float(verdict.phase.value), column(PAPERS): float(verdict.phase.value)}
        columns.append(step, own | found.update(step, readings))
    return found, columns
