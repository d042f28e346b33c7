"""Factorisation machine over ids, user features and item features: every pair of inputs interacts [Rendle2010].

    l_ui = b + b_u + b_i + w.x_u + v.y_i + sum over pairs of inputs of <factor, factor'> value value'

The inputs of a row are the user's id and features and the item's id and features. Interactions across the two sides
are one product of summed factors, s_u . s_i with s_u = p_u + sum_f x_uf A_f; those inside a side depend on that side
alone and act as a bias. A rectangle of users x items is therefore one matrix product, as for MF.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deconrec.pairs import Pairs, Tables


class Side(nn.Module):
    """One side, users or items: (factors (n, dim), bias (n,)) of ids with their features.

    Parameters
    ----------
    n, n_features, dim: sizes; n_features may be 0.
    std: standard deviation of the factors at the start; 0 starts the side still.
    """

    def __init__(self, n: int, n_features: int, dim: int, std: float) -> None:
        super().__init__()
        self.id = nn.Parameter(torch.randn(n, dim) * std)
        self.bias = nn.Parameter(torch.zeros(n))
        self.factors = nn.Parameter(torch.randn(n_features, dim) * std) if n_features else None
        self.weights = nn.Parameter(torch.zeros(n_features)) if n_features else None

    def forward(self, index: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        """(s (n, dim), bias with the interactions inside the side (n,)) of codes, features looked up in `table`."""
        own, bias = torch.index_select(self.id, 0, index), torch.index_select(self.bias, 0, index)
        if self.factors is None or self.weights is None or table is None:
            return own, bias
        x = torch.index_select(table, 0, index)
        whole = own + x @ self.factors
        squares = own.square().sum(1) + x.square() @ self.factors.square().sum(1)
        inside = 0.5 * (whole.square().sum(1) - squares)
        return whole, bias + x @ self.weights + inside


class FM(nn.Module):
    """The machine; see the module.

    Parameters
    ----------
    n_users, n_items, n_user_features, n_item_features, dim: sizes.
    std, offset, still: as of `MF`; `still` starts the item side at zero.

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
        std: float = 0.1,
        offset: float = 0.0,
        still: bool = False,
    ) -> None:
        super().__init__()
        self.user = Side(n_users, n_user_features, dim, std)
        self.item = Side(n_items, n_item_features, dim, 0.0 if still else std)
        self.offset = nn.Parameter(torch.tensor(float(offset)))

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits."""
        tables = pairs.tables
        if pairs.grid is not None:
            s_u, b_u = self.user(pairs.grid.users, tables.user)
            s_i, b_i = self.item(pairs.grid.items, tables.item)
            return (torch.addmm(b_i + self.offset, s_u, s_i.T) + b_u[:, None]).reshape(-1)
        s_u, b_u = self.user(pairs.user, tables.user)
        s_i, b_i = self.item(pairs.item, tables.item)
        return (s_u * s_i).sum(1) + b_u + b_i + self.offset

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
        """(factors (n, dim), bias (n,)) that features x (n, F) give a user whose own id was never trained."""
        own = self.user.id.new_zeros(n, self.user.id.shape[1])
        if self.user.factors is None or self.user.weights is None or x is None:
            return own, own.new_zeros(n)
        whole = x @ self.user.factors
        inside = 0.5 * (whole.square().sum(1) - x.square() @ self.user.factors.square().sum(1))
        return whole, x @ self.user.weights + inside
