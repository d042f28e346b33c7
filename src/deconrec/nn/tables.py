"""Weights as small tables: of an item and an outcome, or the sum of a user's, an item's and an outcome's entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deconrec.pairs import Pairs


def liked(pairs: Pairs) -> Tensor:
    """(n,) outcome class: 1 where r >= 1/2, 0 below; of observed pairs (elsewhere r is no outcome)."""
    return (pairs.r >= 0.5).to(torch.int64)


def state(pairs: Pairs) -> Tensor:
    """(n,) 0 unobserved, 1 observed and r < 1/2, 2 observed and r >= 1/2. Observation is o: r = 0 is an outcome."""
    return torch.where(pairs.o > 0, 1 + liked(pairs), 0)


class ItemOutcomeTable(nn.Module):
    """One number for each item and outcome class, 1 at the start. Called with observed `Pairs`; gives (n,)."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(n_items, 2))

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) entries."""
        return self.values.reshape(-1).index_select(0, 2 * pairs.item + liked(pairs))


class AdditiveWeight(nn.Module):
    """w = exp(l), l = (a_u + b_i + c_k) / 5, held in [1/largest, largest] smoothly; 1 everywhere at the start.

    Parameters
    ----------
    n_users, n_items, n_classes: sizes.
    largest: > 1. l becomes t tanh(l / t), t = log largest: a clamp would end learning at its ends.

    Called with n pairs and their classes (n,) int64; gives (n,).
    """

    def __init__(self, n_users: int, n_items: int, n_classes: int, largest: float) -> None:
        super().__init__()
        self.user = nn.Parameter(torch.zeros(n_users))
        self.item = nn.Parameter(torch.zeros(n_items))
        self.kind = nn.Parameter(torch.zeros(n_classes))
        self.cap = math.log(largest)

    def forward(self, pairs: Pairs, kind: Tensor) -> Tensor:
        """(n,) weights."""
        if pairs.grid is not None:  # a rectangle: one addition of a column and a row
            a, b = self.user.index_select(0, pairs.grid.users), self.item.index_select(0, pairs.grid.items)
            own = (a[:, None] + b).reshape(-1)
        else:
            own = self.user.index_select(0, pairs.user) + self.item.index_select(0, pairs.item)
        log_w = (own + self.kind.index_select(0, kind)) / 5
        return torch.exp(self.cap * torch.tanh(log_w / self.cap))


class ClassLogit(nn.Module):
    """A logit for each class of pairs, `offset` at the start. Called with classes (n,) int64; gives (n,)."""

    def __init__(self, n_classes: int, offset: float = 0.0) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.full((n_classes,), float(offset)))

    def forward(self, kind: Tensor) -> Tensor:
        """(n,) logits."""
        return self.values.index_select(0, kind)


class OutcomeLogit(nn.Module):
    """A logit for each outcome, (1 - r) a_0 + r a_1, zero at the start.

    Called with outcomes (n,) in [0, 1]; gives (n,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(2))

    def forward(self, r: Tensor) -> Tensor:
        """(n,) logits."""
        return torch.lerp(self.values[0], self.values[1], r)
