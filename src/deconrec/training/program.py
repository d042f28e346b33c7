"""A training program: which loss moves which nets, down or up, now or through a virtual step.

A `Loss` is pure: it reads nets and a batch, gives named scalar terms, and writes nothing. A `Step` updates the
nets that it names and no others, so that a `detach` in a loss always means the paper's stop-gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deconrec.errors import ParameterError
from deconrec.pairs import Batch, Pairs

Terms = Mapping[str, Tensor]

CHEAPER = 16  # NOTE cells of a grid, one matrix product, that cost what looking up one pair of factors does


class Nets(nn.ModuleDict):
    """Named networks, also reachable as attributes: `nets.prediction(pairs)`."""

    def __init__(self, **nets: nn.Module) -> None:
        super().__init__(nets)
        self._memo: _Memo | None = None

    def __getattr__(self, name: str) -> Any:
        """A net by its name; inside `remembering`, one that answers the same call once."""
        found = super().__getattr__(name)
        memo = self.__dict__.get("_memo")
        return found if memo is None or not isinstance(found, nn.Module) else _Remembering(found, memo)

    @contextmanager
    def remembering(self, everywhere: set[int] | None = None) -> Iterator[None]:
        """Answer equal calls (same net, same objects) once: the terms of a step share their forward passes.

        Rows that lie within a sample take their answers from it, where the step asks a net for both or where they are
        a good part of it: a matrix product costs less than many look-ups. A set given as `everywhere` collects the
        nets that a step asks about such samples, so that from its second batch on the order of its calls does not
        matter. Valid while no parameter changes, that is, inside one evaluation of a step.
        """
        self.__dict__["_memo"] = _Memo(set() if everywhere is None else everywhere)
        try:
            yield
        finally:
            self.__dict__["_memo"] = None

    def select(self, names: tuple[str, ...]) -> dict[str, nn.Parameter]:
        """Parameters under these names; a dotted name reaches into a net ("prediction.item").

        Raises
        ------
        ParameterError: a name that selects nothing.
        """
        chosen: dict[str, nn.Parameter] = {}
        for name in names:
            found = {k: p for k, p in self.named_parameters() if k == name or k.startswith(name + ".")}
            if not found:
                raise ParameterError(
                    f"a step updates '{name}', but the nets are {sorted(self.keys())} and none has such a parameter."
                )
            chosen |= found
        return chosen


@dataclass
class _Memo:
    """Answers by net and inputs (held, so that no id is used twice), and the nets that are asked about grids."""

    everywhere: set[int]
    answers: dict[tuple[int, ...], tuple[Any, Any]] = field(default_factory=dict)


class _Remembering:
    """A net that keeps its answers; otherwise the net itself."""

    __slots__ = ("_memo", "_net")

    def __init__(self, net: nn.Module, memo: _Memo) -> None:
        self._net, self._memo = net, memo

    def __call__(self, *inputs: Any) -> Any:
        key = (id(self._net), *map(id, inputs))
        if key not in self._memo.answers:
            self._memo.answers[key] = (inputs, self._answer(*inputs))
        return self._memo.answers[key][1]

    def _answer(self, *inputs: Any) -> Any:
        if len(inputs) != 1 or not isinstance(inputs[0], Pairs):
            return self._net(*inputs)
        pairs = inputs[0]
        if pairs.grid is not None or pairs.whole:
            self._memo.everywhere.add(id(self._net))
        elif pairs.within is not None:
            grid, place = pairs.within
            if id(self._net) in self._memo.everywhere or len(grid) <= CHEAPER * len(pairs):
                return self(grid).index_select(0, place)
        return self._net(pairs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)


Loss = Callable[[Nets, Batch], Terms]


@dataclass(frozen=True)
class Adam:
    """Adam with an L2 penalty (l2 / 2) ||theta||^2 in the gradient. lr > 0, l2 >= 0."""

    lr: float = 1e-2
    l2: float = 0.0

    def build(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser of these parameters."""
        return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.l2, fused=True)


@dataclass(frozen=True)
class SGD:
    """Plain gradient steps with an L2 penalty (l2 / 2) ||theta||^2. lr > 0, l2 >= 0."""

    lr: float = 1e-2
    l2: float = 0.0

    def build(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser of these parameters."""
        return torch.optim.SGD(parameters, lr=self.lr, weight_decay=self.l2)


@dataclass(frozen=True)
class Step:
    """One gradient move.

    Attributes
    ----------
    loss: named terms; their sum is minimised (maximised with `ascend`).
    updates: the nets, or dotted parts of nets, that move; nothing else gets a gradient.
    ascend: inner maximisation.
    project: called with the nets after the move (back into an uncertainty set); runs without gradients.
    through: the loss is evaluated after one virtual SGD step of that Step, and differentiated through it.
    virtual_lr: learning rate of the virtual step; plain SGD whatever the real optimiser (a deviation where a
        paper unrolls its real optimiser).
    optimizer: None = the estimator's own.
    """

    loss: Loss
    updates: tuple[str, ...]
    ascend: bool = False
    project: Callable[[Nets], None] | None = None
    through: Step | None = None
    virtual_lr: float = 1e-2
    optimizer: Adam | SGD | None = None


@dataclass(frozen=True, init=False)
class Phase:
    """Steps that interleave on each batch of a pass.

    Attributes
    ----------
    steps: in order.
    every, start, stop: the phase makes a pass in epochs start, start + every, ... before `stop` (None = no end).
    before: called with the nets before each such pass, for once-per-epoch recomputation. Runs without gradients.
    """

    steps: tuple[Step, ...]
    every: int = 1
    start: int = 0
    stop: int | None = None
    before: Callable[[Nets], None] | None = None

    def __init__(
        self,
        *steps: Step,
        every: int = 1,
        start: int = 0,
        stop: int | None = None,
        before: Callable[[Nets], None] | None = None,
    ) -> None:
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "every", every)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "before", before)

    def active(self, epoch: int) -> bool:
        """Whether the phase makes a pass in this epoch (from 0)."""
        ended = self.stop is not None and epoch >= self.stop
        return epoch >= self.start and not ended and (epoch - self.start) % self.every == 0


Program = list[Phase]


def merged(*losses: Loss) -> Loss:
    """One loss with the terms of all: grouping is the gradient policy."""

    def loss(nets: Nets, batch: Batch) -> Terms:
        terms: dict[str, Tensor] = {}
        for part in losses:
            for name, value in part(nets, batch).items():
                if name in terms:
                    raise ParameterError(f"two merged losses have a term '{name}'; name terms apart.")
                terms[name] = value
        return terms

    return loss


def scaled(loss: Loss, weight: float) -> Loss:
    """The same terms times `weight`."""
    return lambda nets, batch: {name: weight * value for name, value in loss(nets, batch).items()}


class _Objective(nn.Module):
    """A loss as a module of its nets, so that `functional_call` can swap parameters wherever the loss looks."""

    def __init__(self, nets: Nets, loss: Loss) -> None:
        super().__init__()
        self.nets = nets
        self._loss = loss

    def forward(self, batch: Batch) -> Terms:
        return self._loss(self.nets, batch)


def total(terms: Terms) -> Tensor:
    """The sum of the terms, a scalar."""
    return torch.stack([t.reshape(()) for t in terms.values()]).sum()


def evaluate_step(
    step: Step, nets: Nets, batch: Batch, bound: Bound | None = None
) -> tuple[Terms, dict[str, nn.Parameter], list[Tensor]]:
    """(terms, parameters that the step updates, their gradients), gradients of the batch-weighted sum.

    With `through`, the terms are those after the virtual step: theta' = theta - virtual_lr * grad(through.loss).
    `bound`: the step's hold on these nets, where it is evaluated more than once.
    """
    bound = Bound.of(step, nets) if bound is None else bound
    parameters = bound.parameters
    if step.through is None:
        # Nets that the step does not move need no graph.
        for parameter in bound.others:
            parameter.requires_grad_(False)
        try:
            with nets.remembering(bound.everywhere):
                terms = step.loss(nets, batch)
        finally:
            for parameter in bound.others:
                parameter.requires_grad_(True)
    else:
        inner = step.through
        moved = nets.select(inner.updates)
        inner_value = total(inner.loss(nets, batch)) * batch.weight
        inner_gradients = torch.autograd.grad(
            inner_value, list(moved.values()), create_graph=True, allow_unused=True
        )
        if batch.ranks is not None:  # a mean that is differentiated through
            inner_gradients = tuple(
                None if g is None else batch.ranks.sum(g) / batch.ranks.size for g in inner_gradients
            )
        sign = 1.0 if inner.ascend else -1.0
        virtual = {
            f"nets.{name}": value if g is None else value + sign * step.virtual_lr * g
            for (name, value), g in zip(moved.items(), inner_gradients, strict=True)
        }
        terms = functional_call(_Objective(nets, step.loss), virtual, (batch,))
    value = total(terms) * batch.weight
    if not value.requires_grad:  # every net of the step is out of this batch's reach (an empty sample)
        return terms, parameters, [torch.zeros_like(p) for p in parameters.values()]
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    filled = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters.values(), gradients, strict=True)
    ]
    return terms, parameters, filled


@dataclass
class Bound:
    """What a step needs to know of its nets: the parameters that it moves, the others, and the nets that it asks about
    whole grids (found as it is evaluated).
    """

    parameters: dict[str, nn.Parameter]
    others: list[nn.Parameter]
    everywhere: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, step: Step, nets: Nets) -> Bound:
        """The hold of a step on nets.

        Raises
        ------
        ParameterError: a name that selects nothing.
        """
        parameters = nets.select(step.updates)
        return cls(parameters, [p for name, p in nets.named_parameters() if name not in parameters])


@dataclass
class Mover:
    """A step with the optimiser state that belongs to it."""

    step: Step
    bound: Bound
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, step: Step, nets: Nets, default: Adam | SGD) -> Mover:
        """The mover of a step; `default` where the step names no optimiser."""
        bound = Bound.of(step, nets)
        return cls(step, bound, (step.optimizer or default).build(list(bound.parameters.values())))

    def move(self, nets: Nets, batch: Batch) -> Terms:
        """Make the step on a batch; gives the terms as they were before the move."""
        terms, parameters, gradients = evaluate_step(self.step, nets, batch, self.bound)
        if batch.ranks is not None:
            gradients = batch.ranks.mean(gradients)
        sign = -1.0 if self.step.ascend else 1.0
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.grad = gradient if sign > 0 else -gradient
        self.optimizer.step()
        for parameter in parameters.values():
            parameter.grad = None
        if self.step.project is not None:
            with torch.no_grad():
                self.step.project(nets)
        return terms


@dataclass
class History:
    """What happened in training: one record an epoch.

    Attributes
    ----------
    epochs: dicts of the epoch's mean of every named term, "score" (validation, higher is better, where there
        is one) and "seconds".
    best_epoch: epoch (from 0) whose state was kept.
    stopped: why training ended: "epochs" or "patience".
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = "epochs"

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)

    def curve(self, name: str) -> list[float]:
        """The values of one term over epochs (epochs without it are left out)."""
        return [e[name] for e in self.epochs if name in e]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"epochs": self.epochs, "best_epoch": self.best_epoch, "stopped": self.stopped}
