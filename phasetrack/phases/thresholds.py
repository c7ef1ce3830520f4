"""Every level that decides a label or an alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from phasetrack.errors import check_float, check_int

# The thresholds that count records.
COUNTS = ("patience",)
# Thresholds that files may still hold, and that decide nothing any more.
RETIRED = frozenset({"zeta_records"})
# Records that the alerts may look back at; the time per step is proportional to it.
MOST_PATIENCE = 10_000


@dataclass(frozen=True)
class Thresholds:
    """Every number that decides a label or an alert. The paper gives none.

    Attributes:
        zeta_enter: SIGNAL_HEAVY begins at zeta* <= this: zeta_exit divided by 1.25, the most that zeta* was seen
            to rise again on its way down (theory.md 8).
        zeta_exit: SIGNAL_HEAVY ends at zeta* > this; its onset is the last crossing of this level
            (theory.md 8).
        linear_exit: value error at which the linear regime ends (theory.md 7).
        finding_drift: largest slope drift that counts as first order, which SIGNAL_FINDING requires:
            the loss then still has three quarters of its first slope.
        loss_target: loss at which a run is FITTED; theory.md 7 follows it from 1.386 to 0.05. It is that of
            the paper's problem, where the best constant output has the loss 2 log 2 = 1.386; with any other
            loss or targets the same share (3.6 per cent) of the best constant's loss is the target.
        fitted_exit: FITTED ends once the loss exceeds this multiple of its target.
        least_samples: FITTED, DIVERGED and the linear exit are judged by a mean over the last records that
            together hold so many samples; a heuristic of ours.
        standard_errors: by which that mean has to be clear of a level, and that an onset's interval
            extends to either side; about 95 per cent.
        linear_return: the linear exit is left again once the value error is under this share of its level.
        most_offset: largest distance of a cluster's mean from its centre, in half-distances between centres,
            at which the data fit the geometry; a heuristic of ours.
        least_told: share of the labels beyond the commonest one that the nearest centre has to tell, for the
            data to fit the geometry; a heuristic of ours (with 45 per cent wrong labels it is 0.1).
        least_separated: share of the pairs of clusters with different labels whose means have to differ by
            more than noise, where clusters are made of a sample; a heuristic of ours.
        imbalance_mass: IMBALANCED is checked above this heavy mass (theory.md 8).
        imbalance_balance: min/max clean margin under which a cluster counts as unserved, if its margin is not
            positive; a cluster that is learned later than others has a small positive one.
        imbalance_fall: IMBALANCED also if the balance falls at every record, to under this share of
            its first value.
        learned_loss: a mean loss under this share of the first one shows that something is learned, which
            IMBALANCED requires; SADDLE requires a loss within 1 - learned_loss of the first one. A heuristic
            of ours.
        patience: consecutive records that IMBALANCED must last, that the rates of NON_SIGNAL_GROWTH are
            averaged over, and that SADDLE waits for.
        saddle_patience: escape times without growth before SADDLE.
        saddle_growth: factor by which the signal must grow against the rest, |sig and opp|^2 / |perp|^2, to
            count as growth.
        non_signal_ratio: NON_SIGNAL_GROWTH from this ratio of the perp rate to the signal rate,
        non_signal_growth: once |perp| has grown by this factor; minibatch noise alone stays under 1.5
            at m = 2d,
        non_signal_odds: as long as the signal has grown against the rest by less than this factor; a heuristic
            of ours.
        lazy_drift: LAZY if the tangent kernel has moved by no more than this share,
        lazy_linearisation: or if the distance of the outputs from those of the network linearised at its
            start is at most this share of their way: more than half of it is linear. Both are judged by the
            protocol in docs/phases.md.
        diverged_factor: DIVERGED above this multiple of the first loss.
    """

    zeta_enter: float = 0.8
    zeta_exit: float = 1.0
    linear_exit: float = 0.1
    finding_drift: float = 0.25
    loss_target: float = 0.05
    fitted_exit: float = 2.0
    least_samples: float = 1000.0
    standard_errors: float = 2.0
    linear_return: float = 0.5
    most_offset: float = 1.0
    least_told: float = 0.1
    least_separated: float = 0.5
    imbalance_mass: float = 0.5
    imbalance_balance: float = 0.1
    imbalance_fall: float = 0.5
    learned_loss: float = 0.9
    patience: int = 10
    saddle_patience: float = 2.0
    saddle_growth: float = 2.0
    non_signal_ratio: float = 0.5
    non_signal_growth: float = 2.0
    non_signal_odds: float = 10.0
    lazy_drift: float = 0.1
    lazy_linearisation: float = 0.5
    diverged_factor: float = 10.0

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> Thresholds:
        """Return the thresholds that a file holds; those it lacks take their defaults.

        Raises:
            ExpectedError: as the class.
            TypeError: if it holds a name that no version knows.
        """
        return cls(**{name: value for name, value in dict(values).items() if name not in RETIRED})

    def __post_init__(self) -> None:
        """Check every threshold.

        Raises:
            ExpectedError: naming the threshold, its value and the allowed range.
        """
        for threshold in fields(self):
            if threshold.name not in COUNTS:
                check_float(threshold.name, getattr(self, threshold.name), above=0.0)
        for name in COUNTS:
            check_int(name, getattr(self, name), minimum=1, maximum=MOST_PATIENCE)
        check_float("zeta_exit", self.zeta_exit, minimum=self.zeta_enter)
        check_float("fitted_exit", self.fitted_exit, minimum=1.0)
        check_float("diverged_factor", self.diverged_factor, above=1.0)
