"""HostLoss: the loop's loss as it was at one call, frozen on the host in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from phasetrack._precision import is_away
from phasetrack.errors import ExpectedError
from phasetrack.model.formula import LINKS
from phasetrack.model.losses import Loss, pointwise, reduction_of, setting_of
from phasetrack.tracking.loss_arguments import USUAL, Form, in_form

# The index that torch's cross entropy leaves out unless it is told otherwise.
IGNORED = -100
# How far the loss of the two targets may differ, relative to its size, where an output decides nothing.
LEVEL_TOLERANCE = 1e-6
# The two targets of the paper, which every loss of the margin y f treats alike.
SIGNS = (-1.0, 1.0)
UNIT = (0.0, 1.0)
# Losses that take probabilities or their logarithms.
_OF_PROBABILITIES = (nn.NLLLoss, nn.BCELoss, nn.KLDivLoss)
_OF_PROBABILITIES_TOO = (
    nn.functional.nll_loss,
    nn.functional.binary_cross_entropy,
    nn.functional.kl_div,
)


@dataclass(frozen=True, eq=False)
class HostLoss:
    """A loss that the measures may call: it shares nothing with the loop's.

    Attributes:
        function: of float64 outputs and targets on the host; None where the loop's cannot be copied.
        reason: why it cannot be copied.
        levels: the lowest and the highest target seen, for one output; None while all were alike.
        link: maps the network's outputs to those that the loss takes, such as probabilities.
    """

    function: Loss | None
    reason: str = ""
    levels: tuple[float, float] | None = None
    link: Callable[[Tensor], Tensor] | None = None
    is_deterministic: bool = True
    _levels: dict[tuple[float, float], float | None] = field(default_factory=dict, repr=False)
    _linked_losses: dict[str, HostLoss] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, loss: Loss | HostLoss | None, form: Form = USUAL) -> HostLoss:
        """Copy a loss to the host, to be called with outputs and targets whatever the loop's form is."""
        if isinstance(loss, HostLoss):
            return loss
        if loss is None:
            return cls(None, "no loss is known")
        try:
            return cls(in_form(_copied(loss), form), is_deterministic=_is_known(loss))
        except Exception as error:
            return cls(None, f"{type(loss).__name__} cannot be copied ({error})"[:300])

    def with_targets(self, targets: Tensor) -> HostLoss:
        """Return the loss with further targets of one output among those seen."""
        if targets.is_complex() or not targets.numel():
            return self
        low, high = (float(value) for value in torch.aminmax(targets.detach().cpu().double()))
        if self.levels is not None:
            low, high = min(low, self.levels[0]), max(high, self.levels[1])
        return replace(self, levels=(low, high), _levels={}, _linked_losses={})

    def of_logits(self, link: str) -> HostLoss:
        """Return the loss of what the network puts out before a link; the same object each time."""
        if link not in self._linked_losses:
            self._linked_losses[link] = replace(
                self, link=LINKS[link], _levels={}, _linked_losses={}
            )
        return self._linked_losses[link]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Call the loss with its own reduction."""
        with self._untouched_random_numbers():
            return self._known(self.function)(self._linked(outputs), targets)

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every sample: (m,) or (m, n) outputs to (m,) losses."""
        with self._untouched_random_numbers():
            return self._pointwise(self._linked(outputs), targets)

    def constant(self, outputs: Tensor, targets: Tensor) -> float:
        """Return the loss of constant outputs, as the loop would get it; per sample where it is a sum."""
        value = self(outputs, targets)
        if value.ndim:  # a loss that the loop reduces itself
            return float(value.double().mean())
        return float(value) / (len(targets) if self.is_sum else 1)

    @cached_property
    def is_sum(self) -> bool:
        """Whether the loss adds its samples up; of a loss that does not say so, tried on a few numbers."""
        said = reduction_of(self.function)
        if said is not None or self.function is None:
            return said == "sum"
        logits = torch.tensor([[0.3, -0.7, 0.1], [0.2, 0.5, -0.4]], device="cpu").double()
        classes = torch.tensor([0, 1], device="cpu")
        pair = torch.tensor(self.levels or SIGNS, dtype=torch.float64, device="cpu")
        for values, targets in ((logits, classes), (logits[:, 0], pair)):
            with suppress(Exception):  # it takes targets of the other kind
                return self._doubles(values, targets)
        return False

    def _doubles(self, values: Tensor, targets: Tensor) -> bool:
        """Whether the loss of some samples, each taken twice, is twice as large."""
        once = self(values, targets)
        twice = self(torch.cat([values, values]), torch.cat([targets, targets]))
        return not once.ndim and bool(once) and abs(float(twice / once) - 2) < LEVEL_TOLERANCE

    @cached_property
    def ignored(self) -> int:
        """The class index that the loss leaves out."""
        said = setting_of(self.function, "ignore_index")
        return said if isinstance(said, int) else IGNORED

    @property
    def level(self) -> float:
        """The output that decides between targets of 0 and 1; 0 for all other targets."""
        return (self.level_of(*UNIT) or 0.0) if self.levels == UNIT else 0.0

    @property
    def takes_probabilities(self) -> bool:
        """Whether the loss is linear or worse in its outputs: it takes (log-)probabilities."""
        return (
            isinstance(self.function, _OF_PROBABILITIES) or self.function in _OF_PROBABILITIES_TOO
        )

    def level_of(self, low: float, high: float) -> float | None:
        """Return the output that decides between two targets: 0 or their middle; None if neither does."""
        if (low, high) == SIGNS:
            return 0.0
        if (low, high) not in self._levels:
            self._levels[low, high] = self._find_level(low, high)
        return self._levels[low, high]

    def _find_level(self, low: float, high: float) -> float | None:
        tried = (0.0, (low + high) / 2)
        outputs = torch.tensor([v for v in tried for _ in "lh"], dtype=torch.float64, device="cpu")
        targets = torch.tensor([low, high] * len(tried), dtype=torch.float64, device="cpu")
        try:
            losses = self.each(outputs, targets).view(len(tried), 2)
        except Exception:
            return None
        for level, (one, other) in zip(tried, losses.tolist(), strict=True):
            if abs(one - other) <= LEVEL_TOLERANCE * (abs(one) + abs(other)):
                return level
        return None

    @cached_property
    def _pointwise(self) -> Loss:
        return pointwise(self._known(self.function))

    def _known(self, function: Loss | None) -> Loss:
        if function is None:
            raise ExpectedError(
                "loss", f"{self.reason}.", "Write a loss that copy.deepcopy copies."
            )
        return function

    def _linked(self, outputs: Tensor) -> Tensor:
        return outputs if self.link is None else self.link(outputs)

    def _untouched_random_numbers(self) -> AbstractContextManager[object]:
        """Where a loss that draws random numbers takes none of the training's."""
        return nullcontext() if self.is_deterministic else torch.random.fork_rng(devices=[])


class LossKeeper:
    """Keeps a host copy of the loop's loss up to date.

    A loss may change on the way: parameters that are trained, a temperature that is annealed. The
    copy is renewed when a number, a text, a parameter or a buffer of the loss is not what it was.

    Args:
        loss: the loss of the loop; None if it is not given.

    Attributes:
        given: that loss.
    """

    def __init__(self, loss: Loss | None) -> None:
        self.given = loss
        self._signature = _Signature(loss)
        self._form = USUAL
        self._current = HostLoss.of(loss)

    @property
    def current(self) -> HostLoss:
        """The loss as it is now."""
        if not self._signature.holds():
            self._copy()
        return self._current

    def called_as(self, form: Form) -> None:
        """Evaluate the loss as the loop calls it from now on."""
        if form != self._form:
            self._form = form
            self._copy()

    def _copy(self) -> None:
        self._signature, levels = _Signature(self.given), self._current.levels
        self._current = replace(HostLoss.of(self.given, self._form), levels=levels)

    def with_targets(self, targets: Tensor) -> HostLoss:
        """Return the loss, which remembers the two values that the targets of one output take."""
        levels = self._current.levels
        # on a GPU the host would wait; there the batch itself shows them
        if (levels is None or levels[0] == levels[1]) and not is_away(targets):
            found = self._current.with_targets(targets)
            self._current = self._current if found.levels == levels else found
        return self._current


def _copied(loss: Loss) -> Loss:
    if not isinstance(loss, nn.Module):
        return loss
    # a tensor with a history, such as the last value for a progress bar, has no deep copy
    memo = {id(t): t.detach().clone() for m in loss.modules() for t in _with_history(vars(m))}
    twin = copy.deepcopy(loss, memo)
    for module in twin.modules():
        for name, table in vars(module).items():
            if name.endswith("_hooks") and isinstance(table, dict):
                table.clear()
    return twin.cpu().double()


def _with_history(attributes: dict[str, Any]) -> Iterator[Tensor]:
    for value in attributes.values():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, Tensor) and each.grad_fn is not None:
                yield each


def _is_known(loss: Loss) -> bool:
    """Whether a loss is PyTorch's or ours, which draw no random numbers."""
    kind = type(loss) if isinstance(loss, nn.Module) else loss
    return str(getattr(kind, "__module__", "")).startswith(("torch.", "phasetrack."))


class _Signature:
    """Values of a loss that differ where it is not what it was: numbers, texts, versions of tensors."""

    def __init__(self, loss: Loss | None) -> None:
        modules = list(loss.modules()) if isinstance(loss, nn.Module) else []
        tables = [table for m in modules for table in (vars(m), m._parameters, m._buffers)]
        self._sizes = [(table, len(table), _looked_at(table)) for table in tables]
        self._plain = [(t, n) for t in tables for n, v in t.items() if isinstance(v, _PLAIN)]
        self._tensors = [
            (t, n, id(v), v._version)
            for t in tables
            for n, v in t.items()
            if isinstance(v, Tensor) and not v.is_inference()
        ]
        self._values = [table[name] for table, name in self._plain]

    def holds(self) -> bool:
        """Whether everything is as it was."""
        for table, size, names in self._sizes:
            if len(table) != size and _looked_at(table) != names:
                return False
        for (table, name), value in zip(self._plain, self._values, strict=True):
            if table.get(name) is not value:
                return False
        for table, name, place, version in self._tensors:
            value = table.get(name)
            if id(value) != place or getattr(value, "_version", None) != version:
                return False
        return True


def _looked_at(table: Mapping[str, object]) -> set[str]:
    """Return the names of the values that count; a method put over another is none of them."""
    return {name for name, value in table.items() if isinstance(value, (*_PLAIN, Tensor))}


_PLAIN = (int, float, str, bool, type(None))
