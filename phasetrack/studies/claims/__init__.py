"""Test the statements of arXiv 2309.15111: one module per claim, with findings and a verdict."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
