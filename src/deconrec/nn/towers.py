"""Towers: networks of further tasks over the factors of another network (shared embeddings).

The first task's network is a plain MF or FM. A tower weighs the same factors by its own diagonal and has its own
biases,

    l_ui = sum_k w_k s_uk s_ik + b_u + b_i + v_x.x_u + v_y.y_i + b,

with s_u, s_i the factors of the first network (for FM, those of all inputs of a side, summed) and x, y scaled as there.
A diagonal of the first network would add nothing: it can be moved into its factors. `Head` reads factors without
moving them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deconrec.nn.fm import FM, Side, scaled
from deconrec.nn.mf import MF
from deconrec.nn.sizes import Sizes
from deconrec.pairs import Pairs


class Tower(nn.Module):
    """A further task's logits; see the module.

    Parameters
    ----------
    over: the network whose factors are shared, an `MF` or `FM`. They stay its own: they are saved with it, and a step
        that updates the tower alone does not move them.
    spec: sizes.
    offset: start of the global bias b, a logit.

    Called with a `Pairs` of n rows; gives (n,) logits. On a grid it answers by one matrix product.
    """

    def __init__(self, over: nn.Module, spec: Sizes, *, offset: float = 0.0) -> None:
        super().__init__()
        assert isinstance(over, MF | FM)
        self._over = (over,)  # a tuple: a module that stood here openly would be registered, and saved, twice
        dim = (over.user if isinstance(over, MF) else over.user.id).shape[1]
        self.diagonal = nn.Parameter(torch.ones(dim))
        self.user = _Bias(spec.n_users, 0 if isinstance(over, MF) else spec.n_user_features)
        self.item = _Bias(spec.n_items, 0 if isinstance(over, MF) else spec.n_item_features)
        self.offset = nn.Parameter(torch.tensor(float(offset)))

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits."""
        (over,) = self._over
        tables, grid = pairs.tables, pairs.grid
        u, i = (pairs.user, pairs.item) if grid is None else (grid.users, grid.items)
        s_u = _factors(over.user, u, tables.user) * self.diagonal
        s_i = _factors(over.item, i, tables.item)
        b_u, b_i = self.user(u, tables.user), self.item(i, tables.item) + self.offset
        if grid is None:
            return (s_u * s_i).sum(1) + b_u + b_i
        return (torch.addmm(b_i, s_u, s_i.T) + b_u[:, None]).reshape(-1)


class Head(nn.Module):
    """A linear head on the factors of another network, held fixed: l_ui = v . s_u + w . s_i + d . (s_u s_i) + b.

    All of v, w, d (dim,) and b start at 0, so that every logit is 0 there; no gradient reaches the factors.

    Parameters
    ----------
    over: the network whose factors are read, an `MF` or `FM`; they are saved with it.

    Called with a `Pairs` of n rows; gives (n,) logits.
    """

    def __init__(self, over: nn.Module) -> None:
        super().__init__()
        assert isinstance(over, MF | FM)
        self._over = (over,)
        dim = (over.user if isinstance(over, MF) else over.user.id).shape[1]
        self.of_user, self.of_item, self.of_both = (nn.Parameter(torch.zeros(dim)) for _ in range(3))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits."""
        (over,) = self._over
        grid = pairs.grid
        u, i = (pairs.user, pairs.item) if grid is None else (grid.users, grid.items)
        with torch.no_grad():
            s_u, s_i = _factors(over.user, u, pairs.tables.user), _factors(over.item, i, pairs.tables.item)
        own, other = s_u @ self.of_user, s_i @ self.of_item + self.offset
        if grid is None:
            return own + other + (s_u * self.of_both * s_i).sum(1)
        return (torch.addmm(other, s_u * self.of_both, s_i.T) + own[:, None]).reshape(-1)


class _Bias(nn.Module):
    """(n,) biases of codes, with a linear part in their features."""

    def __init__(self, n: int, n_features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n))
        self.weights = nn.Parameter(torch.zeros(n_features)) if n_features else None

    def forward(self, index: Tensor, table: Tensor | None) -> Tensor:
        own = torch.index_select(self.bias, 0, index)
        if self.weights is None or table is None:
            return own
        return own + scaled(torch.index_select(table, 0, index)) @ self.weights


def _factors(side: Tensor | Side, index: Tensor, table: Tensor | None) -> Tensor:
    """(n, dim) factors of codes on one side of a network."""
    if isinstance(side, Side):
        return side(index, table)[0]
    return torch.index_select(side, 0, index)
