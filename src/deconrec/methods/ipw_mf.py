"""IPW-MF: matrix factorisation of exposed ratings, each weighted by one over its propensity, in closed form.

Idea. A rating that was unlikely to be seen stands for many that were not. Propensities come from a regression of
exposures on what is known of user and item; the weighted squared error is then minimised exactly.

Risk ([Schnabel2016], Eq. 11; features as in [Koren2008]).
    sum_{o_ui = 1} w_ui (r_ui - r_hat_ui)^2 + lambda (||p||^2 + ||q||^2 + ||b||^2 + ||y||^2),   w_ui ~ 1 / p_ui, mean 1
    r_hat_ui = mu + b_i + b_u + p_u . q_i,   (p_u, b_u) drawn to sum_f x_uf y_f instead of 0 (`wmf`: a user's own part
    plus their features')
    p_ui     propensity of `propensity`: by default sigma of a factorisation machine of ids and features, that is, a
             factorised logistic regression of exposures on who else was exposed and on features
    mu       weighted mean outcome                     lambda   `l2`

Updates, each the exact minimum: every user's (p_u, b_u), y, every item's (q_i, b_i).

Needs.      a biased log; propensities. Torch.
Assumes.    no hidden confounding given what the propensity is learned from, and a right propensity; every pair could
            have been exposed.
Limits.     equal propensities: plain penalised matrix factorisation of the exposed ratings.
Deviations. 1. Weights are divided by their mean, so that lambda does not depend on the log's density. 2. A new user's
            propensities come from their features and the item alone, or, where the propensity model knows training
            users only, from the item's mean weight. 3. The published relative of Deconf-MF weighs every cell of the
            matrix by .25^-(4 - r), unexposed ones most: not followed. 4. Predictions are the regression's, bent
            smoothly into the outcome's range, not cut: ranks stay.
Paper.      [Schnabel2016]; [Zhu2024] section 5.4.1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deconrec.base import Propensity, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import ParameterError
from deconrec.evaluation.overlap import Overlap
from deconrec.factor_estimator import FactorEstimator
from deconrec.kernels.als import Entries, solve_rows
from deconrec.methods.wmf import ridge_of_features
from deconrec.pairs import Tables
from deconrec.parameters import Search, nuisance, parameter
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.random import numpy_generator
from deconrec.training.features import feature_tables
from deconrec.training.samplers import log_pairs


def default_propensity() -> Propensity:
    """Logistic regression on ids and features, as a factorisation machine."""
    return LogisticMF(backbone="fm")  # type: ignore[call-arg]  # learned attributes are no parameters


@dataclass(kw_only=True, eq=False, repr=False)
class IPWMF(FactorEstimator):
    """Inverse propensity weighted matrix factorisation with user features."""

    paper = "Schnabel2016"
    title = "Propensity-weighted matrix factorisation"

    propensity: Propensity = nuisance(default_propensity, "propensity model, fitted first", PROPENSITIES)
    dim: int = parameter(16, "number of factors", low=1, search=Search(4, 128, log=True, whole=True))
    l2: float = parameter(
        5.0, "penalty lambda of the factors' squares", above=0, search=Search(0.3, 100, log=True)
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        propensity_: Propensity
        overlap_: Overlap | None
        user_factors_: np.ndarray
        item_factors_: np.ndarray
        feature_factors_: np.ndarray
        item_weight_: np.ndarray
        item_features_: np.ndarray
        offset_: np.ndarray

    @property
    def tags(self) -> Tags:
        """Uses user features where there are some; needs a randomised log where its propensity does."""
        needs = self.propensity.needs_unbiased
        return Tags(needs_unbiased=needs, uses_unbiased=needs, uses_features=True, shape="both")

    @property
    def affine(self) -> bool:
        """Scores estimate the outcome."""
        return False

    def check_params(self) -> None:
        """Ranges, and that there is a propensity."""
        super().check_params()
        if not isinstance(self.propensity, Propensity):
            raise ParameterError(
                f"'propensity' of IPWMF must be a propensity model ({', '.join(PROPENSITIES)}); got "
                f"{self.propensity!r}."
            )

    def _arrays(self) -> tuple[str, ...]:
        sides = ("user_factors", "item_factors", "feature_factors")
        return (*sides, "item_weight", "item_features", "offset")

    # ------------------------------------------------------------------ fitting
    def _learn(self, data: Dataset, validation: ValidationPart) -> None:
        propensity = self.propensity.clone()
        if "seed" in propensity.get_params(deep=False):
            propensity.set_params(seed=self.seed)
        self.propensity_ = propensity.fit(data)
        self.overlap_ = getattr(self.propensity_, "overlap_", None)
        log, (n_users, n_items) = data.biased, data.shape
        tables = feature_tables(data)
        self.item_features_ = np.zeros((n_items, 0)) if tables.item is None else tables.item.numpy()
        weight = 1.0 / self.propensity_(log_pairs(data, log, tables)).cpu().numpy().astype(np.float64)
        mean = weight.mean()
        weight /= mean
        seen = np.bincount(log.item, minlength=n_items)
        per_item = np.bincount(log.item, weight, n_items)
        self.item_weight_ = np.where(seen > 0, per_item / np.maximum(seen, 1), 1.0)
        r = data.outcome(log).astype(np.float64)
        self.offset_ = np.array([(weight @ r) / weight.sum(), mean])
        self._factorise(log.user, log.item, r - self.offset_[0], weight, self._x(data.user_features, n_users))

    def _factorise(
        self, user: np.ndarray, item: np.ndarray, r: np.ndarray, w: np.ndarray, x: np.ndarray
    ) -> None:
        """User vectors (p_u, b_u) and item vectors (q_i, b_i) of outcomes r less their mean."""
        n_users, n_items, k = len(x), len(self.item_weight_), self.dim
        by_user, by_item = Entries.of(user, item, n_users), Entries.of(item, user, n_items)
        rng = numpy_generator(self.seed, "initial values")
        q = np.hstack([rng.standard_normal((n_items, k)) * 0.1, np.zeros((n_items, 1))])
        y = np.zeros((x.shape[1], k + 1))
        ridge = self.l2 * np.eye(k + 1)
        for _ in range(self.iterations):
            v = solve_rows(by_user, one(q), ridge, w, w * (r - q[item, -1]), self.l2 * (x @ y))
            y = ridge_of_features(x, v)
            q = solve_rows(by_item, one(v), ridge, w, w * (r - v[user, -1]))
        self.user_factors_ = solve_rows(by_user, one(q), ridge, w, w * (r - q[item, -1]), self.l2 * (x @ y))
        self.item_factors_, self.feature_factors_ = q, y

    def _new_weights(self, history: Dataset, x: np.ndarray) -> np.ndarray:
        """(n,) weights of new users' rows."""
        log = history.biased
        given = (
            torch.from_numpy(f.astype(np.float32)) if f.shape[1] else None for f in (x, self.item_features_)
        )
        p = self.propensity_.of_new(log_pairs(history, log, Tables(*given)), history.n_users)
        if p is None:
            return self.item_weight_[log.item]
        return 1.0 / (p.cpu().numpy().astype(np.float64) * self.offset_[1])

    # ------------------------------------------------------------------ answers
    def _scores(self, v: np.ndarray) -> np.ndarray:
        q = self.item_factors_
        return v[:, :-1] @ q[:, :-1].T + (v[:, -1:] + q[:, -1] + self.offset_[0])

    def _affinity(self, users: np.ndarray) -> np.ndarray:
        return self._scores(self.user_factors_[users])

    def _new_affinity(self, history: Dataset) -> np.ndarray:
        log, q = history.biased, self.item_factors_
        x = self._x(history.user_features, history.n_users)
        w = self._new_weights(history, x)
        rest = history.outcome(log) - self.offset_[0] - q[log.item, -1]
        ridge, prior = self.l2 * np.eye(self.dim + 1), self.l2 * (x @ self.feature_factors_)
        entries = Entries.of(log.user, log.item, history.n_users)
        return self._scores(solve_rows(entries, one(q), ridge, w, w * rest, prior))

    def _item_vectors(self) -> np.ndarray:
        return self.item_factors_[:, :-1]

    # ------------------------------------------------------------------ saving
    def _state(self) -> dict[str, np.ndarray]:
        return super()._state() | {f"propensity.{k}": v for k, v in self.propensity_._state().items()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.propensity_ = self.propensity.clone()
        below = {k.removeprefix("propensity."): v for k, v in state.items() if k.startswith("propensity.")}
        with torch.random.fork_rng(devices=[]):  # initial values are drawn, and replaced at once
            self.propensity_._restore(below, self.spec_)


def one(factors: np.ndarray) -> np.ndarray:
    """The other side's design: its factors with a 1 in place of its bias, (n, k + 1)."""
    out = np.array(factors, np.float32)
    out[:, -1] = 1.0
    return out
