"""The "Phases" tab of TensorBoard: found by a plain ``tensorboard --logdir``, read from histories."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
