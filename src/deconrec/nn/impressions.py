"""The network of impression logs: embeddings of user, item and categories, numbers, and a small perceptron.

    l   = b + b_u + b_i + sum_c b_c + v.z + sum_k w_k p_uk q_ik + a.h
    h   = silu(W [p_u, q_i, e_1, ..., e_C, z] + d)

p_u, q_i and e_c are embeddings of the user, the item and the category of column c; z are the numbers, standardised,
with indicators of gaps. The first line but its last term is a factorisation machine's: what matters most is learned at
once, and the perceptron adds the rest. Rare and unseen categories share embeddings by a hash (`data.context`). A user
or item that was never seen has the embedding 0, in the middle of those that were: the last row of its table, which no
gradient reaches.

A further task's `ImpressionTower` reads the same embeddings, with biases, weights and a perceptron of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from deconrec.pairs import Pairs, Tables

HIDDEN = 32  # NOTE units of the perceptron


class LogSizes(NamedTuple):
    """Sizes of a log and of its embeddings.

    n_users, n_items: ids. n_places: categories of all columns. n_columns: categorical columns. n_inputs: numbers and
    indicators. dim: length of an embedding.
    """

    n_users: int
    n_items: int
    n_places: int
    n_columns: int
    n_inputs: int
    dim: int


class Embeddings(nn.Module):
    """Embeddings of users, items and categories, each with one more row for what was never seen (of ids).

    Parameters
    ----------
    sizes: of the log.
    std: standard deviation at the start; that of items is 0 with `still`.
    """

    def __init__(self, sizes: LogSizes, *, std: float = 0.1, still: bool = False) -> None:
        super().__init__()
        self.user = nn.Parameter(_with_unseen(sizes.n_users, sizes.dim, std))
        self.item = nn.Parameter(_with_unseen(sizes.n_items, sizes.dim, 0.0 if still else std))
        self.place = nn.Parameter(torch.randn(sizes.n_places, sizes.dim) * std)

    def forward(self, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """(p_u (n, dim), q_i (n, dim), e (n, C * dim)) of rows."""
        places = pairs.context["places"]
        own = self.place.index_select(0, places.reshape(-1))
        return (
            self.user.index_select(0, pairs.user),
            self.item.index_select(0, pairs.item),
            own.reshape(len(places), -1),
        )


class Answer(nn.Module):
    """One task's logit from embeddings and numbers; see the module.

    Parameters
    ----------
    sizes: of the log.
    offset: start of b, a logit.  still: start with a = 0.
    """

    def __init__(self, sizes: LogSizes, *, offset: float = 0.0, still: bool = False) -> None:
        super().__init__()
        self.user_bias = nn.Parameter(torch.zeros(sizes.n_users + 1))
        self.item_bias = nn.Parameter(torch.zeros(sizes.n_items + 1))
        self.place_bias = nn.Parameter(torch.zeros(sizes.n_places))
        self.weights = nn.Parameter(torch.zeros(sizes.n_inputs))
        self.diagonal = nn.Parameter(torch.ones(sizes.dim))
        width = (2 + sizes.n_columns) * sizes.dim + sizes.n_inputs
        self.hidden = nn.Parameter(torch.randn(width, HIDDEN) * width**-0.5)
        self.hidden_bias = nn.Parameter(torch.randn(HIDDEN) * 0.1)
        self.out = nn.Parameter(torch.zeros(HIDDEN) if still else torch.randn(HIDDEN) * 0.1)
        self.offset = nn.Parameter(torch.tensor(float(offset)))

    def forward(self, pairs: Pairs, embedded: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """(n,) logits."""
        p, q, e = embedded
        z, places = pairs.context["inputs"].to(p.dtype), pairs.context["places"]
        h = silu(torch.addmm(self.hidden_bias, torch.cat([p, q, e, z], dim=1), self.hidden))
        biases = self.user_bias.index_select(0, pairs.user) + self.item_bias.index_select(0, pairs.item)
        if places.shape[1]:
            biases = biases + self.place_bias.index_select(0, places.reshape(-1)).reshape(places.shape).sum(1)
        return (p * self.diagonal * q).sum(1) + biases + z @ self.weights + h @ self.out + self.offset


class ImpressionNet(nn.Module):
    """Embeddings and one task's answer.

    Parameters
    ----------
    sizes: of the log.
    offset, still: as of `nn.mf.MF`; `still` starts every logit at exactly `offset`.

    Called with a `Pairs` of n rows that carry their context; gives (n,) logits.
    """

    def __init__(self, sizes: LogSizes, *, offset: float = 0.0, still: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        self.embeddings = Embeddings(sizes, still=still)
        self.answer = Answer(sizes, offset=offset, still=still)

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits."""
        return self.answer(pairs, self.embeddings(pairs))

    def item_side(self, tables: Tables) -> tuple[Tensor, Tensor]:
        """(q (n_items, dim), b_i + b (n_items,)) of every item."""
        return self.embeddings.item[:-1], self.answer.item_bias[:-1] + self.answer.offset


class ImpressionTower(nn.Module):
    """A further task's logits over the embeddings of another network, which stay its own (see `nn.towers`).

    Parameters
    ----------
    over: the network whose embeddings are shared.
    offset: start of b, a logit.
    """

    def __init__(self, over: ImpressionNet, *, offset: float = 0.0) -> None:
        super().__init__()
        self._over = (over,)  # a tuple: a module that stood here openly would be registered, and saved, twice
        self.answer = Answer(over.sizes, offset=offset)

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits."""
        (over,) = self._over
        return self.answer(pairs, over.embeddings(pairs))


def _with_unseen(n: int, dim: int, std: float) -> Tensor:
    """(n + 1, dim) random rows, and one of zeros."""
    return torch.cat([torch.randn(n, dim) * std, torch.zeros(1, dim)])
