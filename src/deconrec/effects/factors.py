"""Substitute confounders for effects: a logistic factor model of exposures and the posterior mean of its factors.

Idea.   If E[r | a, c] = W a + V c, then E[r | a] = W a + V E[c | a]: what an unbiased regression needs beside the
exposures is the posterior mean of the confounder, which is no linear function of them. An encoder that is linear in
a / ||a|| gives another function, and regressions on all exposures take its curvature for effects.

Risk.   log-likelihood of
            z_u ~ N(0, I_K),   a_ui ~ Bernoulli(sigma(b_i + w_i . z_u))
        by variational EM under the quadratic bound of the logistic function ([Tipping1998], section 3); then, with w
        and b fixed, the mode of p(z | a_u) by Newton's method and the posterior mean by its first correction,
            E[z | a] = mode - (1/2) S sum_i p_i (1 - p_i) (1 - 2 p_i) (w_i' S w_i) w_i,   S = inverse Hessian.

Needs.      exposures only, held as a dense matrix: users x items x K^2 operations a round.
Limits.     K = 0 factors: exposures independent of one another, every user alike.
Deviations. 1. Starts at the principal components of the centred exposures. 2. A ridge of 0.001 on w_i and b_i.
Paper.      [Tipping1998]; paper 1 [Zhu2024], section 4.1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from deconrec.base import ExposureModel, Spec
from deconrec.data.dataset import Dataset
from deconrec.exposure.check import PredictiveCheck, predictive_check
from deconrec.pairs import Rows
from deconrec.parameters import Search, parameter

RIDGE = 1e-3
NEWTON = 8  # NOTE steps to the mode of a log-concave posterior; after 6 they move by less than 1e-6
BLOCK = 4096  # users at a time: (BLOCK, K, K) are held


@dataclass(kw_only=True, eq=False, repr=False)
class LogisticFactors(ExposureModel):
    """Substitute confounders: posterior means of a logistic factor model."""

    dim: int = parameter(5, "number of factors K", low=1, search=Search(1, 30, whole=True))
    iterations: int = parameter(60, "most rounds of variational EM", low=1)
    tolerance: float = parameter(3e-3, "largest change of a loading below which the rounds stop", low=0)
    check_draws: int = parameter(100, "replications in the predictive check; 0 = no check", low=0)
    seed: int = parameter(0, "draws the users and items of the predictive check", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        loading_: np.ndarray
        intercept_: np.ndarray
        rounds_: int
        check_: PredictiveCheck | None

    def fit(
        self, data: Dataset, validation: Dataset | None = None, *, start: LogisticFactors | None = None
    ) -> LogisticFactors:
        """Fit to the exposures of the biased log; `validation` is only checked on; `start` is where to begin from."""
        self.check_params()
        a = data.biased.pattern(data.shape).toarray().astype(np.float64)
        if start is None:
            w, b = _start(a, self.dim)
        else:
            w, b = start.loading_.copy(), start.intercept_.copy()
        xi = np.ones_like(a)
        mean = np.zeros((len(a), w.shape[1]))
        for done in range(1, self.iterations + 1):
            before = np.column_stack([w, b])
            w, b = _round(a, w, b, xi, mean)
            self.rounds_ = done
            if np.abs(np.column_stack([w, b]) - before).max() <= self.tolerance:
                break
        self.loading_, self.intercept_ = w, b
        self.check_ = None
        if self.check_draws:
            whom = data if validation is None else validation
            self.check_ = predictive_check(
                self, whom, new_users=validation is not None, draws=self.check_draws, seed=self.seed
            )
        return self

    def posterior(self, a: np.ndarray, items: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(mean (B, K), covariance (B, K, K)) of z given exposures a (B, n_items), or only those of `items`."""
        items = np.arange(len(self.intercept_)) if items is None else items
        w, b, seen = self.loading_[items], self.intercept_[items], np.asarray(a, np.float64)[:, items]
        k = w.shape[1]
        outer = (w[:, :, None] * w[:, None, :]).reshape(len(w), k * k)
        mean, cov = np.empty((len(seen), k)), np.empty((len(seen), k, k))
        for at in range(0, len(seen), BLOCK):
            part = seen[at : at + BLOCK]
            z = np.zeros((len(part), k))
            for _ in range(NEWTON):
                p = expit(z @ w.T + b)
                hessian = np.eye(k) + ((p * (1 - p)) @ outer).reshape(-1, k, k)
                z = z + np.linalg.solve(hessian, ((part - p) @ w - z)[:, :, None])[:, :, 0]
            p = expit(z @ w.T + b)
            s = np.linalg.inv(np.eye(k) + ((p * (1 - p)) @ outer).reshape(-1, k, k))
            third = p * (1 - p) * (1 - 2 * p) * (s.reshape(-1, k * k) @ outer.T)
            mean[at : at + BLOCK] = z - 0.5 * np.einsum("ukl,ul->uk", s, third @ w)
            cov[at : at + BLOCK] = s
        return mean, cov

    def confounder(self, rows: Rows) -> Tensor:
        """(B, dim) E[z_u | a_u]."""
        mean = self.posterior(rows.dense("o").cpu().numpy())[0]
        return torch.from_numpy(mean.astype(np.float32)).to(rows.item.device)

    def decode(self, z: Tensor) -> Tensor:
        """(B, n_items) P(a_ui = 1 | z_u)."""
        w, b = (torch.from_numpy(t.astype(np.float32)).to(z.device) for t in (self.loading_, self.intercept_))
        return torch.sigmoid(z @ w.T + b)

    def reconstruct(self, rows: Rows) -> Tensor:
        """(B, n_items) P(a_ui = 1 | z_u) at the mean z."""
        return self.decode(self.confounder(rows))

    def posterior_logits(
        self, rows: Rows, held: np.ndarray, draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(draws, B, J) logits of exposure to the items `held`, z drawn from its posterior given the other items."""
        kept = np.setdiff1d(np.arange(len(self.intercept_)), held)
        mean, cov = self.posterior(rows.dense("o").cpu().numpy(), kept)
        root = np.linalg.cholesky(cov)
        z = mean + np.einsum("ukl,sul->suk", root, rng.standard_normal((draws, *mean.shape)))
        logits: np.ndarray = z @ self.loading_[held].T + self.intercept_[held]
        return logits

    def moved(self, code: np.ndarray) -> LogisticFactors:
        """The model over other items; code (n_items,): each one here, or -1 for a new one, which says nothing.

        A new item depends on no factor and is as likely as the least likely known one.
        """
        out, known = self.clone(), code >= 0
        out.loading_ = np.where(known[:, None], self.loading_[code], 0.0)
        out.intercept_ = np.where(known, self.intercept_[code], self.intercept_.min())
        out.check_ = self.check_
        return out

    def _state(self) -> dict[str, np.ndarray]:
        out = {"loading": self.loading_, "intercept": self.intercept_}
        return out if self.check_ is None else out | self.check_._state()

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.loading_, self.intercept_ = np.array(state["loading"]), np.array(state["intercept"])
        self.check_ = PredictiveCheck._restored(state)


def _start(a: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Loadings (n_items, k) at the principal components of the centred exposures, and logits of popularity."""
    rate = (a.sum(0) + 0.5) / (len(a) + 1)
    centred = a - a.mean(0)
    value, vector = np.linalg.eigh(centred.T @ centred / len(a))
    value, vector = value[::-1][:k], vector[:, ::-1][:, :k]
    w = vector * np.sqrt(np.maximum(value, 0)) / np.sqrt(rate * (1 - rate))[:, None]
    if w.shape[1] < k:  # more factors than items
        w = np.pad(w, ((0, 0), (0, k - w.shape[1])))
    return w, np.log(rate / (1 - rate))


def _round(
    a: np.ndarray, w: np.ndarray, b: np.ndarray, xi: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One round of EM: new (w, b); the bound's points xi (users, items) and posterior means are replaced in place."""
    n_items, k = w.shape
    outer = (w[:, :, None] * w[:, None, :]).reshape(n_items, k * k)
    hessian, gradient = np.zeros((n_items, (k + 1) ** 2)), np.zeros((k + 1, n_items))
    for at in range(0, len(a), BLOCK):
        part, x = a[at : at + BLOCK] - 0.5, xi[at : at + BLOCK]
        curve = np.tanh(x / 2) / (4 * x)
        cov = np.linalg.inv(np.eye(k) + 2 * (curve @ outer).reshape(-1, k, k))
        m = np.einsum("ukl,ul->uk", cov, (part - 2 * curve * b) @ w)
        second = cov + m[:, :, None] * m[:, None, :]
        x = np.sqrt(np.maximum(second.reshape(-1, k * k) @ outer.T + 2 * (m @ w.T) * b + b**2, 1e-12))
        curve = np.tanh(x / 2) / (4 * x)
        moments = np.empty((len(m), k + 1, k + 1))
        moments[:, :k, :k], moments[:, :k, k], moments[:, k, :k], moments[:, k, k] = second, m, m, 1.0
        hessian += 2 * (curve.T @ moments.reshape(len(m), -1))
        gradient += np.column_stack([m, np.ones(len(m))]).T @ part
        xi[at : at + BLOCK], mean[at : at + BLOCK] = x, m
    ridge = RIDGE * np.eye(k + 1)
    solved = np.linalg.solve(hessian.reshape(n_items, k + 1, k + 1) + ridge, gradient.T[:, :, None])[:, :, 0]
    return solved[:, :k], solved[:, k]
