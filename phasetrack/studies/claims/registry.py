"""The claims in the order of their numbers. A claim's module, and torch, load when it is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from phasetrack.errors import ExpectedError

if TYPE_CHECKING:
    from phasetrack.studies.claims.findings import ClaimResult
    from phasetrack.studies.claims.lab import Lab


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and the module that tests it.

    Attributes:
        number: position in the list, from 1.
        statement: the claim in one sentence.
        module: name of a module of `phasetrack.studies.claims`. Its docstring gives the statement's
            source and the required numbers; its function `evaluate(lab)` measures them.
    """

    number: int
    statement: str
    module: str

    @property
    def docstring(self) -> str:
        """The docstring of the claim's module."""
        return (self._load().__doc__ or "").strip()

    def evaluate(self, lab: Lab) -> ClaimResult:
        """Measure the claim's findings on runs of a lab."""
        result: ClaimResult = self._load().evaluate(lab)
        return result

    def _load(self) -> ModuleType:
        return import_module(f"phasetrack.studies.claims.{self.module}")


CLAIMS = (
    Claim(1, "Two phases in this order, with one boundary between them", "claim_01_two_phases"),
    Claim(
        2, "Samples to 2 percent error grow as d times a logarithm", "claim_02_sample_complexity"
    ),
    Claim(3, "Methods with fixed features need about d^2 samples", "claim_03_fixed_features"),
    Claim(
        4,
        "Training both layers together amplifies the found features",
        "claim_04_positive_feedback",
    ),
    Claim(5, "A small share of the neurons suffices", "claim_05_few_neurons"),
    Claim(6, "Cluster margins balance in the signal-heavy phase", "claim_06_balance"),
    Claim(
        7, "The loss is close to first order until the features are found", "claim_07_first_order"
    ),
    Claim(8, "The law of one neuron forecasts the whole run", "claim_08_forecast_holds"),
    Claim(9, "A few dozen neurons suffice, and more change little", "claim_09_width"),
    Claim(
        10, "Small initial weights find features, large ones fit without", "claim_10_initial_scale"
    ),
    Claim(11, "Steps grow as 1/eta, and a batch of order d suffices", "claim_11_step_and_batch"),
    Claim(
        12,
        "The two phases persist with batches of one and with full batches",
        "claim_12_other_batches",
    ),
    Claim(
        13,
        "Signal-heaviness carries over to targets of several features",
        "claim_13_several_features",
    ),
    Claim(
        14,
        "Gaussian inputs: d polylog(d) samples, and blocks of neurons",
        "claim_14_gaussian_inputs",
    ),
    Claim(
        15,
        "Other functions and data: which results carry over from XOR",
        "claim_15_other_functions",
    ),
    Claim(
        16, "Each failure signature is detected, and healthy runs raise none", "claim_16_failures"
    ),
    Claim(
        17,
        "Phase one takes log d / eta steps, phase two log log d / eta",
        "claim_17_phase_lengths",
    ),
    Claim(18, "A neuron that is heavy at the onset stays heavy", "claim_18_heavy_neurons_stay"),
    Claim(
        19,
        "a^2 - |w|^2 is conserved, and margins follow the balance law",
        "claim_19_laws_of_growth",
    ),
    Claim(
        20,
        "Layer-wise training lets the parts outside the signal grow as the signal does",
        "claim_20_layer_wise",
    ),
    Claim(
        21,
        "In the second phase outputs are close to those of the clean network",
        "claim_21_clean_outputs",
    ),
)


def chosen(numbers: Sequence[int]) -> list[Claim]:
    """Return the claims of some numbers in the registry's order; every claim for no numbers.

    Raises:
        ExpectedError: naming `numbers`, if no claim has one of them.
    """
    known = [claim.number for claim in CLAIMS]
    for number in numbers:
        if number not in known:
            raise ExpectedError(
                "numbers",
                f"{number!r} is not the number of a claim.",
                f"Choose from {known[0]} to {known[-1]}.",
            )
    return [claim for claim in CLAIMS if not numbers or claim.number in numbers]
