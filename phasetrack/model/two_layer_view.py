"""Where phasetrack finds the two layers of any model, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from phasetrack.errors import ExpectedError
from phasetrack.model.activations import ACTIVATIONS as ACTIVATIONS
from phasetrack.model.activations import frozen_activation
from phasetrack.model.activations import known_activation as known_activation
from phasetrack.model.comparison import (
    REPRODUCTION_TOLERANCE as REPRODUCTION_TOLERANCE,
)
from phasetrack.model.comparison import (
    SETTLING_VALUES,
    Candidate,
    compare,
    links_of,
    only_the_bias_is_open,
)
from phasetrack.model.formula import UNKNOWN_LINK, FrozenLayers
from phasetrack.model.geometry import Activation
from phasetrack.model.layer_search import (
    activation_between,
    bias_of,
    checked_readout,
    entries,
    input_site,
    is_compiled_around,
    layouts,
    refuse_unreadable,
    two_weights,
    unwrapped,
)
from phasetrack.model.layer_view import LayerView
from phasetrack.model.layer_weight import Weight
from phasetrack.model.network import TwoLayerNet
from phasetrack.model.pass_outcome import SeenPass
from phasetrack.model.pass_reading import read_behind, read_between, reproduction_of
from phasetrack.model.pass_watch import PassWatch, watch_next_pass


@dataclass(frozen=True)
class TwoLayerView(LayerView):
    """The two layers of a model: found by `of`, seen by `resolved`, compared by `calibrated`.

    f(x) = scale * sum_j a_j act(w_j . x + b_j) + output bias; the attributes are those of `LayerView`.
    """

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layers: tuple[str, str] | None = None,
        *,
        scale: float | None = None,
        activation: Activation | None = None,
        readout: Tensor | None = None,
        inputs: int | None = None,
    ) -> TwoLayerView:
        """Find the two layers of a model.

        Looks for two weights: of nn.Linear layers (parametrised ones too), bare parameters of custom
        modules, kept either way round, and, where only one of these is found, a fixed tensor or a
        vector that fits it. Wrappers (torch.compile, DistributedDataParallel) are looked through.
        What the layers do is seen in the first forward pass (`resolved`).

        Args:
            model: any module with two such weights, d to p and p to 1 or to n logits.
            layers: their names, where the model has others: of modules (``fc1``) or of parameters,
                buffers and tensors that are attributes (``block.W``).
            scale: factor on the sum over neurons; by default measured.
            activation: by default what acts between the layers in the first pass, or else what makes
                the layers reproduce the model on the first batches, of `ACTIVATIONS`.
            readout: for a block in a larger network, such as a transformer's MLP: the direction of
                its output that is measured, (outputs,), or one for each class, (n, outputs).
            inputs: the width d, which tells the two ways round of bare matrices apart.

        Raises:
            ExpectedError: naming `model` or `layers`, listing what was seen and what settles it.

        Example:
            >>> view = TwoLayerView.of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)))
            >>> view.names, view.W.shape, view.a.shape
            (('0', '2'), torch.Size([3, 4]), torch.Size([3]))
        """
        inner = unwrapped(model)
        refuse_unreadable(inner)
        outputs = None if readout is None else torch.as_tensor(readout, device="cpu").shape[-1]
        pairs = layouts(*two_weights(inner, layers), inputs=inputs, outputs=outputs)
        first, second = pairs[0]
        between, notes, seen = activation_between(inner, first, second)
        declared = {"scale"} if scale is not None else set()
        if isinstance(activation, nn.Module):
            activation = _frozen(activation)
        if activation is not None:
            declared.add("activation")
        if isinstance(inner, TwoLayerNet):
            scale, notes, seen = inner.scale, (), True
        directions = None
        if readout is not None:
            directions = checked_readout(readout, second)
            scale = 1.0 if scale is None else scale
        bias, head_bias = bias_of(first, second), bias_of(second, first)
        if directions is not None:  # of a bare block nothing but a pass confirms a guess
            bias = bias if isinstance(first.owner, nn.Linear) else None
            head_bias = head_bias if isinstance(second.owner, nn.Linear) else None
        return cls(
            first,
            second,
            site=input_site(model, first),
            scale=scale,
            activation=activation or between,
            bias_at=bias,
            head_bias_at=head_bias,
            directions=directions,
            assumed=len(pairs) > 1 or not (seen or activation),
            notes=notes,
            declared=frozenset(declared),
            turns=_turns(pairs),
        )

    # --- what a pass shows -------------------------------------------------------------------

    def watched(
        self,
        model: nn.Module,
        done: Callable[[SeenPass], object],
        failed: Callable[[str], object],
    ) -> PassWatch:
        """Trace the next forward pass of a model with gradients (`pass_trace.watch_next_pass`).

        Compiled models are not watched, nor is `TwoLayerNet`, of which nothing is left to see.
        """
        inner = unwrapped(model)
        compiled = is_compiled_around(model, self.first, self.second)
        modules = [] if compiled or isinstance(inner, TwoLayerNet) else entries(
            inner, self.first, self.second, block=self.directions is not None
        )  # fmt: skip
        return watch_next_pass(modules, inner, (self.first, self.second), done, failed)

    @torch.no_grad()
    def resolved(self, seen: SeenPass) -> TwoLayerView:
        """The view as a forward pass shows the layers: order, orientation, biases, activation, factor.

        Call it while the weights are those of the pass. Where the formula does not reproduce what
        the pass returned, `doubt` has the reason.

        Args:
            seen: what `watched` delivers.
        """
        weights = (self.second, self.first) if seen.swapped else (self.first, self.second)
        declared = self.activation if "activation" in self.declared else None
        between = read_between(seen, declared)
        behind = read_behind(seen, block=self.directions is not None)
        first = replace(
            weights[0],
            transposed=seen.first.transposed and not weights[0].is_vector,
            factor=seen.first.factor * between.factor,
        )
        second = replace(weights[1], transposed=seen.second.transposed and not weights[1].is_vector)
        on_sum = seen.second.factor * between.after * behind.before
        head_bias, bias_scaled, scale = behind.bias, True, on_sum * behind.after
        if head_bias is not None and abs(on_sum - 1) > 1e-9:
            bias_scaled = False
            head_bias = replace(head_bias, factor=head_bias.factor * behind.after)
        problems = [
            *_changed(first, seen.first.changed),
            *_changed(second, seen.second.changed),
            between.problem,
            behind.problem,
        ]
        scalars = []
        for where, power, on_bias in behind.scalars:
            then = float(where.value)
            scale *= then**power
            scalars.append((where, power, then))
            if head_bias is not None and on_bias != bias_scaled:
                problems.append(f"{where.name} multiplies a part of the output")
            if then == 0:
                problems.append(f"{where.name}, a factor of the output, is 0")
        known = not (self.directions is None and (seen.output is None or not behind.seen))
        made_inside = "" if seen.site.module is not None else (
            f"the inputs of {first.layer_name} are not an argument of {type(self.site).__name__}: they "
            "are made within its forward()"
        )  # fmt: skip
        notes: tuple[str, ...] = ()  # the pass tells more than the modules between the layers did
        if seen.site.has_other_inputs and self.directions is None:
            notes = (
                f"{first.layer_name} is not given the model's own inputs but others made of them: the "
                "geometry has to be in the coordinates of these",
            )
        if max(seen.uses) > 1:
            notes = (*notes, f"a pass uses the layers {max(seen.uses)} times; the last use is read")
        problem = next(filter(None, problems), "")
        view = replace(
            self,
            first=first,
            second=second,
            site=seen.site.module or self.site,
            scale=self.scale if "scale" in self.declared else scale if known else None,
            activation=between.activation or self.activation,
            activation_known=between.activation is not None,
            bias_at=between.bias,
            head_bias_at=head_bias,
            bias_scaled=bias_scaled,
            assumed=not known or "several activations" in between.problem,
            notes=notes,
            doubt=problem,
            scalars=tuple(scalars),
            site_arg=seen.site.argument,
            hidden_inputs=made_inside,
            lookup=seen.first.lookup,
            turns=(),
            compared=False,
            link="identity",
        )
        if problem or not known:
            return view._doubted(problem)
        return view._reproducing(seen, behind.labels)

    def _reproducing(self, seen: SeenPass, labels: tuple[str, ...]) -> TwoLayerView:
        """The view with the link that makes it reproduce a pass, or with its doubt."""
        found = reproduction_of(self.frozen(), seen, self.directions, labels)
        if found.problem:
            doubt = (
                f"the layers {self.names[0]} and {self.names[1]} alone do not reproduce the model's "
                f"output (relative difference {found.distance:.2g}): {found.problem}"
            )
            return replace(self, reproduction=found.distance)._doubted(doubt)
        return replace(self, link=found.link, reproduction=found.distance)

    def _doubted(self, doubt: str) -> TwoLayerView:
        """The view with a reason against its formula, which leaves no factor measured."""
        if not doubt:
            return self
        scale = self.scale if self.directions is not None or "scale" in self.declared else None
        return replace(self, doubt=doubt, scale=scale, notes=(*self.notes, doubt))

    # --- what the loss is given --------------------------------------------------------------

    @torch.no_grad()
    def calibrated(
        self,
        inputs: Tensor,
        outputs: Tensor,
        precision: torch.dtype | None = None,
        layers: FrozenLayers | None = None,
    ) -> TwoLayerView:
        """The view after a comparison with outputs that the loss was given.

        Where a pass has shown the layers, this finds the link between their outputs and those of the
        loss. Else it measures the scale, and takes the activation and the orientation that
        reproduce the outputs; it settles nothing while several fit equally or fewer than
        `comparison.SETTLING_VALUES` outputs were compared. `doubt` has the reason where none fits.

        Args:
            inputs: of the first layer, (m, d).
            outputs: that the loss was given, (m,) or (m, n).
            precision: dtype that they were computed in, where that is coarser than their own.
            layers: the weights that made the outputs; by default those that stand in the model.
        """
        if self.compared:
            return self
        with torch._C.DisableTorchFunction():  # not for the eyes of modes, the user's or ours
            return self._compared_with(inputs, outputs, precision, layers)

    def _compared_with(
        self,
        inputs: Tensor,
        outputs: Tensor,
        precision: torch.dtype | None,
        layers: FrozenLayers | None,
    ) -> TwoLayerView:
        """`calibrated`, of outputs that have not been compared."""
        if self.doubt and not (self.assumed or self.trials):
            return replace(self, compared=True)
        frozen = self.frozen() if layers is None else layers
        values = outputs.detach()
        links = tuple(links_of(values, self.heads))
        if self.settled:
            return self._linked(frozen, inputs, values, precision, links)
        candidates = self.trials or tuple(self._candidates(("identity",)))
        verdict = compare(frozen, candidates, inputs, values, precision)
        if not verdict.fitting and not self.trials:
            linked = tuple(self._candidates(links))
            verdict = min(
                verdict,
                compare(frozen, linked, inputs, values, precision),
                key=lambda each: (not each.fitting, each.miss),
            )
        if not verdict.fitting:
            return self._unreproduced(verdict.distance)
        if not verdict.informative:
            return self
        evidence = self.evidence + values.numel()
        best = verdict.fitting[0]
        enough = evidence >= SETTLING_VALUES
        if not (enough and only_the_bias_is_open(verdict.fitting)):
            return replace(
                self,
                trials=verdict.fitting,
                evidence=evidence,
                assumed=True,
                doubt=_undecided(verdict.fitting, evidence),
            )
        formula, settled = best.formula, len(verdict.fitting) == 1
        return replace(
            self,
            first=_turned(self.first, best.turned[0]),
            second=_turned(self.second, best.turned[1]),
            activation=formula.activation,
            bias_scaled=formula.bias_scaled,
            link=formula.link,
            scale=formula.scale,
            # a bias of zeros does not tell yet whether the factor acts on it
            trials=()
            if settled
            else tuple(c._replace(turned=(False, False)) for c in verdict.fitting),
            evidence=evidence,
            assumed=not settled,
            compared=settled,
            doubt="",
            reproduction=verdict.distance,
            turns=(),
        )

    def _linked(
        self,
        frozen: FrozenLayers,
        inputs: Tensor,
        outputs: Tensor,
        precision: torch.dtype | None,
        links: tuple[str, ...],
    ) -> TwoLayerView:
        """The view with the link, or the factor, between a known formula and the loss's outputs."""
        names = dict.fromkeys((self.link, "identity", *links))
        known = [Candidate(replace(self.formula, link=name)) for name in names]
        verdict = compare(frozen, known, inputs, outputs, precision)
        if not verdict.fitting and "scale" not in self.declared:
            if outputs.numel() < SETTLING_VALUES:
                return self
            open_scale = [
                each._replace(formula=replace(each.formula, scale=None)) for each in known
            ]
            verdict = compare(frozen, open_scale, inputs, outputs, precision)
        if not verdict.informative:
            return self
        if verdict.fitting:
            (formula, _), *_ = verdict.fitting
            return replace(
                self,
                link=formula.link,
                scale=formula.scale,
                compared=True,
                reproduction=verdict.distance,
            )
        if self.reproduction is None and "scale" not in self.declared:  # no pass was seen
            return self._unreproduced(verdict.distance)
        note = (
            "the loss is given values that are not the model's output through a known function; clean "
            "margins are those of the model's output"
        )
        return replace(self, link=UNKNOWN_LINK, compared=True, notes=(*self.notes, note))

    def _unreproduced(self, distance: float) -> TwoLayerView:
        doubt = (
            f"the layers {self.names[0]} and {self.names[1]} alone do not reproduce the model's "
            f"output (relative difference {distance:.2g}): something else acts between or after them"
        )
        view = replace(self, compared=True, assumed=False, trials=(), reproduction=distance)
        return view._doubted(doubt)

    def _candidates(self, links: tuple[str, ...]) -> Iterator[Candidate]:
        """This view's formula and, of what it assumes, the alternatives."""
        activations, mine = [self.activation], known_activation(self.activation)
        if "activation" not in self.declared:
            activations += [function for name, function in ACTIVATIONS.items() if name != mine]
        for turned in ((False, False), *self.turns):
            for activation in activations:
                for scaled in (True, False)[: 1 if self.head_bias_at is None else 2]:
                    for link in links:
                        formula = replace(
                            self.formula,
                            activation=activation,
                            bias_scaled=scaled,
                            link=link,
                            doubt="",
                        )
                        yield Candidate(formula, turned)


def _frozen(module: nn.Module) -> Activation:
    """Return a module that the user named as the activation, as a function of its own."""
    frozen = frozen_activation(module)
    if frozen is None:
        raise ExpectedError(
            "activation",
            f"{type(module).__name__} draws random numbers, keeps buffers, or does not treat each "
            "number by itself.",
            "Pass a function of tensors, such as torch.relu.",
        )
    return frozen


def _turns(pairs: list[tuple[Weight, Weight]]) -> tuple[tuple[bool, bool], ...]:
    """Return the other layouts of two matrices, relative to the first one."""
    (first, second), *others = pairs
    return tuple(
        (one.transposed != first.transposed, other.transposed != second.transposed)
        for one, other in others
        if one.name == first.name
    )


def _turned(weight: Weight, turn: bool) -> Weight:
    return replace(weight, transposed=not weight.transposed) if turn else weight


def _changed(weight: Weight, operations: tuple[str, ...]) -> list[str]:
    if not operations:
        return []
    steps = ", ".join(dict.fromkeys(operations))
    return [f"the pass uses {weight.layer_name} not as it is kept, but after {steps}"]


def _undecided(fitting: tuple[Candidate, ...], evidence: int) -> str:
    """Return why several readings of the layers are still open."""
    names = dict.fromkeys(str(known_activation(each.formula.activation)) for each in fitting)
    if len(names) > 1:
        return f"several activations fit the {evidence} outputs seen so far ({', '.join(names)})"
    if evidence < SETTLING_VALUES:
        return f"only {evidence} outputs were seen so far, which fit any factor"
    return f"several orientations of the matrices fit the {evidence} outputs seen so far"
