"""The paper's network, and where phasetrack finds the two layers of any other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from phasetrack._checks import ExpectedError, check_float, check_int
from phasetrack.geometry import Activation

# How far a network's output may be from what its two layers say, relative to its size, before
# phasetrack warns that there is more to it (chosen here: well above float32 rounding).
REPRODUCTION_TOLERANCE = 1e-3
# Activations that a module between the layers may be; any other is used as it is, and noted.
_RELU = (nn.ReLU,)
# Modules that leave the outputs as they are at evaluation, or say nothing about the layers.
_TRANSPARENT = (nn.Identity, nn.Flatten)


class TwoLayerNet(nn.Module):
    """f(x) = (1/p) sum_j a_j relu(w_j . x), the network of arXiv 2309.15111; no biases.

    Args:
        d: input dimension.
        width: number of neurons p.
        theta: radius of the sphere on which each w_j is drawn uniformly, and |a_j|, with fair sign.
        seed: of the drawing; the global random state is left alone.

    Example:
        >>> net = TwoLayerNet(d=8, width=4, theta=0.1, seed=0)
        >>> net(torch.ones(3, 8)).shape
        torch.Size([3])
    """

    def __init__(self, d: int, width: int, *, theta: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        check_int("d", d, minimum=1)
        check_int("width", width, minimum=1)
        check_float("theta", theta, above=0.0)
        # skip_init: nn.Linear's own initialisation would advance the global random state
        self.first = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, d, width, bias=False
        )
        self.second = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, width, 1, bias=False
        )
        self.scale = 1 / width
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(width, d, generator=generator, dtype=torch.float64)
        lengths = directions.norm(dim=1, keepdim=True)
        signs = 1 - 2 * torch.randint(0, 2, (1, width), generator=generator)
        with torch.no_grad():
            self.first.weight.copy_(theta * directions / lengths)
            self.second.weight.copy_(theta * signs)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (m,) for inputs (m, d)."""
        outputs: Tensor = self.second(torch.relu(self.first(x)))
        return self.scale * outputs.squeeze(-1)


@dataclass(frozen=True)
class TwoLayerView:
    """The two layers of a model: f(x) = scale * (sum_j a_j act(w_j . x + b_j)) + output bias.

    Attributes:
        first: the layer with the neurons, d to p.
        second: the scalar head, p to 1.
        names: where they are in the model.
        scale: factor on the head's output; None until `calibrated` has measured it.
        activation: act.
        notes: what was assumed or found on the way, for people.
    """

    first: nn.Linear
    second: nn.Linear
    names: tuple[str, str]
    scale: float | None = None
    activation: Activation = torch.relu
    notes: tuple[str, ...] = field(default_factory=tuple)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layers: tuple[str, str] | None = None,
        *,
        scale: float | None = None,
        activation: Activation | None = None,
    ) -> TwoLayerView:
        """Find the two layers of a model.

        Args:
            model: any module with exactly two nn.Linear layers, d to p and p to 1.
            layers: their names, where the model has others beside them.
            scale: factor between the head's output and the model's; by default the model's own
                float attribute `scale`, or else measured on the first batch.
            activation: by default the module between the layers, or else ReLU.

        Raises:
            ExpectedError: naming `model` or `layers`, listing what was seen.

        Example:
            >>> view = TwoLayerView.of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)))
            >>> view.names, view.W.shape, view.a.shape
            (('0', '2'), torch.Size([3, 4]), torch.Size([3]))
        """
        first_name, second_name = layers or _two_linear_names(model)
        first, second = _linear(model, first_name), _linear(model, second_name)
        if second.in_features != first.out_features or second.out_features != 1:
            raise ExpectedError(
                "model",
                "a layer d -> p followed by a scalar head p -> 1",
                f"{first_name}: {first.in_features} -> {first.out_features}, "
                f"{second_name}: {second.in_features} -> {second.out_features}",
            )
        declared = getattr(model, "scale", None)
        if scale is None and isinstance(declared, float):
            scale = declared
        between, notes = _between(model, first, second)
        return cls(first, second, (first_name, second_name), scale, activation or between, notes)

    @property
    def W(self) -> Tensor:
        """First-layer weights, detached and live, (p, d)."""
        return self.first.weight.detach()

    @property
    def a(self) -> Tensor:
        """Second-layer weights, detached and live, (p,)."""
        return self.second.weight.detach()[0]

    @property
    def plain(self) -> bool:
        """Whether the mean-field law applies: ReLU and no biases."""
        no_bias = self.first.bias is None and self.second.bias is None
        return no_bias and self.activation is torch.relu

    def outputs(self, inputs: Tensor, W: Tensor, a: Tensor) -> Tensor:
        """The network's formula at weights W and a, (m, d) to (m,)."""
        hidden = self.activation(nn.functional.linear(inputs, W, self.first.bias))
        values = hidden @ a
        if self.second.bias is not None:
            values = values + self.second.bias
        return values if self.scale is None else values * self.scale

    @torch.no_grad()
    def calibrated(self, inputs: Tensor, outputs: Tensor) -> TwoLayerView:
        """The view with its scale measured, if it was not known: the model's outputs over ours.

        Adds a note where no factor makes the two layers reproduce the model.
        """
        if self.scale is not None:
            return self
        ours = self.outputs(inputs, self.W.to(inputs), self.a.to(inputs)).double()
        theirs = outputs.detach().double()
        size = ours.square().sum()
        ratio = float((ours * theirs).sum() / size) if size > 0 else 1.0
        miss = float((theirs - ratio * ours).norm() / theirs.norm().clamp_min(1e-300))
        if miss <= REPRODUCTION_TOLERANCE:
            return replace(self, scale=ratio)
        note = (
            f"the layers {self.names[0]} and {self.names[1]} alone do not reproduce the model's "
            f"output (relative difference {miss:.2g}): something else acts between or after them"
        )
        return replace(self, scale=ratio, notes=(*self.notes, note))


def _two_linear_names(model: nn.Module) -> tuple[str, str]:
    found = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if len(found) != 2:
        raise ExpectedError(
            "model",
            "exactly two nn.Linear layers",
            ", ".join(found) if found else "none",
            "name the two with layers=(first, second)",
        )
    return found[0], found[1]


def _linear(model: nn.Module, name: str) -> nn.Linear:
    modules = dict(model.named_modules())
    layer = modules.get(name)
    if not isinstance(layer, nn.Linear):
        linear = [n for n, module in modules.items() if isinstance(module, nn.Linear)]
        raise ExpectedError("layers", f"names of nn.Linear layers, of {linear}", repr(name))
    return layer


def _between(
    model: nn.Module, first: nn.Linear, second: nn.Linear
) -> tuple[Activation, tuple[str, ...]]:
    """The activation between the layers, and what else was seen there."""
    leaves = [module for module in model.modules() if not list(module.children())]
    start, end = leaves.index(first), leaves.index(second)
    middle = [m for m in leaves[start + 1 : end] if not isinstance(m, _TRANSPARENT)]
    if not middle:
        note = (
            () if isinstance(model, TwoLayerNet) else ("no activation module seen: ReLU assumed",)
        )
        return torch.relu, note
    notes = tuple(f"{type(m).__name__} acts between the layers" for m in middle[1:])
    return (torch.relu if isinstance(middle[0], _RELU) else middle[0]), notes
