"""The one place where propensities are floored, and what the floor did."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from deconrec.evaluation.overlap import Overlap, refuse_constant

__all__ = [
    "Overlap",
    "automatic",
    "floored",
    "floored_logit",
    "inverse",
    "learned_inverse",
    "refuse_constant",
]


def floored(p: Tensor, floor: float) -> Tensor:
    """max(p, floor), in (0, 1]; the gradient passes as if there were no floor (a clamp would stop learning there)."""
    return p + (p.clamp(min=floor) - p).detach()


def inverse(logit: Tensor, floor: float) -> Tensor:
    """1 / max(sigma(logit), floor), from the logit; the gradient passes below the floor as in `floored`."""
    return 1.0 / floored(torch.sigmoid(logit), floor)


def floored_logit(logit: Tensor, floor: float) -> Tensor:
    """The logit of max(sigma(l), floor); the gradient passes below the floor."""
    least = math.log(floor / (1 - floor)) if floor < 1 else math.inf
    return logit + (logit.clamp(min=least) - logit).detach()


def learned_inverse(logit: Tensor, floor: float) -> Tensor:
    """1 / max(sigma(logit), floor) = exp(min(log(1 + exp(-l)), -log floor)), for a propensity taught through 1/p.

    The floor is in the value alone, and the gradient is that of the logarithm: -sigma(-l) / max(sigma(l), floor), at
    most 1 / floor in size and not 0 below the floor, where that of `inverse` vanishes with sigma(l).
    """
    log_w = softplus(-logit)
    return torch.exp(log_w + (log_w.clamp(max=-math.log(floor)) - log_w).detach())


def automatic(floor: float | None, density: float) -> float:
    """The floor in force: as given, or min(0.1, |O| / |D|): no weight then exceeds what a uniform draw would give.

    A fixed floor would turn every weight of a sparse log into the same number, that is, weighting off.
    """
    return floor if floor is not None else float(min(0.1, max(density, 1e-6)))
