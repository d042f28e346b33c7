"""A logistic model of measured things: features, their products, and a level of every user and of every item.

    logit E[y_ui] = offset_ui + x_u' G x_i + a_u + b_i          x: features, a constant first
    a_u ~ N(0, s_a),   b_i ~ N(0, s_b),   products in G ~ N(0, s_1), those with a power of a feature ~ N(0, s_2)

fitted to the mode by Newton steps on G, a and b in turn; the variances by empirical Bayes, s = sum a^2 / gamma with
gamma the number of levels that the data decide. It holds what ids and features say one by one, and no latent factor:
a hidden confounder of single pairs is not absorbed. For outcomes between 0 and 1 the likelihood is a quasi-likelihood
with an estimated dispersion.

Source. [MacKay1992] for the variances.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit

MAIN = 9.0  # NOTE prior variance of a feature's main effect, on the scale of logits: next to flat
LARGEST = 4.0, 9.0  # NOTE of the variances of products and of levels
SMALLEST = 1e-5
ALWAYS, AGAIN = (
    3,
    5,
)  # second derivatives by G are taken in the first rounds, and in every fifth: they hardly change
STEP = 2.0  # NOTE of a logit, at most: Newton's method may overshoot where outcomes are nearly all alike


class Cells(Protocol):
    """Pairs with an outcome."""

    shape: tuple[int, int]
    y: np.ndarray

    def logit(self, left: np.ndarray, right: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """left_u . right_i + a_u + b_i + offset of every cell."""
        ...

    def weighted(self, x: np.ndarray) -> np.ndarray:
        """Values of cells, each times the cell's weight."""
        ...

    def times(self, x: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n_users, k): sum over a user's cells of x_ui right_i."""
        ...

    def by_user(self, x: np.ndarray) -> np.ndarray:
        """(n_users,) sums over a user's cells."""
        ...

    def by_item(self, x: np.ndarray) -> np.ndarray:
        """(n_items,) sums over an item's cells."""
        ...


class Grid:
    """Every pair of a small catalogue, y (n_users, n_items), in single precision; `keep` leaves cells out."""

    def __init__(self, y: np.ndarray, keep: np.ndarray | None = None) -> None:
        self.y = y.astype(np.float32, copy=False)
        self.keep = keep
        self.shape = (y.shape[0], y.shape[1])

    def logit(self, left: np.ndarray, right: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        out = left.astype(np.float32) @ right.astype(np.float32).T
        out += a.astype(np.float32)[:, None]
        out += b.astype(np.float32)
        return out

    def weighted(self, x: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return x if self.keep is None else x * self.keep

    def times(self, x: np.ndarray, right: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return np.asarray((x @ right.astype(np.float32)).astype(np.float64))

    def by_user(self, x: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return np.asarray(x.sum(1, dtype=np.float64))

    def by_item(self, x: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return np.asarray(x.sum(0, dtype=np.float64))


class Rows:
    """Listed pairs, each at most once, with outcomes, offsets and weights, all (n,)."""

    def __init__(
        self,
        user: np.ndarray,
        item: np.ndarray,
        y: np.ndarray,
        shape: tuple[int, int],
        offset: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        order = np.lexsort((item, user))
        self.user, self.item, self.y = user[order], item[order].astype(np.int32), y[order].astype(np.float64)
        self.shape = shape
        self.offset = 0.0 if offset is None else offset[order]
        self.weight = None if weight is None else weight[order]
        self.start = np.zeros(shape[0] + 1, np.int64)
        np.cumsum(np.bincount(self.user, minlength=shape[0]), out=self.start[1:])

    def logit(self, left: np.ndarray, right: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        own: np.ndarray = np.einsum("nk,nk->n", left[self.user], right[self.item])
        return own + a[self.user] + b[self.item] + self.offset

    def weighted(self, x: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return x if self.weight is None else x * self.weight

    def times(self, x: np.ndarray, right: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return np.asarray(csr_matrix((x, self.item, self.start), shape=self.shape) @ right)

    def by_user(self, x: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return np.bincount(self.user, x, minlength=self.shape[0])

    def by_item(self, x: np.ndarray) -> np.ndarray:
        """See `Cells`."""
        return np.bincount(self.item, x, minlength=self.shape[1])


@dataclass(frozen=True, eq=False)
class Additive:
    """A fitted model.

    Attributes
    ----------
    x_user, x_item: (n_users, 1 + F), (n_items, 1 + G) columns, the constant first.
    group: (1 + F, 1 + G) 0 for the constant and main effects, 1 for products, 2 for products with a power.
    product: (1 + F, 1 + G) the matrix G. a: (n_users,). b: (n_items,).
    variances: s_a, s_b, s_1, s_2.
    dispersion: of the outcome, 1 for a likelihood.
    rounds: that were needed.
    """

    x_user: np.ndarray
    x_item: np.ndarray
    group: np.ndarray
    product: np.ndarray
    a: np.ndarray
    b: np.ndarray
    variances: tuple[float, float, float, float] = (0.3, 0.3, 0.1, 0.03)
    dispersion: float = 1.0
    rounds: int = 0

    @classmethod
    def empty(cls, user: tuple[np.ndarray, int], item: tuple[np.ndarray, int]) -> Additive:
        """The model that says 0 everywhere; user, item: columns, the constant first, and how many are not powers."""
        x_user, x_item = user[0], item[0]
        group = np.full((x_user.shape[1], x_item.shape[1]), 2)
        group[: 1 + user[1], : 1 + item[1]] = 1
        group[0], group[:, 0] = 0, 0
        return cls(x_user, x_item, group, np.zeros(group.shape), np.zeros(len(x_user)), np.zeros(len(x_item)))

    def cleared(self) -> Additive:
        """The model that says 0 everywhere, of the same columns."""
        product, a, b = (np.zeros_like(x) for x in (self.product, self.a, self.b))
        return Additive(self.x_user, self.x_item, self.group, product, a, b)

    def at(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(n,) logits of pairs, without offsets."""
        left = self.x_user @ self.product
        own: np.ndarray = np.einsum("nk,nk->n", left[user], self.x_item[item])
        return own + self.a[user] + self.b[item]

    def everywhere(self) -> np.ndarray:
        """(n_users, n_items) float32 logits."""
        left = (self.x_user @ self.product).astype(np.float32)
        out = left @ self.x_item.astype(np.float32).T
        out += self.a.astype(np.float32)[:, None]
        out += self.b.astype(np.float32)
        return out


def fit(
    cells: Cells,
    start: Additive,
    *,
    rounds: int = 30,
    tolerance: float = 2e-3,
    learn: bool = True,
    fixed_levels: bool = False,
    dispersed: bool = False,
) -> Additive:
    """The mode, from a start (`Additive.empty`, or an earlier fit).

    Parameters
    ----------
    rounds, tolerance: the most rounds, and the largest change of a coefficient below which they stop.
    learn: whether variances and dispersion are learned; otherwise they stay those of `start`.
    fixed_levels: whether the variances of users' and items' levels stay those of `start` all the same.
    dispersed: whether the outcome has a dispersion to be learned.
    """
    x_user, x_item = start.x_user, start.x_item
    twice_user, twice_item = _twice(x_user), _twice(x_item)
    product, a, b = start.product.copy(), start.a.copy(), start.b.copy()
    s_a, s_b, *s_g = start.variances
    phi = start.dispersion
    done = 0
    bend = np.zeros(0)
    while done < rounds:
        before = product.copy(), a.copy(), b.copy()
        rest, curve, square = _slopes(cells, x_user @ product, x_item, a, b)
        if learn and dispersed:
            phi = max(float(cells.by_user(square).sum() / max(cells.by_user(curve).sum(), 1e-12)), 1e-3)
        if done < (ALWAYS if learn else 1) or done % AGAIN == 0:
            bend = _bend(cells, curve, twice_user, twice_item, product.shape)
        precision = np.full(product.shape, 1 / MAIN)
        for g in (1, 2):
            precision[start.group == g] = 1 / s_g[g - 1]
        precision[0, 0] = 1e-6
        slope = (x_user.T @ cells.times(rest, x_item)).ravel() / phi
        inverse = np.linalg.inv(bend / phi + np.diag(precision.ravel()))
        step = inverse @ (slope - precision.ravel() * product.ravel())
        product = product + np.clip(step, -STEP, STEP).reshape(product.shape)
        for g in (1, 2) if learn else ():
            inner = start.group == g
            if inner.any():
                left = np.diag(inverse).reshape(product.shape)[inner]
                decided = max(float((1 - left / s_g[g - 1]).sum()), 1e-3)
                s_g[g - 1] = float(np.clip((product[inner] ** 2).sum() / decided, SMALLEST, LARGEST[0]))
        levels = learn and not fixed_levels
        rest, curve, _ = _slopes(cells, x_user @ product, x_item, a, b)
        a, s_a = _levels(cells.by_user(rest) / phi, cells.by_user(curve) / phi, a, s_a, levels)
        rest, curve, _ = _slopes(cells, x_user @ product, x_item, a, b)
        b, s_b = _levels(cells.by_item(rest) / phi, cells.by_item(curve) / phi, b, s_b, levels)
        done += 1
        moved = max(float(np.abs(new - old).max()) for new, old in zip((product, a, b), before, strict=True))
        if moved < tolerance:
            break
    return replace(
        start, product=product, a=a, b=b, variances=(s_a, s_b, s_g[0], s_g[1]), dispersion=phi, rounds=done
    )


def _levels(
    slope: np.ndarray, curve: np.ndarray, level: np.ndarray, variance: float, learn: bool
) -> tuple[np.ndarray, float]:
    """A Newton step of all levels at once, and their variance."""
    level = level + np.clip((slope - level / variance) / (curve + 1 / variance), -STEP, STEP)
    if learn:
        decided = max(float((curve / (curve + 1 / variance)).sum()), 1e-3)
        variance = float(np.clip((level**2).sum() / decided, SMALLEST, LARGEST[1]))
    return level, variance


def _slopes(
    cells: Cells, left: np.ndarray, right: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y - p, p (1 - p), (y - p)^2) of every cell, weighted."""
    p = expit(cells.logit(left, right, a, b))
    rest = cells.y - p
    return cells.weighted(rest), cells.weighted(p * (1 - p)), cells.weighted(rest * rest)


def _bend(
    cells: Cells, curve: np.ndarray, twice_user: np.ndarray, twice_item: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """(k, k) second derivatives of the log-likelihood by the k entries of G, negative."""
    n, m = shape
    upper = np.triu_indices(m)
    half = cells.times(curve, twice_item.reshape(-1, m, m)[:, upper[0], upper[1]])
    low = twice_user.T @ half
    full = np.empty((n * n, m, m))
    full[:, upper[0], upper[1]] = low
    full[:, upper[1], upper[0]] = low
    return np.asarray(full.reshape(n, n, m, m).transpose(0, 2, 1, 3).reshape(n * m, n * m))


def _twice(x: np.ndarray) -> np.ndarray:
    """(n, k^2) products of a row's columns with one another."""
    return np.asarray((x[:, :, None] * x[:, None, :]).reshape(len(x), -1))
