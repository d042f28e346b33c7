"""How far inverse propensities may be off: the box of weights under the marginal sensitivity model.

Hidden confounders may move the odds of exposure by a factor in [1/Gamma, Gamma] around those of the nominal p. Then
1/p_true lies in [a, b] with

    a = 1 + (1/p - 1) / Gamma,   b = 1 + (1/p - 1) * Gamma,   w = 1 + (1/p - 1) * odds, odds in [1/Gamma, Gamma].

Gamma is `uncertainty`: 1 means no hidden confounding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def weight_bounds(p: Tensor, uncertainty: float) -> tuple[Tensor, Tensor]:
    """(a, b), each (n,), smallest and largest 1/p_true of nominal p (n,) in (0, 1]; both are 1/p at uncertainty 1."""
    one = torch.ones_like(p)
    return 1 / p + surplus(p, one / uncertainty), 1 / p + surplus(p, one * uncertainty)


def surplus(p: Tensor, odds: Tensor) -> Tensor:
    """(n,) w - 1/p of weights w = 1 + (1/p - 1) odds: what a box adds to nominal weights, exactly 0 at odds 1."""
    return (1 / p - 1) * (odds - 1)


def worst_odds(x: Tensor, uncertainty: float) -> Tensor:
    """(n,) odds whose weights maximise sum w x over the box: Gamma where x > 0, 1/Gamma elsewhere; no gradient."""
    return torch.where(x.detach() > 0, uncertainty, 1 / uncertainty).to(x.dtype)
