"""Distributions to train on, each with its geometry."""

from phasetrack.tasks.task import Task
from phasetrack.tasks.xor import XOR

__all__ = ["XOR", "Task"]
