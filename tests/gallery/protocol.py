"""The gallery's protocol: how a loop file is loaded, with and without the lines that a user adds.

A file in loops/ has, besides its docstring of one line:

- ``train(seen)``, the loop as its community writes it. It ends in ``return locals()`` and calls
  ``seen(network, outputs, targets, loss, inputs)`` once per optimizer step, while the weights are those
  of before the step: the network as a module from the first layer's inputs to the measured outputs,
  the loop's own outputs (m,) or (m, n), its targets and its loss, and the first layer's inputs (m, d).
- the lines that a user adds, between ``# >>> phasetrack`` and ``# <<< phasetrack``. They make `geometry`
  and `tracker`.
- ``losses(outputs, targets)`` and ``margins(outputs, targets)``, of each sample, (m,), in plain torch;
  a margin is NaN for a sample that the loss leaves out. ``wrong`` is optional: the share of a sample's
  labels on the wrong side, by default whether its margin is not positive.
- optionally ``ABSENT``: reading to a part of the reason why it is missing; ``WARNINGS``: a part of each
  expected warning; ``REFUSED``: a part of the error by which attach() refuses the model; ``WRONG``:
  reading to a fault of phasetrack that is not repaired yet; ``SCALE_ROUNDING``: how far clean margins
  may be off where the loop computes in a coarser dtype.
"""

import ast
import copy
import sys
import types
from pathlib import Path
from typing import NamedTuple

import torch

LOOPS = Path(__file__).parent / "loops"
FIRST, LAST = "# >>> phasetrack", "# <<< phasetrack"
READINGS = ("loss/train", "error/train", "margin/clean", "margin/empirical", "linearization")


class Step(NamedTuple):
    """One optimizer step, as the loop made it."""

    network: torch.nn.Module
    outputs: torch.Tensor
    targets: torch.Tensor
    loss: float
    inputs: torch.Tensor


class Seen(list):
    """The steps of a loop; called once per optimizer step."""

    def __call__(self, network, outputs, targets, loss, inputs):
        frozen = copy.deepcopy(network).double().eval()
        tensors = (torch.as_tensor(t).detach().clone() for t in (outputs, targets, loss, inputs))
        f, y, value, x = tensors
        self.append(Step(frozen, f.double(), y, float(value), x.double()))


def paths():
    return sorted(LOOPS.glob("*.py"))


def is_marked(lines):
    """Whether each line is one that the user adds; None for the two marks."""
    inside = False
    for line in lines:
        mark = line.strip()
        if mark in (FIRST, LAST):
            inside = mark == FIRST
            yield None
        else:
            yield inside


def added_lines(path):
    """The lines that a user adds, without their indentation; blank ones as well."""
    lines = path.read_text().splitlines()
    pairs = zip(lines, is_marked(lines), strict=True)
    return [line.strip() for line, added in pairs if added]


def refusal(path):
    """The declared part of the error by which attach() refuses the model; empty where it does not."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REFUSED":
            return ast.literal_eval(node.value)
    return ""


def loaded(path, *, tracked):
    """A loop as a module; without the user's lines where it is not tracked."""
    lines = path.read_text().splitlines()
    kept = (
        line if tracked or not added else ""
        for line, added in zip(lines, is_marked(lines), strict=True)
    )
    module = types.ModuleType(f"gallery_{path.stem}_{'tracked' if tracked else 'bare'}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pickle and dataclasses look for its classes
    exec(compile("\n".join(kept), str(path), "exec"), module.__dict__)
    return module


# --- margins of one sample each, in plain torch ------------------------------------------------


def ahead(outputs, classes, ignored=-100):
    """By how much the sample's class is ahead of the next."""
    margins = []
    for row, index in zip(outputs, classes.long().tolist(), strict=True):
        rest = [value for place, value in enumerate(row) if place != index]
        margins.append(row.new_tensor(torch.nan) if index == ignored else row[index] - max(rest))
    return torch.stack(margins)


def signed(outputs, signs):
    """Y f, for targets -1 and +1."""
    return outputs * signs


def binary(outputs, labels):
    """F or -f, for targets 0 and 1 that are decided at 0."""
    return torch.where(labels > 0.5, outputs, -outputs)
