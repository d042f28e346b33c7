"""Matrix factorisation with biases: the backbone of paper 2."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from deconrec.pairs import Pairs, Tables


class MF(nn.Module):
    """l_ui = p_u . q_i + b_u + b_i + b (a logit).

    Parameters
    ----------
    n_users, n_items, dim: sizes; dim >= 1.
    std: standard deviation of the factors at the start.
    offset: start of the global bias b, a logit.
    still: start with item factors and biases at zero, so that every logit is exactly `offset` and the gradient
        is not zero (user factors stay random): the residual nets of Res-IPS and Res-DR.

    Called with a `Pairs` of n rows; gives (n,) logits. On a grid it answers by one matrix product.
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        *,
        std: float = 0.1,
        offset: float = 0.0,
        still: bool = False,
    ) -> None:
        super().__init__()
        self.user = nn.Parameter(torch.randn(n_users, dim) * std)
        self.item = nn.Parameter(torch.zeros(n_items, dim) if still else torch.randn(n_items, dim) * std)
        self.user_bias = nn.Parameter(torch.zeros(n_users))
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        self.offset = nn.Parameter(torch.tensor(float(offset)))

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits."""
        if pairs.grid is not None:
            u, i = pairs.grid.users, pairs.grid.items
            p, q, b_u, b_i = (
                _rows(self.user, u),
                _rows(self.item, i),
                _rows(self.user_bias, u),
                _rows(self.item_bias, i),
            )
            return (torch.addmm(b_i + self.offset, p, q.T) + b_u[:, None]).reshape(-1)
        u, i = pairs.user, pairs.item
        dot = (_rows(self.user, u) * _rows(self.item, i)).sum(1)
        return dot + _rows(self.user_bias, u) + _rows(self.item_bias, i) + self.offset

    def item_side(self, tables: Tables) -> tuple[Tensor, Tensor]:
        """(q (n_items, dim), b_i + b (n_items,)) of every item."""
        return self.item, self.item_bias + self.offset

    def user_side(self, tables: Tables) -> tuple[Tensor, Tensor]:
        """(p (n_users, dim), b_u (n_users,)) of every user."""
        return self.user, self.user_bias

    def new_users(self, n: int, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """(factors (n, dim), bias (n,)) of users without a row: zero."""
        return self.user.new_zeros(n, self.user.shape[1]), self.user.new_zeros(n)


def fold_in(
    item_side: tuple[Tensor, Tensor],
    start: tuple[Tensor, Tensor],
    user: np.ndarray,
    item: np.ndarray,
    r: np.ndarray,
    penalty: float,
    rounds: int = 10,
) -> np.ndarray:
    """Expected outcomes of new users, item side fixed: each user's factors and bias by ridge logistic regression.

    l_ui = (a_u + w) . q_i + c_u + b + b_i, with a_u and c_u what the user's features give. Minimises over w and b the
    sum over the user's rows of the cross-entropy plus (penalty / 2) (||w||^2 + b^2), the part of the training objective
    (mean over n rows, penalty = l2 * n) that the user's own parameters enter, by Newton's method (`rounds` at most).

    Parameters
    ----------
    item_side: q (n_items, dim) and b_i (n_items,).
    start: a (n_users, dim) and c (n_users,).
    user, item: (n,) codes, users in [0, n_users).
    r: (n,) outcomes in [0, 1].

    Returns (n_users, n_items) in [0, 1]; a user without rows gets w = 0, b = 0.
    """
    q, b_i, a, c = (t.detach().cpu().double().numpy() for t in (*item_side, *start))
    n_users, dim = a.shape
    out = np.zeros((n_users, dim + 1))
    ridge = max(penalty, 1e-6) * np.eye(dim + 1)
    order = np.argsort(user, kind="stable")
    bounds = np.searchsorted(user[order], np.arange(n_users + 1))
    for u in range(n_users):
        rows = order[bounds[u] : bounds[u + 1]]
        if not len(rows):
            continue
        x = np.hstack([q[item[rows]], np.ones((len(rows), 1))])
        shift, y, w = q[item[rows]] @ a[u] + c[u] + b_i[item[rows]], r[rows], out[u]
        for _ in range(rounds):
            p = expit(x @ w + shift)
            gradient = x.T @ (p - y) + ridge @ w
            step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, gradient)
            w = w - step / max(1.0, np.abs(step).max())
            if np.abs(step).max() < 1e-8:
                break
        out[u] = w
    own, bias = out[:, :-1], out[:, -1] + c
    return np.asarray(expit((own + a) @ q.T + bias[:, None] + b_i))


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table; index_select has the cheapest gradient on a CPU."""
    return torch.index_select(table, 0, index)
