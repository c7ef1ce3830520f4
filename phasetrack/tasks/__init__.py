"""Distributions to train on, each with its geometry."""

from phasetrack.tasks.base import Task
from phasetrack.tasks.boolean import XOR

__all__ = ["XOR", "Task"]
