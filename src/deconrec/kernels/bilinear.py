"""Draws from the posterior of a bilinear model of users and items, by Gibbs sampling.

    f_ui = phi~_u' G psi~_i  +  (a_u + v_u . psi_i)  +  (b_i + w_i . phi_u)  +  p_u . q_i  +  s_ui . d
           phi~ = (1, phi), psi~ = (1, psi)      phi (n, F), psi (m, H) known      s (N, S) known columns of the rows

Everything unknown is normal around 0, each block with a variance of its own that is drawn too. With phi and psi the
features of kernels Ku and Ki, G, v and w are the weights of the Gaussian process with covariance
x1 Ku Ki + x2 1[u = u'] Ki + x3 Ku 1[i = i'].

A sweep draws in turn: the response's target y given f; (G, d) together; every user's (a, v, p); every item's (b, w, q);
how much of a, v, b and w the features explain, f unchanged (without this move G and the deviations hold each other
fast [Yu2011]); blocks together with their standard deviations; the variances. A row's (or column's) block is drawn from
its exact conditional by solving the normal equations with a perturbed right-hand side [Papandreou2010], the sampler's
one expensive step.

In `grounded` rows the means of f over items and over users, and what they leave, count with slopes of their own, the
last of d: users' and items' blocks are drawn given the slopes, exactly; G is drawn as if they were 0, of which these
few rows are a small part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.sparse import csr_matrix

from deconrec.kernels.als import Entries
from deconrec.kernels.response import Response
from deconrec.kernels.tables import dots, parts

R = TypeVar("R", bound=Response)

SETTLED, EVERY = 20, 4  # sweeps that move standard deviations with their blocks: the first, then every fourth
FLOOR = 0.007  # NOTE least rate of a's and b's variances: nobody is quite what their features say
SCALE = 0.5  # of the half-Cauchy prior of every standard deviation, in units of the noise's
# First values of variances, in units of the noise's.
START = {"a": 0.1, "b": 0.1, "v": 0.03, "w": 0.03, "q": 0.03, "alpha": 0.1, "beta": 0.1, "g": 0.1}
LATENT = 5.0  # shape of the prior of p's variances, with centre 1: p has the scale, q the size
GRAND = 4.0  # variance of the intercept's prior, in the same unit


@dataclass(frozen=True, eq=False)
class Draw:
    """One draw of everything unknown.

    Attributes
    ----------
    g: (1 + F, 1 + H).  d: (S,).
    user: (n, 1 + H + dim): a, v, p of every user.  item: (m, 1 + F + dim): b, w, q of every item.
    user_prior, item_prior: (1 + H + dim,), (1 + F + dim,) precisions of the blocks' priors.
    parameters: of the response.
    """

    g: np.ndarray
    d: np.ndarray
    user: np.ndarray
    item: np.ndarray
    user_prior: np.ndarray
    item_prior: np.ndarray
    parameters: np.ndarray


@dataclass(frozen=True, eq=False)
class Side:
    """The rows of a log seen from one side, in blocks of like lengths.

    blocks: (codes (B,), positions of their rows (B, L), codes of the other side (B, L)); padding points past the end.
    """

    n: int
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, entries: Entries, k: int, m: int) -> Side:
        """The blocks for tables of k columns and m rows."""
        position = np.append(entries.order, len(entries.order))
        return cls(len(entries), [(rows, position[at], index) for rows, at, index in entries.blocks(k, m)])


def update(
    side: Side,
    table: np.ndarray,
    old: np.ndarray,
    prior: np.ndarray,
    rest: np.ndarray,
    weight: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw every row's block x from N(P^-1 h, P^-1): P = diag(prior) + sum w t t', h = sum w (rest + t . old) t.

    Parameters
    ----------
    table: (m, k) regressors t, by the code of the other side.  old: (n, k) the blocks that `rest` was made with.
    prior: (k,) precisions.  rest, weight: (N,) y - f and w of every row of the log.

    Returns (n, k) draws, (n, k) means of the same normals, and (N,) what f changes by.
    """
    n, k = old.shape
    prior = np.asarray(prior, np.float32)
    table = np.vstack([table, np.zeros((1, k))]).astype(np.float32)
    rest, weight = np.append(rest, np.float32(0)), np.append(weight, np.float32(0))
    change = np.zeros(len(rest), np.float32)
    draw = (rng.standard_normal((n, k), dtype=np.float32) / np.sqrt(prior)).astype(np.float32)
    mean = np.zeros((n, k), np.float32)
    diagonal = np.arange(k)
    for rows, at, index in side.blocks:
        t = table.take(index.reshape(-1), 0).reshape(*index.shape, k)
        w, before = weight[at], old[rows]
        y = rest[at] + (t @ before[:, :, None])[:, :, 0]
        system = t.transpose(0, 2, 1) @ (t * w[:, :, None])
        system[:, diagonal, diagonal] += prior
        shaken = np.sqrt(w) * rng.standard_normal(w.shape, dtype=np.float32)
        right = np.stack([w * y, shaken], axis=1) @ t
        right[:, 1] += np.sqrt(prior) * rng.standard_normal((len(rows), k), dtype=np.float32) + right[:, 0]
        solved = np.linalg.solve(system, right.transpose(0, 2, 1))
        mean[rows], draw[rows] = solved[:, :, 0], solved[:, :, 1]
        change[at] = (t @ (draw[rows] - before)[:, :, None])[:, :, 0]
    return draw, mean, change[:-1]


@dataclass(eq=False)
class Sampler(Generic[R]):
    """The state of a chain.

    Parameters
    ----------
    phi, psi: (n, F) and (m, H) float32 features of users and items.
    phi_group, psi_group: (F,), (H,) int: features of one group share the variances of their coefficients.
    user, item: (N,) codes of the rows.  copies: (N,) whole numbers >= 1: ratings that a row counts as.
    response: of the same rows.  columns: (N, S) s_ui.
    dim: of p and q.
    spread: (S,) variances of d's prior, in units of the noise's variance.
    interactions: features of either side (the first of them) that G couples exactly; the others' part of G moves with
        the deviations alone.
    start: first value of f.
    grounded: positions of the rows in which users', items' and interactions' parts of f count with slopes of their own,
        1 more than the last three of d; empty for none. The parts are the last three columns, made anew in each sweep.
    """

    phi: np.ndarray
    psi: np.ndarray
    phi_group: np.ndarray
    psi_group: np.ndarray
    user: np.ndarray
    item: np.ndarray
    copies: np.ndarray
    response: R
    columns: np.ndarray
    spread: np.ndarray
    dim: int
    rng: np.random.Generator
    interactions: int = 12
    start: float = 0.0
    grounded: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    variance: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        n, m, (f, h) = len(self.phi), len(self.psi), (self.phi.shape[1], self.psi.shape[1])
        rng, unit = self.rng, self.response.unit**2
        self.phi_1 = np.column_stack([np.ones(n), self.phi]).astype(np.float32)
        self.psi_1 = np.column_stack([np.ones(m), self.psi]).astype(np.float32)
        self.by_user = Entries.of(self.user, self.item, n)
        # Grounded rows have regressors of their own, in the second half of a table.
        second = np.zeros(len(self.user), np.int64)
        second[self.grounded] = 1
        by_user = Entries.of(self.user, self.item + m * second, n) if len(self.grounded) else self.by_user
        by_item = Entries.of(self.item, self.user + n * second, m)
        self.users = Side.of(by_user, 1 + h + self.dim, m * (1 + bool(len(self.grounded))))
        self.items = Side.of(by_item, 1 + f + self.dim, n * (1 + bool(len(self.grounded))))
        n_groups = 1 + int(max(self.phi_group.max(initial=0), self.psi_group.max(initial=0)))
        size = {name: value * unit for name, value in START.items()}
        self.variance = {
            "a": np.full(1, size["a"]),
            "b": np.full(1, size["b"]),
            "v": np.full(n_groups, size["v"]),
            "w": np.full(n_groups, size["w"]),
            "alpha": np.full(n_groups, size["alpha"]),
            "beta": np.full(n_groups, size["beta"]),
            "g": np.full((n_groups, n_groups), size["g"]),
            "p": np.ones(self.dim),
            "q": np.full(self.dim, size["q"]),
        }
        # A half-Cauchy standard deviation is an inverse Gamma variance whose rate is drawn too [Gelman2006].
        self.rate = {name: self.variance[name] / 2 for name in size}
        self.g = np.zeros((1 + f, 1 + h), np.float32)
        self.g[0, 0] = self.start
        self.d = np.zeros(self.columns.shape[1], np.float32)
        self.u = np.zeros((n, 1 + h + self.dim), np.float32)
        self.i = np.zeros((m, 1 + f + self.dim), np.float32)
        # Factors that start at 0 stay there.
        self.u[:, 1 + h :] = 0.3 * rng.standard_normal((n, self.dim))
        self.i[:, 1 + f :] = 0.3 * np.sqrt(unit) * rng.standard_normal((m, self.dim))
        self.f = np.full(len(self.user), self.start, np.float32)
        self.f += dots(self.u[:, 1 + h :], self.i[:, 1 + f :], self.user, self.item)
        self.mean_u, self.mean_i = self.u, self.i
        self.before_g = self.g
        self.swept = 0
        self._gram: np.ndarray | None = None
        self._weighed: np.ndarray | None = None

    def resume(self, draw: Draw, users: np.ndarray, items: np.ndarray) -> None:
        """Begin where another chain stopped: users (n,), items (m,) are the codes there, -1 for those that are new.

        The maps that phi and psi come from, and the groups, must be those of that chain. A column of d that it did not
        have begins at 0.
        """
        f, h = self.phi.shape[1], self.psi.shape[1]
        v, most = self.variance, min(len(draw.d), len(self.d))
        self.g = draw.g.astype(np.float32)
        self.d[:most] = draw.d[:most]
        for mine, theirs, code in ((self.u, draw.user, users), (self.i, draw.item, items)):
            known = code >= 0
            mine[known] = theirs[code[known]]
        user, item = 1.0 / draw.user_prior, 1.0 / draw.item_prior
        v["a"][0], v["b"][0], v["p"], v["q"] = user[0], item[0], user[1 + h :], item[1 + f :]
        for name, groups, values in (("v", self.psi_group, user[1:]), ("w", self.phi_group, item[1:])):
            for group in np.unique(groups):
                v[name][group] = values[int(np.argmax(groups == group))]
        self.rate = {name: v[name] / 2 for name in self.rate}
        self.response = self.response.with_parameters(draw.parameters)
        self.f = self.columns @ self.d
        self.f += dots(self.phi_1 @ self.g + self.u[:, : 1 + h], self.psi_1, self.user, self.item)
        self.f += dots(self.i[:, : 1 + f], self.phi_1, self.item, self.user)
        self.f += dots(self.u[:, 1 + h :], self.i[:, 1 + f :], self.user, self.item)

    # ------------------------------------------------------------------ a sweep
    def sweep(self) -> None:
        """Draw everything once."""
        rng, f, h = self.rng, self.phi.shape[1], self.psi.shape[1]
        self.response = self.response.adjusted(self.f, self.copies, rng)
        self._slopes()
        y, w = self.response.target(self.f, self.copies, rng)
        self._globals(y - self.f, w)
        user_prior, item_prior = self.priors()
        table = np.column_stack([self.psi_1, self.i[:, 1 + f :]])
        self.q_before = self.i[:, 1 + f :]
        table = self._with_grounded(table, 0)
        self.u, self.mean_u, change = update(self.users, table, self.u, user_prior, y - self.f, w, rng)
        self.f += change
        table = np.column_stack([self.phi_1, self.u[:, 1 + h :]])
        table = self._with_grounded(table, 1)
        self.i, self.mean_i, change = update(self.items, table, self.i, item_prior, y - self.f, w, rng)
        self.f += change
        self.before_g = self.g.copy()
        self._explained()
        if self.swept < SETTLED or self.swept % EVERY == 0:
            self._scales(y, w)
        self._variances()
        self.swept += 1

    def priors(self) -> tuple[np.ndarray, np.ndarray]:
        """Precisions of users' (a, v, p) and of items' (b, w, q)."""
        v = self.variance
        user = np.concatenate([v["a"], v["v"][self.psi_group], v["p"]])
        item = np.concatenate([v["b"], v["w"][self.phi_group], v["q"]])
        return 1.0 / user, 1.0 / item

    def _g_prior(self) -> np.ndarray:
        """(1 + F, 1 + H) precisions of G."""
        v, f, h = self.variance, self.phi_group, self.psi_group
        out = np.empty(self.g.shape)
        out[0, 0] = 1.0 / (GRAND * self.response.unit**2)
        out[1:, 0], out[0, 1:] = 1.0 / v["alpha"][f], 1.0 / v["beta"][h]
        out[1:, 1:] = 1.0 / v["g"][f][:, h]
        return out

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, k), (m, k) whose products are f, but for the columns' part."""
        f, h = self.phi.shape[1], self.psi.shape[1]
        left = np.column_stack([self.phi_1 @ self.g + self.u[:, : 1 + h], self.phi_1, self.u[:, 1 + h :]])
        return left, np.column_stack([self.psi_1, self.i[:, : 1 + f], self.i[:, 1 + f :]])

    def _with_grounded(self, table: np.ndarray, side: int) -> np.ndarray:
        """The table of regressors, and below it those of grounded rows: mean and deviation have slopes of their own."""
        if not len(self.grounded):
            return table
        mean, own = self.d[-3 + side], self.d[-1]
        return np.vstack([table, (1 + own) * table + (mean - own) * table.mean(0)])

    def _slopes(self) -> None:
        """Bring the last three columns up to date: of grounded rows, the user's, the item's and the pair's own part."""
        rows = self.grounded
        if not len(rows):
            return
        left, right = self.tables()
        by_user, by_item, level = parts(left, right)
        core = dots(left, right, self.user[rows], self.item[rows])
        a, b = by_user[self.user[rows]], by_item[self.item[rows]]
        self.columns[rows, -3:] = np.column_stack([a, b, core - a - b - level])
        self.f[rows] = core + self.columns[rows] @ self.d

    def _globals(self, rest: np.ndarray, w: np.ndarray) -> None:
        """Draw the coupled part of G and d together, given all else; rest = y - f."""
        f, h = (1 + min(self.interactions, x.shape[1]) for x in (self.phi, self.psi))
        phi, psi, c = self.phi_1[:, :f], self.psi_1[:, :h], self.columns
        size, s = f * h, c.shape[1]
        if self._gram is None or self._weighed is None or not np.array_equal(w, self._weighed):
            self._gram, self._weighed = self._gram_of(phi, psi, w), w
        system, right = np.zeros((size + s, size + s)), np.zeros(size + s)
        system[:size, :size] = self._gram
        right[:size] = self._summed(phi, psi, w * rest)
        for j in range(s):
            system[:size, size + j] = system[size + j, :size] = self._summed(phi, psi, w * c[:, j])
        system[size:, size:] = (c * w[:, None]).T @ c
        right[size:] = c.T @ (w * rest)
        old = np.concatenate([self.g[:f, :h].reshape(-1), self.d]).astype(np.float64)
        right += system @ old
        prior = np.concatenate(
            [self._g_prior()[:f, :h].reshape(-1), 1.0 / (self.spread * self.response.unit**2)]
        )
        system[np.arange(len(prior)), np.arange(len(prior))] += prior
        factor = cho_factor(system, lower=True)
        noise = solve_triangular(factor[0], self.rng.standard_normal(len(prior)), lower=True, trans=1)
        change = cho_solve(factor, right) + noise - old
        self.g[:f, :h] += change[:size].reshape(f, h).astype(np.float32)
        self.d = (self.d + change[size:]).astype(np.float32)
        moved = change[:size].reshape(f, h).astype(np.float32)
        self.f += dots(phi @ moved, psi, self.user, self.item) + c @ change[size:].astype(np.float32)

    def _summed(self, phi: np.ndarray, psi: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(f * h,) sum over rows of x (N,) times the outer product of phi~_u and psi~_i."""
        e = self.by_user
        per_user = csr_matrix((x[e.order], e.index, e.indptr), shape=(len(phi), len(psi))) @ psi
        return np.asarray(phi.T @ per_user, np.float64).reshape(-1)

    def _gram_of(self, phi: np.ndarray, psi: np.ndarray, w: np.ndarray) -> np.ndarray:
        """(f * h, f * h) sum over rows of w times the outer square of phi~_u x psi~_i."""
        n, f, h = len(phi), phi.shape[1], psi.shape[1]
        twice = [psi, psi] if len(self.grounded) else [psi]
        table, w = np.vstack([*twice, np.zeros((1, h), np.float32)]), np.append(w, np.float32(0))
        own = np.zeros((n, h, h), np.float32)
        for rows, at, index in self.users.blocks:
            t = table.take(index.reshape(-1), 0).reshape(*index.shape, h)
            own[rows] = t.transpose(0, 2, 1) @ (t * w[at][:, :, None])
        outer = (phi[:, :, None] * phi[:, None, :]).reshape(n, f * f)
        both = (outer.T @ own.reshape(n, h * h)).astype(np.float64)
        return both.reshape(f, f, h, h).transpose(0, 2, 1, 3).reshape(f * h, f * h)

    def _explained(self) -> None:
        """Draw G given what users and items have in all: a, v, b and w then are what the features leave."""
        f, h = self.phi.shape[1], self.psi.shape[1]
        user_prior, item_prior = self.priors()
        total = self.phi_1 @ self.g + self.u[:, : 1 + h]
        self.g = self._regression(self.phi_1, total, user_prior[: 1 + h], self._g_prior())
        self.u[:, : 1 + h] = total - self.phi_1 @ self.g
        total = self.psi_1 @ self.g.T + self.i[:, : 1 + f]
        self.g = self._regression(self.psi_1, total, item_prior[: 1 + f], self._g_prior().T).T.copy()
        self.i[:, : 1 + f] = total - self.psi_1 @ self.g.T

    def _regression(
        self, x: np.ndarray, total: np.ndarray, precision: np.ndarray, prior: np.ndarray
    ) -> np.ndarray:
        """(k, c) float32 drawn coefficients of columns total (n, c) on x (n, k); precision (c,), prior (k, c)."""
        gram, right = x.T.astype(np.float64) @ x, x.T.astype(np.float64) @ total
        out = np.empty((x.shape[1], total.shape[1]), np.float32)
        for column in range(total.shape[1]):
            factor = cho_factor(gram * precision[column] + np.diag(prior[:, column]), lower=True)
            noise = solve_triangular(factor[0], self.rng.standard_normal(len(gram)), lower=True, trans=1)
            out[:, column] = cho_solve(factor, right[:, column] * precision[column]) + noise
        return out

    def _scales(self, y: np.ndarray, w: np.ndarray) -> None:
        """Move each block and its standard deviation together, f with them: x = sd * z, sd drawn given z and the rows.

        Given x, its variance hardly moves where most of thousands of coefficients are known by their prior alone.
        """
        f, h = self.phi.shape[1], self.psi.shape[1]
        a, b = self.phi_group, self.psi_group
        self._scale(self.u, np.array([0]), self.psi_1, np.array([0]), "a", [0], y, w)
        self._scale(self.i, np.array([0]), self.phi_1, np.array([0]), "b", [0], y, w)
        for group in range(len(self.variance["v"])):
            theirs, mine = 1 + np.flatnonzero(b == group), 1 + np.flatnonzero(a == group)
            self._scale(self.u, theirs, self.psi_1, theirs, "v", [group], y, w)
            self._scale(self.i, mine, self.phi_1, mine, "w", [group], y, w)
        latent = np.arange(self.dim)
        self._scale(self.i, 1 + f + latent, self.u, 1 + h + latent, "q", list(latent), y, w)

    def _scale(
        self,
        block: np.ndarray,
        columns: np.ndarray,
        table: np.ndarray,
        regressors: np.ndarray,
        name: str,
        places: list[int],
        y: np.ndarray,
        w: np.ndarray,
    ) -> None:
        """Multiply `block[:, columns]` and its deviations by a factor drawn from the rows, if the prior accepts it."""
        if not len(columns):
            return
        mine = self.user if block is self.u else self.item
        other = self.item if block is self.u else self.user
        x, t = (np.ascontiguousarray(part) for part in (block[:, columns], table[:, regressors]))
        part = dots(x, t, mine, other).astype(np.float64)
        weighed = w * part
        precision = float(weighed @ part)
        if precision <= 0:
            return
        factor = float(weighed @ (y - self.f)) / precision + 1.0
        factor += float(self.rng.standard_normal()) / np.sqrt(precision)
        if factor <= 0:
            return
        old = self.variance[name][places]
        rate = self.rate[name][places]
        change = -float((rate / old).sum()) * (factor**-2 - 1.0) - (len(old) + 1.0) * np.log(factor)
        if np.log(self.rng.random()) < change:
            block[:, columns] *= np.float32(factor)
            self.variance[name][places] = old * factor**2
            self.f += ((factor - 1.0) * part).astype(np.float32)

    def _variances(self) -> None:
        """Draw the variances given all coefficients."""
        f, h, unit = self.phi.shape[1], self.psi.shape[1], self.response.unit**2
        v, a, b = self.variance, self.phi_group, self.psi_group

        def draw(name: str, at: int | tuple[int, int], x: np.ndarray) -> None:
            square = float((x.astype(np.float64) ** 2).sum())
            value = (square / 2 + self.rate[name][at]) / self.rng.gamma((1 + x.size) / 2)
            v[name][at] = value
            rate = self.rng.exponential() / (1.0 / (SCALE**2 * unit) + 1.0 / value)
            self.rate[name][at] = rate + FLOOR * unit * (name in "ab")

        draw("a", 0, self.u[:, 0])
        draw("b", 0, self.i[:, 0])
        for group in range(len(v["v"])):
            mine, other = np.flatnonzero(a == group), np.flatnonzero(b == group)
            if len(other):
                draw("v", group, self.u[:, 1 + other])
                draw("beta", group, self.g[0, 1 + other])
            if len(mine):
                draw("w", group, self.i[:, 1 + mine])
                draw("alpha", group, self.g[1 + mine, 0])
            for theirs in range(len(v["v"])):
                both = np.ix_(1 + mine, 1 + np.flatnonzero(b == theirs))
                if self.g[both].size:
                    draw("g", (group, theirs), self.g[both])
        for k in range(self.dim):
            draw("q", k, self.i[:, 1 + f + k])
            p = self.u[:, 1 + h + k]
            v["p"][k] = (float(p @ p) / 2 + LATENT) / self.rng.gamma(LATENT + len(p) / 2)

    # ------------------------------------------------------------------ what was drawn
    def draw(self) -> Draw:
        """The present state."""
        return Draw(
            self.g.copy(), self.d, self.u.copy(), self.i.copy(), *self.priors(), self.response.parameters
        )
