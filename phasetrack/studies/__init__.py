"""Many runs: sweeps, the paper's claims on trial, and vocabularies on runs of known truth."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
