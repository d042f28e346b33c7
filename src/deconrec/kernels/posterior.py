"""What is kept of a chain of `kernels.bilinear`, and the scores that follow from it.

Scores are products of two tables. Of the mean, each table holds the known features beside the mean coefficients, and
latent factors, whose mean is no product of few columns, compressed to the best ones. Some of the draws are kept whole:
for intervals, for exploring, and for users who come later.

A score's variance is the sum of a user's part and an item's: means over a grid of the others, so that no matrix of all
pairs is ever made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from deconrec.kernels.bilinear import Draw, Sampler
from deconrec.kernels.response import Gaussian, Ordinal
from deconrec.kernels.tables import compressed, dots, parts, rescaled

WIDE = 128  # columns of latent factors that are collected before they are compressed
GRID = 64  # users (items) over which a score's variance is read for every item (user)


@dataclass(frozen=True, eq=False)
class Posterior:
    """A posterior by its mean and some of its draws.

    Attributes
    ----------
    phi_1, psi_1: (n, 1 + F), (m, 1 + H) float32 known features, each after a one.
    user_table, item_table: (n, k), (m, k) float32; their products are the mean scores, slopes applied.
    user_variance, item_variance: (n,), (m,) float32 mean variance of a user's (an item's) scores over the others.
    draws: those that were kept.
    d: (K, S) of every draw, kept whole or not.
    slopes: the last three of d are slopes that the answers have too.
    """

    phi_1: np.ndarray
    psi_1: np.ndarray
    user_table: np.ndarray
    item_table: np.ndarray
    user_variance: np.ndarray
    item_variance: np.ndarray
    draws: list[Draw]
    d: np.ndarray
    slopes: bool

    # ------------------------------------------------------------------ the mean
    def pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(N,) mean scores of pairs."""
        return dots(self.user_table, self.item_table, user, item)

    def block(self, users: np.ndarray) -> np.ndarray:
        """(B, m) mean scores of users."""
        return np.asarray(self.user_table[users] @ self.item_table.T)

    def variance(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Variance of scores of a user's and an item's part; these broadcast against each other."""
        level = np.float32(0.5) * (self.user_variance.mean() + self.item_variance.mean())
        return np.asarray(np.maximum(user + item - level, np.float32(0.0)))

    # ------------------------------------------------------------------ a draw
    def core_tables(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Tables of users and items whose products are a draw's scores, but for slopes and the columns' part."""
        return core_tables(self.phi_1, self.psi_1, draw)

    def tables(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """The same, slopes applied."""
        return rescaled(*self.core_tables(draw), self.slopes_of(draw))

    def slopes_of(self, draw: Draw) -> np.ndarray:
        """(3,) what is added to the slopes of users, items and interactions."""
        return draw.d[-3:] if self.slopes else np.zeros(3)

    def rescaled(self, draw: Draw, left: np.ndarray) -> np.ndarray:
        """(B, m) scores of new users from their table (B, k), parts rescaled as training users' are."""
        users, items = self.core_tables(draw)
        core = left @ items.T
        a, b, g = (float(x) for x in self.slopes_of(draw))
        _, by_item, level = parts(users, items)
        by_user = core.mean(1) - level
        return np.asarray((1 + g) * core + (a - g) * by_user[:, None] + (b - g) * by_item - g * level)

    # ------------------------------------------------------------------ saving
    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name, without the features."""
        state = {name: getattr(self, name) for name in ARRAYS}
        state["slopes"] = np.array([self.slopes])
        return state | {
            f"draws.{f.name}": np.stack([getattr(draw, f.name) for draw in self.draws]) for f in fields(Draw)
        }

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray], phi: np.ndarray, psi: np.ndarray) -> Posterior:
        """The inverse of `state`."""
        drawn = [np.array(state[f"draws.{f.name}"]) for f in fields(Draw)]
        draws = [Draw(*values) for values in zip(*drawn, strict=True)]
        arrays = {name: np.array(state[name]) for name in ARRAYS}
        return cls(with_ones(phi), with_ones(psi), draws=draws, slopes=bool(state["slopes"][0]), **arrays)


ARRAYS = ("user_table", "item_table", "user_variance", "item_variance", "d")


class Collected:
    """What is summed up while a chain goes on.

    slopes: the last three columns of the chain are slopes. steps: sweeps to come; kept: draws that are kept, at most.
    """

    def __init__(self, sampler: Sampler[Ordinal | Gaussian], steps: int, kept: int, *, slopes: bool) -> None:
        (n, f), (m, h) = sampler.phi_1.shape, sampler.psi_1.shape
        self.sampler, self.steps, self.slopes = sampler, steps, slopes
        self.linear_u, self.linear_i = np.zeros((n, h)), np.zeros((m, f))
        self.latent_u, self.latent_i = np.zeros((n, 0), np.float32), np.zeros((m, 0), np.float32)
        self.some_u, self.some_i = spread_out(n, GRID), spread_out(m, GRID)
        self.square_u, self.square_i = np.zeros(n), np.zeros(m)  # of scores, summed, for their variance
        self.keep = set(spread_out(steps, kept).tolist())
        self.draws: list[Draw] = []
        self.d: list[np.ndarray] = []
        self.parameters: list[np.ndarray] = []

    def add(self) -> Draw:
        """Take in the state after a sweep."""
        sampler, number = self.sampler, len(self.d)
        f, h, dim = self.linear_i.shape[1], self.linear_u.shape[1], sampler.dim
        # Means given the rest instead of draws: the same expectation with less noise.
        self.linear_u += sampler.phi_1 @ sampler.before_g + sampler.mean_u[:, :h]
        self.linear_i += sampler.mean_i[:, :f]
        if dim:
            self.latent_u = np.column_stack([self.latent_u, sampler.mean_u[:, h:]])
            self.latent_i = np.column_stack([self.latent_i, sampler.q_before])
            if self.latent_u.shape[1] > WIDE or number == self.steps - 1:
                self.latent_u, self.latent_i = compressed(self.latent_u, self.latent_i, 4 * dim)
        draw = sampler.draw()
        left, right = core_tables(sampler.phi_1, sampler.psi_1, draw)
        left, right = rescaled(left, right, draw.d[-3:] if self.slopes else np.zeros(3))
        self.square_u += ((left @ right[self.some_i].T).astype(np.float64) ** 2).mean(1)
        self.square_i += ((right @ left[self.some_u].T).astype(np.float64) ** 2).mean(1)
        self.d.append(draw.d)
        self.parameters.append(draw.parameters)
        if number in self.keep:
            small = replace(draw, user=draw.user.astype(np.float16), item=draw.item.astype(np.float16))
            self.draws.append(small)
        return draw

    def posterior(self) -> Posterior:
        """What was taken in."""
        sampler, steps, d = self.sampler, len(self.d), np.array(self.d)
        left = np.column_stack([self.linear_u / steps, sampler.phi_1, self.latent_u / steps])
        right = np.column_stack([sampler.psi_1, self.linear_i / steps, self.latent_i])
        slopes = d.mean(0)[-3:] if self.slopes else np.zeros(3)
        left, right = rescaled(left, right, slopes)
        mean_u = ((left @ right[self.some_i].T).astype(np.float64) ** 2).mean(1)
        mean_i = ((right @ left[self.some_u].T).astype(np.float64) ** 2).mean(1)
        user_variance, item_variance = (
            np.maximum(square / steps - mean, 0.0).astype(np.float32)
            for square, mean in ((self.square_u, mean_u), (self.square_i, mean_i))
        )
        return Posterior(
            phi_1=sampler.phi_1,
            psi_1=sampler.psi_1,
            user_table=left,
            item_table=right,
            user_variance=user_variance,
            item_variance=item_variance,
            draws=self.draws,
            d=d,
            slopes=self.slopes,
        )


def core_tables(phi_1: np.ndarray, psi_1: np.ndarray, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """(n, k), (m, k) whose products are a draw's scores, but for slopes and the columns' part."""
    h = psi_1.shape[1]
    left = np.column_stack([phi_1 @ draw.g + draw.user[:, :h], phi_1, draw.user[:, h:]])
    return left, np.column_stack([psi_1, draw.item])


def with_ones(x: np.ndarray) -> np.ndarray:
    """(n, 1 + F) float32: a one before the features x (n, F)."""
    return np.column_stack([np.ones(len(x), np.float32), x])


def spread_out(n: int, most: int) -> np.ndarray:
    """At most `most` of the numbers 0 to n - 1, evenly spread."""
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, most)).astype(np.int64))
