"""Where a training stands: all that its next step depends on, beside the data and the parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconrec.training.program import SGD, Adam, History, Mover, Nets, Program

Arrays = dict[str, np.ndarray]


@dataclass
class Progress:
    """Attributes
    ----------
    nets, movers: what learns; the movers of each phase with their optimisers' states.
    rng: draws batches.
    history: of the epochs that are done.
    best, best_score, waited: the state that is kept, its validation score, and epochs since then.
    record, seconds: of the epoch under way: means of the passes that are done, and time that it took.
    phase, batches: the pass under way, by its place in the program, and how many of its batches are done.
    start: state of `rng` before that pass.
    terms: of these batches, every term with its weights.
    owners: what the step of each term updates.
    """

    nets: Nets
    movers: list[list[Mover]]
    rng: np.random.Generator
    best: dict[str, Tensor]
    best_score: float = -float("inf")
    waited: int = 0
    history: History = field(default_factory=History)
    record: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    phase: int = 0
    batches: int = 0
    start: Mapping[str, Any] | None = None
    terms: dict[str, tuple[list[Tensor], list[float]]] = field(default_factory=dict)
    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, nets: Nets, program: Program, default: Adam | SGD, rng: np.random.Generator) -> Progress:
        """The beginning."""
        movers = [[Mover.of(step, nets, default) for step in phase.steps] for phase in program]
        return cls(nets, movers, rng, copy.deepcopy(nets.state_dict()))

    # ------------------------------------------------------------------ as arrays and JSON
    def kept(self, *, ended: bool) -> tuple[Arrays, dict[str, Any]]:
        """(arrays, JSON) that `restore` goes on from; of a training that has ended, what it gave."""
        arrays = _named("nets", self.nets.state_dict()) | {"random.cpu": torch.get_rng_state().numpy()}
        device = self._device
        if device.type == "cuda":
            arrays["random.cuda"] = torch.cuda.get_rng_state(device).numpy()
        about: dict[str, Any] = {
            "history": self.history.to_dict(),
            "best_score": self.best_score if np.isfinite(self.best_score) else None,
            "waited": self.waited,
            "rng": self.start if self.batches else self.rng.bit_generator.state,
            "ended": ended,
        }
        if ended:
            return arrays, about
        arrays |= _named("best", self.best)
        about |= {name: getattr(self, name) for name in ("record", "seconds", "phase", "batches", "owners")}
        about["weights"] = {name: weights for name, (_, weights) in self.terms.items()}
        arrays |= _named("terms", {name: torch.stack(values) for name, (values, _) in self.terms.items()})
        modules = {id(module): name for name, module in self.nets.named_modules()}
        about["everywhere"] = {
            key: sorted(modules[net] for net in mover.bound.everywhere) for key, mover in self._movers()
        }
        for key, mover in self._movers():
            for name, parameter in mover.bound.parameters.items():
                arrays |= _named(f"{key}.{name}", mover.optimizer.state.get(parameter, {}))
        return arrays, about

    def restore(self, arrays: Arrays, about: Mapping[str, Any], program: Program) -> None:
        """Go on from what `kept` gave.

        Raises
        ------
        KeyError, RuntimeError: it is of other networks.
        """
        self.history = History(**about["history"])
        self.best_score = -float("inf") if about["best_score"] is None else about["best_score"]
        self.waited, self.rng.bit_generator.state = about["waited"], about["rng"]
        nets = _below(arrays, "nets", self._device)
        self.nets.load_state_dict(nets)
        if about["ended"]:
            self.best = copy.deepcopy(self.nets.state_dict())
        else:
            self._restore_pass(arrays, about)
            for place, phase in enumerate(program):
                now = len(self.history)
                begun = now > phase.start or (now == phase.start and self.batches and place <= self.phase)
                if phase.before is not None and begun:  # for what it writes outside of the nets
                    with torch.no_grad():
                        phase.before(self.nets)
            self.nets.load_state_dict(nets)
        torch.set_rng_state(torch.from_numpy(np.array(arrays["random.cpu"])))
        if "random.cuda" in arrays:
            torch.cuda.set_rng_state(torch.from_numpy(np.array(arrays["random.cuda"])), self._device)

    def _restore_pass(self, arrays: Arrays, about: Mapping[str, Any]) -> None:
        self.best = _below(arrays, "best", self._device)
        for name in ("record", "seconds", "phase", "batches"):
            setattr(self, name, about[name])
        self.start = about["rng"]
        self.owners = {name: tuple(nets) for name, nets in about["owners"].items()}
        values = _below(arrays, "terms", self._device)
        self.terms = {name: (list(values[name]), weights) for name, weights in about["weights"].items()}
        modules = dict(self.nets.named_modules())
        for key, mover in self._movers():
            mover.bound.everywhere.update(id(modules[name]) for name in about["everywhere"][key])
            for name, parameter in mover.bound.parameters.items():
                if state := _below(arrays, f"{key}.{name}", parameter.device):
                    mover.optimizer.state[parameter] = state

    def _movers(self) -> list[tuple[str, Mover]]:
        return [
            (f"step.{j}.{k}", mover) for j, phase in enumerate(self.movers) for k, mover in enumerate(phase)
        ]

    @property
    def _device(self) -> torch.device:
        return next(self.nets.parameters()).device


def _named(prefix: str, tensors: Mapping[str, Any]) -> Arrays:
    """Tensors as arrays, "prefix/name"; what is none (an unused part of an optimiser's state) is left out."""
    found = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    return {f"{prefix}/{name}": value.detach().cpu().numpy() for name, value in found.items()}


def _below(arrays: Arrays, prefix: str, device: torch.device) -> dict[str, Tensor]:
    """The inverse of `_named`: tensors of their own."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): torch.from_numpy(np.array(value)).to(device)
        for name, value in arrays.items()
        if name.startswith(start)
    }
