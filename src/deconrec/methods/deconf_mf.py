"""Deconf-MF: the deconfounded recommender, matrix factorisation beside the reconstructed exposure.

Idea. A factor model of exposures gives a_hat_ui, the part of an exposure that its user's other exposures foretell; it
stands in for confounders of several items. Ratings are then regressed on a_hat and on factors at once, so that the
factors need not explain what the confounder does.

Risk ([Wang2020], section 3).
    stage 1   a_hat_ui = E[a_ui | z_u] of the exposure model (`exposure`), held fixed; for Poisson factors
              E[theta_u] . E[beta_i]
    stage 2   r_hat_ui = (p_u + sum_f x_uf y_f) . q_i + gamma_u a_hat_ui + beta_0, fitted by `outcome`:
      weighted    sum_ui c_ui (t_ui - r_hat_ui)^2 + lambda (||p||^2 + ||q||^2 + ||y||^2) + lambda_gamma ||gamma||^2,
                  c = 1 + alpha n, t = n / (highest rating), n the rating as a count
      gaussian    the same with c = 1 and t the outcome
      poisson     n_ui ~ Poisson(p_u . q_i + x+_u . w_i + gamma_u a_hat_ui + beta_0), x+ = [max(x, 0), max(-x, 0)];
                  p, q, beta_0 ~ Gamma(a, b), w ~ Gamma(a / 2F, b), gamma ~ Gamma(1, 1); the evidence lower bound
    over exposed cells or over all (`cells`), where a cell without exposure counts as 0.

Updates, each exact: (p_u, gamma_u) jointly, beta_0, y, q_i by least squares (see `wmf`); every Gamma posterior in turn.

Needs.      a biased log of ratings >= 0. Torch.
Assumes.    no confounder of a single item, an exposure model that holds (its predictive check is `exposure_.check_`),
            exposures that z leaves to chance.
Limits.     lambda_gamma to infinity and beta_0 = 0, weighted: WMF with targets n / (highest rating).
Deviations. 1. Closed-form updates; published: gradients of tiny steps. 2. `cells` auto is as published but for the
            gaussian outcome, which reads exposed cells alone (published: unexposed zeros still pull gamma_u and beta_0
            to 0). 3. Features (paper 1: "in an SVD++ manner"). 4. a_hat of new users comes from the rows that a model
            is given; `leak` infers that of validation users from held-out rows too, as the code released with paper 1.
            5. Default outcome: weighted, which validation prefers; paper 1 says Poisson. 6. Poisson: the factors are
            fitted alone for the first rounds, the priors' rate follows the log's mean count (published: 0.3), and all
            features together have the prior shape of one factor.
Paper.      [Wang2020]; [Zhu2024] section 5.4.1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deconrec.base import ExposureModel, Tags
from deconrec.data.dataset import Dataset, Log
from deconrec.data.split import ValidationPart, take_users
from deconrec.errors import ParameterError
from deconrec.exposure import EXPOSURE_MODELS, PoissonExposure
from deconrec.exposure.substitutes import substitutes
from deconrec.factor_estimator import FactorEstimator, counts
from deconrec.kernels.als import Entries, solve_rows
from deconrec.kernels.poisson import gamma_means, shares
from deconrec.methods.wmf import gram, ridge_of_features
from deconrec.parameters import Search, nuisance, parameter
from deconrec.random import numpy_generator

FOLD_IN = 50  # NOTE updates of a new user's Gamma posteriors
ALONE = 20  # NOTE rounds in which the Poisson factors are fitted alone
CELLS = 2_000_000  # cells of a_hat held at once


@dataclass(frozen=True, eq=False)
class Users:
    """Users whose factors are sought, item side fixed or not.

    Attributes
    ----------
    log: their exposures.  count, r: (n,) n_ui and outcome of each.
    x: (B, F) features.  z: (B, K) confounders.  a: (n,) a_hat of each exposure.
    a_sum, a_square: (B,) sums of a_hat and of its square over all items.
    """

    log: Log
    count: np.ndarray
    r: np.ndarray
    x: np.ndarray
    z: np.ndarray
    a: np.ndarray
    a_sum: np.ndarray
    a_square: np.ndarray

    def __len__(self) -> int:
        return len(self.z)


@dataclass(kw_only=True, eq=False, repr=False)
class DeconfMF(FactorEstimator):
    """Matrix factorisation with a reconstructed exposure as substitute confounder."""

    paper = "Wang2020"
    title = "Deconfounded recommender"

    exposure: ExposureModel = nuisance(PoissonExposure, "exposure model, fitted first", EXPOSURE_MODELS)
    outcome: str = parameter(
        "weighted", "likelihood of the outcome", choices=("weighted", "gaussian", "poisson")
    )
    cells: str = parameter(
        "auto",
        "cells that are fitted; auto = observed for the gaussian outcome, all for the others",
        choices=("auto", "observed", "all"),
    )
    gamma: str = parameter(
        "user", "coefficient of a_hat: one for each user, or one for all", choices=("user", "shared")
    )
    gamma_l2: float = parameter(
        1.0, "penalty of gamma (not poisson)", above=0, search=Search(1e-2, 100, log=True)
    )
    alpha: float = parameter(
        10.0, "confidence that a count of 1 adds (weighted)", low=0, search=Search(0.1, 100, log=True)
    )
    shape: float = parameter(
        0.3, "shape a of the Gamma priors (poisson)", above=0, search=Search(0.05, 3, log=True)
    )
    rate: float | None = parameter(
        None,
        "rate b of the Gamma priors (poisson); None = the one whose expected count is the log's, a sqrt(K / mean)",
        above=0,
        search=Search(0.05, 30, log=True),
    )
    iterations: int = parameter(20, "rounds of updates", low=1)
    leak: bool = parameter(
        False, "infer validation users' confounders from held-out rows too (as released); spoils selection"
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        exposure_: ExposureModel
        z_: np.ndarray
        x_: np.ndarray
        user_factors_: np.ndarray
        user_log_: np.ndarray
        gamma_log_: np.ndarray
        item_factors_: np.ndarray
        item_log_: np.ndarray
        feature_factors_: np.ndarray
        feature_log_: np.ndarray
        gamma_: np.ndarray
        offset_: np.ndarray
        rate_: np.ndarray

    @property
    def tags(self) -> Tags:
        """Uses user features where there are some."""
        return Tags(uses_features=True, shape="both")

    @property
    def all_cells(self) -> bool:
        """Whether cells without exposure count as zeros."""
        return self.outcome != "gaussian" if self.cells == "auto" else self.cells == "all"

    @property
    def affine(self) -> bool:
        """Fitted to zeros, scores are affinities; to exposed cells alone, outcomes."""
        return self.all_cells or self.outcome == "weighted"

    def check_params(self) -> None:
        """Ranges, and that a penalty is there where least squares need one."""
        super().check_params()
        if not isinstance(self.exposure, ExposureModel):
            raise ParameterError(
                f"'exposure' of DeconfMF must be an exposure model ({', '.join(EXPOSURE_MODELS)}); got "
                f"{self.exposure!r}."
            )

    @property
    def exposure_model(self) -> ExposureModel | None:
        """The fitted model of exposures."""
        return getattr(self, "exposure_", None)

    def _arrays(self) -> tuple[str, ...]:
        sides = ("user_factors", "item_factors", "item_log", "feature_factors", "feature_log")
        return (*sides, "z", "x", "gamma", "offset", "rate")

    # ------------------------------------------------------------------ fitting
    def _learn(self, data: Dataset, validation: ValidationPart) -> None:
        exposure = self.exposure.clone()
        if "seed" in exposure.get_params(deep=False):
            exposure.set_params(seed=self.seed)
        self.exposure_ = exposure.fit(data, validation.history)
        users = self._users(data, data.biased)
        self.x_, self.z_ = users.x, users.z
        by_user, by_item = (
            Entries.of(users.log.user, users.log.item, data.n_users),
            Entries.of(users.log.item, users.log.user, data.n_items),
        )
        if self.outcome == "poisson":
            self._poisson(users, by_user, by_item)
        else:
            self._least_squares(users, by_user, by_item)

    def _users(self, data: Dataset, exposures: Log) -> Users:
        """The users of a data set; their confounders are inferred from the log `exposures`."""
        z = substitutes(self.exposure_, data.with_logs(exposures))
        log, r = data.biased, data.outcome(data.biased)
        a, total, square = np.zeros(len(log)), np.zeros(data.n_users), np.zeros(data.n_users)
        indptr, order = log.by_user(data.n_users)
        for rows, block in self._a_hat(z):
            at = order[indptr[rows[0]] : indptr[rows[-1] + 1]]
            a[at] = block[log.user[at] - rows[0], log.item[at]]
            total[rows], square[rows] = block.sum(1, dtype=np.float64), (block.astype(np.float64) ** 2).sum(1)
        count = counts(self.scale_.binary, log, r, "DeconfMF")
        return Users(log, count, r, self._x(data.user_features, data.n_users), z, a, total, square)

    @torch.no_grad()
    def _a_hat(self, z: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of (rows, a_hat (B, n_items)): a_hat of all cells is never held."""
        size = max(1, CELLS // self.spec_.n_items)
        device = getattr(self.exposure_, "device", "cpu")
        for start in range(0, len(z), size):
            rows = np.arange(start, min(start + size, len(z)))
            yield rows, self.exposure_.decode(torch.from_numpy(z[rows]).to(device)).cpu().numpy()

    # ------------------------------------------------------------------ least squares
    def _weights(self, users: Users) -> tuple[np.ndarray, np.ndarray, float]:
        """(c_ui t_ui (n,), c_ui - w_0 (n,), w_0): w_0 is the weight of every cell, 0 where exposed ones are alone."""
        w_0 = 1.0 if self.all_cells else 0.0
        if self.outcome == "gaussian":
            return users.r.astype(np.float64), np.full(len(users.r), 1.0 - w_0), w_0
        c = 1.0 + self.alpha * users.count.astype(np.float64)
        return c * users.count / max(self.scale_.high, 1e-12), c - w_0, w_0

    def _least_squares(self, users: Users, by_user: Entries, by_item: Entries) -> None:
        n_users, n_items = len(by_user), len(by_item)
        right, w, w_0 = self._weights(users)
        rng = numpy_generator(self.seed, "initial values")
        self.item_factors_ = (rng.standard_normal((n_items, self.dim)) * 0.1).astype(np.float32)
        self.feature_factors_ = np.zeros((users.x.shape[1], self.dim), np.float32)
        self.offset_ = np.array([right.sum() / max(w.sum() + w_0 * n_users * n_items, 1e-12)])
        self.gamma_ = np.zeros(n_users)
        for _ in range(self.iterations):
            v, self.gamma_ = self._solve_users(users, by_user, new=False)
            self.feature_factors_ = ridge_of_features(users.x, v)
            e = self.gamma_[users.log.user] * users.a + self.offset_[0]
            g = None
            if w_0:
                g = -w_0 * self.offset_[0] * np.tile(v.sum(0, dtype=np.float64), (n_items, 1))
                for rows, a in self._a_hat(users.z):
                    g -= w_0 * (a.T @ (self.gamma_[rows, None] * v[rows]))
            ridge = w_0 * gram(v) + self.l2 * np.eye(self.dim)
            self.item_factors_ = q = solve_rows(by_item, v, ridge, w, right - w * e, g)
            fit = dots(v, q, users.log) + self.gamma_[users.log.user] * users.a
            rest = right.sum() - w @ fit
            rest -= w_0 * (
                v.sum(0, dtype=np.float64) @ q.sum(0, dtype=np.float64) + self.gamma_ @ users.a_sum
            )
            self.offset_ = np.array([rest / (w.sum() + w_0 * n_users * n_items)])
        self.user_factors_, self.gamma_ = self._solve_users(users, by_user, new=False)
        self.item_log_ = self.feature_log_ = np.zeros((0, 0))
        self.rate_ = np.zeros(1)

    def _solve_users(self, users: Users, entries: Entries, *, new: bool) -> tuple[np.ndarray, np.ndarray]:
        """(v (B, k), gamma (B,)), the joint minimum with the item side fixed; a shared gamma is kept for new users.

        v is v_0 - gamma v_1, two solutions with one matrix; gamma then has an equation of its own.
        """
        q, log, k = self.item_factors_, users.log, self.dim
        right, w, w_0 = self._weights(users)
        beta = self.offset_[0]
        ridge = w_0 * gram(q) + self.l2 * np.eye(k)
        prior = self.l2 * (users.x @ self.feature_factors_)
        v_0 = solve_rows(
            entries, q, ridge, w, right - w * beta, prior - w_0 * beta * q.sum(0, dtype=np.float64)
        )
        everywhere = np.zeros((len(users), k))
        if w_0:
            for rows, a in self._a_hat(users.z):
                everywhere[rows] = w_0 * (a @ q)
        v_1 = solve_rows(entries, q, ridge, w, w * users.a, everywhere)
        across = everywhere + entries.sums((w * users.a)[entries.order], q.astype(np.float64))
        given = np.bincount(log.user, (right - w * beta) * users.a, len(users)) - w_0 * beta * users.a_sum
        given -= (across * v_0).sum(1)
        own = np.bincount(log.user, w * users.a**2, len(users)) + w_0 * users.a_square - (across * v_1).sum(1)
        own = np.maximum(own, 0.0)
        if self.gamma == "user":
            gamma = given / (own + self.gamma_l2)
        elif new:
            gamma = np.full(len(users), self.gamma_[0])
        else:
            gamma = np.full(len(users), given.sum() / (own.sum() + self.gamma_l2))
        return (v_0 - gamma[:, None] * v_1).astype(np.float32), gamma

    # ------------------------------------------------------------------ Poisson
    def _poisson(self, users: Users, by_user: Entries, by_item: Entries) -> None:
        n_users, n_items, k = len(by_user), len(by_item), self.dim
        x, count, every = signs(users.x), users.count, self.all_cells
        rng = numpy_generator(self.seed, "initial values")

        # The factors are first fitted alone: beside a source that already explains the counts, their sparse priors
        # would never let them grow.
        alone = min(ALONE, self.iterations // 2)
        n_cells = n_users * n_items if every else len(count)
        mean = max(float(count.sum(dtype=np.float64)) / max(n_cells, 1), 1e-6)

        b = self.shape * np.sqrt(k / mean) if self.rate is None else self.rate
        self.rate_ = np.array([b])
        thin = self.shape / max(
            x.shape[1], 1
        )  # all features together count as one factor before the data speak

        def start(n: int, width: int, level: float) -> np.ndarray:
            return level * rng.gamma(100, 0.01, (n, width))

        p = p_log = start(n_users, k, np.sqrt(mean / k))
        q = q_log = start(n_items, k, np.sqrt(mean / k))
        f = f_log = start(n_items, x.shape[1], 0.1 * mean / max(x.shape[1], 1))
        gamma = gamma_log = np.full(n_users, 0.1)
        beta = beta_log = 0.1 * mean
        a_cells = users.a_sum if every else np.bincount(users.log.user, users.a, n_users)
        ones = np.ones(len(count), np.float32)
        x_cells = np.tile(x.sum(0), (n_items, 1)) if every else by_item.sums(ones, x)
        for done in range(self.iterations):
            beside = done >= alone
            extra = beside * (gamma_log[users.log.user] * users.a + beta_log)
            left, right = np.hstack([p_log, x]), np.hstack([q_log, beside * f_log])
            to_users, ratio = shares(by_user, left, right, count, extra)
            to_items, _ = shares(by_item, right, left, count, extra)
            over = q.sum(0) if every else by_user.sums(ones, q)
            p, p_log = gamma_means(self.shape + to_users[:, :k].astype(np.float64), b + over + 0 * p)
            over = p.sum(0) if every else by_item.sums(ones, p)
            q, q_log = gamma_means(self.shape + to_items[:, :k].astype(np.float64), b + over + 0 * q)
            if not beside:
                continue
            f, f_log = gamma_means(thin + to_items[:, k:].astype(np.float64), b + x_cells)
            gamma, gamma_log = self._gamma_posterior(users, ratio, gamma_log, a_cells)
            count_of_beta = np.array(self.shape + beta_log * ratio.sum(dtype=np.float64))
            beta, beta_log = (float(v) for v in gamma_means(count_of_beta, np.array(b + n_cells)))
        self.user_factors_, self.gamma_ = p, gamma
        self.user_log_, self.gamma_log_ = p_log, gamma_log
        self.item_factors_, self.item_log_, self.feature_factors_, self.feature_log_ = q, q_log, f, f_log
        self.offset_ = np.array([beta, beta_log])
        if self.gamma == "shared":
            self.offset_ = np.append(self.offset_, [gamma[0], gamma_log[0]])

    def _gamma_posterior(
        self, users: Users, ratio: np.ndarray, gamma_log: np.ndarray, a_cells: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(E gamma (B,), exp E log gamma (B,))."""
        shape = gamma_log * np.bincount(users.log.user, ratio * users.a, len(users))
        if self.gamma == "user":
            return gamma_means(1.0 + shape, 1.0 + a_cells)
        both = gamma_means(np.array(1.0 + shape.sum()), np.array(1.0 + a_cells.sum()))
        return np.full(len(users), both[0]), np.full(len(users), both[1])

    def _new_poisson(self, users: Users, entries: Entries) -> tuple[np.ndarray, np.ndarray]:
        """(E p (B, k), E gamma (B,)) of new users, item side fixed."""
        k, n, x = self.dim, len(users), signs(users.x)
        ones, b = np.ones(len(users.count), np.float32), self.rate_[0]
        q = self.item_factors_
        over = np.tile(q.sum(0), (n, 1)) if self.all_cells else entries.sums(ones, q)
        a_cells = users.a_sum if self.all_cells else np.bincount(users.log.user, users.a, n)
        right = np.hstack([self.item_log_, self.feature_log_])
        beta_log = self.offset_[1]
        p, p_log = gamma_means(np.full((n, k), self.shape), np.full((n, k), b))
        gamma, gamma_log = gamma_means(np.ones(n), np.ones(n))
        if self.gamma == "shared":
            gamma, gamma_log = (np.full(n, v) for v in self.offset_[2:])
        for _ in range(FOLD_IN):
            extra = gamma_log[users.log.user] * users.a + beta_log
            to_users, ratio = shares(entries, np.hstack([p_log, x]), right, users.count, extra)
            p, p_log = gamma_means(self.shape + to_users[:, :k].astype(np.float64), b + over)
            if self.gamma == "user":
                gamma, gamma_log = self._gamma_posterior(users, ratio, gamma_log, a_cells)
        return p, gamma

    # ------------------------------------------------------------------ answers
    def _scores(self, p: np.ndarray, gamma: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty((len(p), self.spec_.n_items))
        for rows, a in self._a_hat(z):
            out[rows] = p[rows] @ self.item_factors_.T + gamma[rows, None] * a + self.offset_[0]
        if self.outcome == "poisson":
            out += signs(x) @ self.feature_factors_.T
            if not self.affine and not self.scale_.binary:
                out = (out - self.scale_.low) / (self.scale_.high - self.scale_.low)
        return out

    def _affinity(self, users: np.ndarray) -> np.ndarray:
        return self._scores(self.user_factors_[users], self.gamma_[users], self.x_[users], self.z_[users])

    def _new_affinity(self, history: Dataset) -> np.ndarray:
        return self._folded(history, history.biased)

    def _folded(self, history: Dataset, exposures: Log) -> np.ndarray:
        """Scores of new users, their confounders inferred from `exposures`."""
        users = self._users(history, exposures)
        entries = Entries.of(users.log.user, users.log.item, len(users))
        if self.outcome == "poisson":
            p, gamma = self._new_poisson(users, entries)
        else:
            p, gamma = self._solve_users(users, entries, new=True)
        return self._scores(p, gamma, users.x, users.z)

    def _validation_affinity(self, validation: ValidationPart, users: np.ndarray) -> np.ndarray:
        assert validation.history is not None
        history = take_users(validation.history, users)
        if not self.leak:
            return self._new_affinity(history)
        given, held = history.biased, take_users(validation.data, users).biased
        user, item, rating = (
            np.concatenate([getattr(g, n) for g in (given, held)]) for n in ("user", "item", "rating")
        )
        return self._folded(history, Log(user, item, rating))

    def _item_vectors(self) -> np.ndarray:
        return self.item_factors_

    # ------------------------------------------------------------------ saving
    def _state(self) -> dict[str, np.ndarray]:
        return super()._state() | {f"exposure.{k}": v for k, v in self.exposure_._state().items()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.exposure_ = self.exposure.clone()
        below = {k.removeprefix("exposure."): v for k, v in state.items() if k.startswith("exposure.")}
        with torch.random.fork_rng(devices=[]):  # initial values are drawn, and replaced at once
            self.exposure_._restore(below, self.spec_)


def signs(x: np.ndarray) -> np.ndarray:
    """(n, 2F) non-negative features [max(x, 0), max(-x, 0)] of x (n, F)."""
    return np.hstack([np.maximum(x, 0), np.maximum(-x, 0)])


def dots(v: np.ndarray, q: np.ndarray, log: Log) -> np.ndarray:
    """(n,) float64 v_u . q_i of a log's pairs."""
    out = np.empty(len(log))
    for start in range(0, len(log), 100_000):
        part = slice(start, start + 100_000)
        out[part] = np.einsum("nk,nk->n", v[log.user[part]], q[log.item[part]], dtype=np.float64)
    return out
