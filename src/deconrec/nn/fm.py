"""Factorisation machine over ids, user features, item features and features of the row itself [Rendle2010].

    l_ui = s_u . s_i + b + b_u + b_i + w.x_u + v.y_i        + s_z . (s_u + s_i) + t.z   where rows have features z
    s_u  = c + p_u + sum_f x_uf A_f                         s_i likewise, with factors of its own
    s_z  = sum_f z_f C_f

The inputs of a row are, on either side, a constant, the id and the features; and those of the row itself (an
impression's hour and device). Every input has a factor, and every input of one side interacts with every input of the
others. The sums come first, so that a rectangle of users x items
is one matrix product, as for MF. Without features it is MF, exactly.

Deviations. 1. Inputs of one side do not interact with each other: in a row that is a function of the user alone, or of
            the item alone, and the biases are there for it. 2. A constant is an input of each side, with a factor, so
            that main effects are learned by the same factors as tastes. Without it, a shrunken bias is made up for by
            interactions with features that the observed rows do not hold in balance. 3. Standardised features are
            scaled so that a row of them has the mean squared length `SHARE`, an id's being 1: under one L2 for all,
            thirty columns would otherwise be thirty times as free as an id.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deconrec.pairs import Pairs, Tables

SHARE = 0.25  # NOTE chosen by biased hold-outs of Coat; those of simulated pairs hardly mind


def scaled(x: Tensor) -> Tensor:
    """Standardised features (n, F), scaled to the mean squared length `SHARE`."""
    return x * math.sqrt(SHARE / x.shape[1])


class Side(nn.Module):
    """One side, users or items: (factors (n, dim), bias (n,)) of ids with their features.

    Parameters
    ----------
    n, n_features, dim: sizes; n_features may be 0.
    std: standard deviation of the factors at the start; 0 starts the side still.
    constant: whether a constant is an input too.
    """

    def __init__(self, n: int, n_features: int, dim: int, std: float, *, constant: bool) -> None:
        super().__init__()
        self.id = nn.Parameter(torch.randn(n, dim) * std)
        self.bias = nn.Parameter(torch.zeros(n))
        self.factors = nn.Parameter(torch.randn(n_features, dim) * std) if n_features else None
        self.weights = nn.Parameter(torch.zeros(n_features)) if n_features else None
        self.constant = nn.Parameter(torch.randn(dim) * std) if constant else None

    def forward(self, index: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        """(s (n, dim), bias (n,)) of codes, features looked up in `table`."""
        own, bias = torch.index_select(self.id, 0, index), torch.index_select(self.bias, 0, index)
        s, b = self.shared(None if table is None else torch.index_select(table, 0, index))
        return own + s, bias + b

    def shared(self, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the constant and features x (n, F) give, without an id: (factors (n or 1, dim), bias (n or 1,))."""
        s, b = self.id.new_zeros(1, self.id.shape[1]), self.id.new_zeros(1)
        if self.constant is not None:
            s = s + self.constant
        if self.factors is None or self.weights is None or x is None:
            return s, b
        x = scaled(x)
        return torch.addmm(s, x, self.factors), x @ self.weights


class FM(nn.Module):
    """The machine; see the module.

    Parameters
    ----------
    n_users, n_items, n_user_features, n_item_features, n_row_features, dim: sizes.
    std, offset, still: as of `MF`; `still` starts the item side and the row's at zero, and every logit at exactly
        `offset`.

    Called with a `Pairs` of n rows; gives (n,) logits.
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        *,
        n_user_features: int = 0,
        n_item_features: int = 0,
        n_row_features: int = 0,
        std: float = 0.1,
        offset: float = 0.0,
        still: bool = False,
    ) -> None:
        super().__init__()
        constant = bool(n_user_features or n_item_features or n_row_features)
        self.user = Side(n_users, n_user_features, dim, std, constant=constant)
        self.item = Side(n_items, n_item_features, dim, 0.0 if still else std, constant=constant)
        self.offset = nn.Parameter(torch.tensor(float(offset)))
        start = torch.zeros(n_row_features, dim) if still else torch.randn(n_row_features, dim) * std
        self.row = nn.Parameter(start) if n_row_features else None
        self.row_weights = nn.Parameter(torch.zeros(n_row_features)) if n_row_features else None

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits; a rectangle of users x items has no features of its rows."""
        tables = pairs.tables
        if pairs.grid is not None:
            s_u, b_u = self.user(pairs.grid.users, tables.user)
            s_i, b_i = self.item(pairs.grid.items, tables.item)
            return (torch.addmm(b_i + self.offset, s_u, s_i.T) + b_u[:, None]).reshape(-1)
        s_u, b_u = self.user(pairs.user, tables.user)
        s_i, b_i = self.item(pairs.item, tables.item)
        logit = (s_u * s_i).sum(1) + b_u + b_i + self.offset
        if self.row is None or self.row_weights is None or pairs.x_row is None:
            return logit
        z = scaled(pairs.x_row)
        return logit + ((z @ self.row) * (s_u + s_i)).sum(1) + z @ self.row_weights

    def item_side(self, tables: Tables) -> tuple[Tensor, Tensor]:
        """(s (n_items, dim), bias (n_items,) with the global one) of every item."""
        everything = torch.arange(len(self.item.id), device=self.item.id.device)
        s_i, b_i = self.item(everything, tables.item)
        return s_i, b_i + self.offset

    def user_side(self, tables: Tables) -> tuple[Tensor, Tensor]:
        """(s (n_users, dim), bias (n_users,)) of every user."""
        everyone = torch.arange(len(self.user.id), device=self.user.id.device)
        s_u, b_u = self.user(everyone, tables.user)
        return s_u, b_u

    def new_users(self, n: int, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """(factors (n, dim), bias (n,)) of users without a row: what the constant and features x (n, F) give."""
        s, b = self.user.shared(x)
        return s.expand(n, -1), b.expand(n)
