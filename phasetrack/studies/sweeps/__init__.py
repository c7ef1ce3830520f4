"""Sweeps: train each point of a grid of settings once, on this machine or on a Ray cluster."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
