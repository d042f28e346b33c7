"""WMF: weighted matrix factorisation of all cells, with user features, by alternating least squares.

Idea. Every cell is data: an exposure says 1 with a confidence that grows with its rating, every other cell says 0 with
confidence 1. A user's vector is their own factors plus the factors of their features (as in SVD++).

Risk ([Hu2008], Eq. 3; features as in [Koren2008]).
    sum_ui c_ui (t_ui - r_hat_ui)^2 + lambda ( sum_u ||p_u||^2 + sum_i ||q_i||^2 + sum_f ||y_f||^2 )
    r_hat_ui = (p_u + omega sum_f x_uf y_f) . q_i             c_ui = 1 + alpha n_ui,   t_ui = 1[n_ui > 0]
    n_ui     the rating as a count, 0 where not exposed (`reads`)          alpha   `alpha`       lambda   `l2`
    x_uf     features, standardised on training users                      omega   `feature_weight`; 1 while fitting

Updates, each the exact minimum. With v_u = p_u + sum_f x_uf y_f, C_u = diag(c_u) and X the features:
    v_u = (Q'C_u Q + lambda I)^-1 (Q'C_u t_u + lambda Y'x_u)     Q'C_u Q = Q'Q + Q'(C_u - I) Q, the last over exposures
    Y   = (X'X + I)^-1 X'V                                       q_i like v_u, without features

Needs.      a biased log; features help. No torch.
Assumes.    exposure tells of taste: a cell without an exposure is weak evidence against it, whatever the reason why it
            was not shown. Nothing is corrected: the map to outcomes is right with no hidden confounding given scores.
Limits.     no features: [Hu2008], as `implicit` computes it. alpha = 0: the penalised SVD of the binary matrix.
            omega = 0: features help to find the factors and are left out of the scores. A new user is given the v_u of
            a training user with the same history and features, exactly.
Deviations. 1. Features: paper 1 says only "in an SVD++ manner". 2. omega = None is chosen by the
            correlation of scores and ratings within users, over held-out exposures (within one standard error of the
            best, the nearest to 1): exposures show a user's taste as far as the recommender followed it, features
            show the rest. 3. Scores become expected outcomes by an increasing logistic map fitted to held-out rows;
            ranks are the factors'.
Paper.      [Hu2008]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deconrec.base import Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.factor_estimator import FactorEstimator, counts
from deconrec.kernels.als import Entries, solve_rows
from deconrec.parameters import Search, parameter
from deconrec.random import numpy_generator
from deconrec.training.features import weight_within_exposure


@dataclass(kw_only=True, eq=False, repr=False)
class WMF(FactorEstimator):
    """Weighted matrix factorisation with user features."""

    paper = "Hu2008"
    title = "Weighted matrix factorisation"

    alpha: float = parameter(
        10.0, "confidence that a count of 1 adds", low=0, search=Search(0.1, 100, log=True)
    )
    reads: str = parameter(
        "ratings",
        "the count n_ui: the rating (the outcome where it is binarised), or 1 for every positive, or every exposure",
        choices=("ratings", "positives", "exposures"),
    )
    feature_weight: float | None = parameter(
        1.0,
        "weight omega of the features' part in the scores; None = chosen within held-out exposures",
        low=0,
        search=Search(0.5, 16, log=True),
    )
    solver: str = parameter(
        "exact",
        "exact = each update's minimum; cg = a few steps of conjugate gradients towards it (faster)",
        choices=("exact", "cg"),
    )
    cg_steps: int = parameter(3, "steps of solver='cg'", low=1)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        user_factors_: np.ndarray
        item_factors_: np.ndarray
        feature_factors_: np.ndarray
        x_: np.ndarray
        feature_weight_: float

    @property
    def tags(self) -> Tags:
        """Uses user features where there are some."""
        return Tags(uses_features=True, shape="both")

    @property
    def affine(self) -> bool:
        """A score of 1 means an exposure, not an outcome."""
        return True

    def _arrays(self) -> tuple[str, ...]:
        return "user_factors", "item_factors", "feature_factors", "x", "feature_weight"

    # ------------------------------------------------------------------ fitting
    def _learn(self, data: Dataset, validation: ValidationPart) -> None:
        n_users, n_items = data.shape
        log, n = data.biased, self._counts(data)
        by_user, by_item = (
            Entries.of(log.user, log.item, n_users),
            Entries.of(log.item, log.user, n_items),
        )
        w, d = self.alpha * n, (1.0 + self.alpha * n) * (n > 0)
        steps = self.cg_steps if self.solver == "cg" else 0
        x = self.x_ = self._x(data.user_features, n_users)
        rng = numpy_generator(self.seed, "initial values")
        q = (rng.standard_normal((n_items, self.dim)) * 0.1).astype(np.float32)
        y = np.zeros((x.shape[1], self.dim), np.float32)
        v = np.zeros((n_users, self.dim), np.float32)
        ridge = self.l2 * np.eye(self.dim)
        for _ in range(self.iterations):
            v = solve_rows(by_user, q, gram(q) + ridge, w, d, self.l2 * (x @ y), start=v, steps=steps)
            y = ridge_of_features(x, v)
            q = solve_rows(by_item, v, gram(v) + ridge, w, d, start=q, steps=steps)
        # Exactly what a new user with the same rows would get.
        v = solve_rows(by_user, q, gram(q) + ridge, w, d, self.l2 * (x @ y))
        self.user_factors_, self.item_factors_, self.feature_factors_ = v, q, y
        self.feature_weight_ = 1.0 if self.feature_weight is None else float(self.feature_weight)
        if self.feature_weight is None and x.shape[1] and len(validation.data.biased):
            self.feature_weight_ = self._within_exposure(validation)

    def _counts(self, data: Dataset) -> np.ndarray:
        """(n,) n_ui of a data set's biased log."""
        log = data.biased
        if self.reads == "exposures":
            return np.ones(len(log), np.float32)
        task = self.task_
        if self.reads == "positives" and (task.binarize is not None or task.relevant is not None):
            return task.positive(log.rating).astype(np.float32)
        return counts(self.scale_.binary, log, data.outcome(log), "WMF")

    def _within_exposure(self, validation: ValidationPart) -> float:
        """The weight whose scores correlate most with ratings, both less their user's mean, on held-out exposures."""
        log, history = validation.data.biased, validation.history
        if history is None:
            v, x = self.user_factors_, self.x_
        else:
            v, x = self._vectors(history)
        part = x @ self.feature_factors_
        own, felt = (
            (side[log.user] * self.item_factors_[log.item]).sum(1, dtype=np.float64)
            for side in (v - part, part)
        )
        return weight_within_exposure(own, felt, log.rating, log.user)

    def _vectors(self, history: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """(v (n, dim), x (n, F)) of new users, item side fixed."""
        log, n = history.biased, self._counts(history)
        x, q = self._x(history.user_features, history.n_users), self.item_factors_
        h = gram(q) + self.l2 * np.eye(self.dim)
        entries = Entries.of(log.user, log.item, history.n_users)
        g = self.l2 * (x @ self.feature_factors_)
        return solve_rows(entries, q, h, self.alpha * n, (1.0 + self.alpha * n) * (n > 0), g), x

    # ------------------------------------------------------------------ answers
    def _scores(self, v: np.ndarray, x: np.ndarray) -> np.ndarray:
        weighted = v + (self.feature_weight_ - 1.0) * (x @ self.feature_factors_)
        return np.asarray(weighted @ self.item_factors_.T)

    def _affinity(self, users: np.ndarray) -> np.ndarray:
        return self._scores(self.user_factors_[users], self.x_[users])

    def _new_affinity(self, history: Dataset) -> np.ndarray:
        return self._scores(*self._vectors(history))

    def _item_vectors(self) -> np.ndarray:
        return self.item_factors_

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.feature_weight_ = float(np.ravel(state["feature_weight"])[0])


def gram(factors: np.ndarray) -> np.ndarray:
    """(k, k) float64 sum of the outer products of rows (n, k)."""
    wide = np.asarray(factors, np.float64)
    return wide.T @ wide


def ridge_of_features(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(F, k) Y = (X'X + I)^-1 X'V: minimises ||V - X Y||^2 + ||Y||^2, both with the factors' own penalty."""
    x = np.asarray(x, np.float64)
    return np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ v).astype(np.float32)
