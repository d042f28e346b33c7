"""EASE: a linear item-item model in closed form, calibrated to expected outcomes.

Idea. What a user was exposed to, or liked, says what else they like: regress every item on all others at once. The
score is an affinity; a logistic regression turns it, with the item's popularity, into an expected outcome, on
randomised rows where there are some.

Risk ([Steck2019]).
    B = argmin ||X - X B||^2 + lambda ||B||^2 with diag(B) = 0;   P = (X'X + lambda I)^-1,   B_ij = -P_ij / P_jj
    s_ui = sum_j X_uj B_ji           r_hat = sigma( w_0 + w_1 s_ui + w_2 log(1 + n_i) )
    X       0/1: positives, or exposures (`reads`)      lambda  `ridge`
    n_i     exposures of the item                       w       logistic regression with a small penalty

Needs.      a biased log; a randomised log makes the calibration (not B) unbiased. No torch.
Assumes.    exposure tells of taste: what goes together in histories goes together in outcomes, by one logistic curve
            for everybody; representative randomised rows for the level, where there are some. B is as biased as the
            log, and without randomised rows the level is that of what was shown.
Limits.     lambda to infinity: lambda B is X'X without its diagonal. Items that share no user: B = 0 between them. One
            item: popularity alone.
Deviations. 1. Scores are calibrated: the paper ranks only. 2. lambda = None is chosen from `RIDGES` by the validation
            part: AUC of its rows (minus the squared error of ratings), or NDCG@20 for users with a history; 300 without
            a validation row. 3. Ratings without a threshold stand in X as they are, mapped to [0, 1].
Paper.      [Steck2019]

Memory. A fit takes about 35 n_items^2 bytes at its peak, the model 4 n_items^2: `largest` items at most, 5 GB by
default. New users are scored from their history by one product, which is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit

from deconrec.base import Estimator, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.data.tensors import checked_csr
from deconrec.errors import DataError
from deconrec.evaluation.ranking import place_block
from deconrec.factor_estimator import score_of_pairs
from deconrec.parameters import Search, parameter

# NOTE 1000 to 3000 are best on the hold-out of Coat, tens on simulated data of 40 users
RIDGES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
# NOTE of standardised weights: a thirtieth of the information in 232 rows (Coat), nothing in thousands
PENALTY = 1.0
VALIDATION_K = 20


@dataclass(kw_only=True, eq=False, repr=False)
class EASE(Estimator):
    """Embarrassingly shallow autoencoder, calibrated."""

    paper = "Steck2019"
    title = "Embarrassingly shallow autoencoder"

    reads: str = parameter(
        "positives",
        "what X marks: positive outcomes, or every exposure",
        choices=("positives", "exposures"),
        search=Search(choices=("positives", "exposures")),
    )
    ridge: float | None = parameter(
        None,
        "penalty lambda; None = chosen from 10 to 3000 by the validation part",
        above=0,
        search=Search(1, 1e4, log=True),
    )
    calibration: str = parameter(
        "unbiased",
        "rows that the outcome's regression is fitted on: the randomised log where there is one, or biased",
        choices=("unbiased", "biased"),
    )
    largest: int = parameter(12_000, "most items; memory grows with their square", low=1)
    seed: int = parameter(0, "draws the hold-out", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        x_: csr_matrix
        weights_: np.ndarray
        precision_: np.ndarray
        ridge_: float
        log_popularity_: np.ndarray
        coefficients_: np.ndarray

    @property
    def tags(self) -> Tags:
        """Reads randomised rows where there are some; needs none."""
        return Tags(uses_unbiased=self.calibration == "unbiased", shape="both")

    def _covered(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        users, items = np.zeros(data.n_users, bool), np.zeros(data.n_items, bool)
        users[data.biased.user], items[data.biased.item] = True, True
        return users, items

    # ------------------------------------------------------------------ fitting
    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        n = data.n_items
        if n > self.largest:
            raise DataError(
                f"EASE holds an item-item matrix and takes at most {self.largest:,} items; got {n:,}, "
                f"{35 * n * n / 1e9:.1f} GB while fitting. Raise `largest` if you have the memory, or use MF."
            )
        self._solve(data, validation, RIDGES if self.ridge is None else (float(self.ridge),))

    def _fit_again(self, data: Dataset, progress: bool) -> None:
        nothing = ValidationPart(data.with_logs(data.biased.take(np.zeros(0, np.int64))))
        self._solve(data, nothing, (self.ridge_,))

    def _solve(self, data: Dataset, validation: ValidationPart, ridges: tuple[float, ...]) -> None:
        n = data.n_items
        self.x_ = self._marks(data)
        self.log_popularity_ = np.log1p(np.bincount(data.biased.item, minlength=n))
        gram = np.asarray((self.x_.T @ self.x_).todense(), np.float64)
        rows = data.biased
        if self.calibration == "unbiased" and data.unbiased is not None and len(data.unbiased):
            rows = data.unbiased
        if not len(validation.data.biased):
            ridges = ridges[len(ridges) // 2 :][:1]
        best = -np.inf
        kept: tuple[float, np.ndarray, np.ndarray, np.ndarray] | None = None
        for ridge in ridges:
            self.weights_, self.precision_ = solve(gram, ridge)
            features = self._features(rows.user, rows.item)
            self.coefficients_ = logistic(features, data.outcome(rows))
            score = self.judge(validation) if len(ridges) > 1 else 0.0
            if score > best:
                best, kept = score, (ridge, self.weights_, self.precision_, self.coefficients_)
        assert kept is not None
        self.ridge_, self.weights_, self.precision_, self.coefficients_ = kept

    def _marks(self, data: Dataset) -> csr_matrix:
        """X (n_users, n_items) of a data set's biased log."""
        log = data.biased
        if self.reads == "exposures":
            return log.pattern(data.shape)
        task = self.task_
        if task.binarize is not None or task.relevant is not None:
            return log.take(task.positive(log.rating)).pattern(data.shape)
        x = log.pattern(data.shape)
        x.data = data.outcome(log)[log.by_user(data.n_users)[1]].astype(np.float32)
        return x

    def validation_score(self, validation: ValidationPart) -> float:
        """Higher is better: what the ridge, and tuning, are chosen by."""
        data = validation.data
        log = data.biased
        if validation.history is not None:
            history = validation.history
            target = self._marks(data) > 0 if self.reads == "positives" else log.pattern(data.shape)
            seen = history.biased.pattern(history.shape)
            placed = place_block(self._fold_in(history), target, seen, depth=VALIDATION_K)
            values = placed.values("ndcg", VALIDATION_K)
            return float(values.mean) if len(values.user) else 0.0
        return score_of_pairs(data, self._pairs(log.user, log.item))

    # ------------------------------------------------------------------ answers
    def _affinity(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(n,) scores s of coded pairs, a thousand users' rows held at once."""
        out = np.empty(len(user), np.float32)
        users, back = np.unique(user, return_inverse=True)
        order = np.argsort(back, kind="stable")
        bounds = np.searchsorted(back[order], np.arange(0, len(users) + 1024, 1024))
        for k, start in enumerate(range(0, len(users), 1024)):
            rows = order[bounds[k] : bounds[k + 1]]
            block = np.asarray(self.x_[users[start : start + 1024]] @ self.weights_)
            out[rows] = block[back[rows] - start, item[rows]]
        return out

    def _features(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return np.column_stack([self._affinity(user, item), self.log_popularity_[item]])

    def _outcome(self, affinity: np.ndarray, log_popularity: np.ndarray) -> np.ndarray:
        shift, slope, popular = self.coefficients_
        return np.asarray(expit(shift + slope * affinity + popular * log_popularity))

    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self._outcome(self._affinity(user, item), self.log_popularity_[item])

    def _block(self, users: np.ndarray) -> np.ndarray:
        return self._outcome(np.asarray(self.x_[users] @ self.weights_), self.log_popularity_)

    def _fold_in(self, history: Dataset) -> np.ndarray:
        return self._outcome(np.asarray(self._marks(history) @ self.weights_), self.log_popularity_)

    def _similarities(self, code: np.ndarray) -> np.ndarray:
        """Partial correlations of items given all others, -P_ij / sqrt(P_ii P_jj): what B is made of."""
        ratio = np.sqrt(self.precision_)
        return self.weights_[code] * (ratio / ratio[code][:, None])

    # ------------------------------------------------------------------ saving
    def _state(self) -> dict[str, np.ndarray]:
        return {
            "x.indptr": self.x_.indptr.astype(np.int64),
            "x.indices": self.x_.indices.astype(np.int32),
            "x.data": self.x_.data,
            "weights": self.weights_,
            "precision": self.precision_,
            "ridge": np.array([self.ridge_]),
            "log_popularity": self.log_popularity_,
            "coefficients": self.coefficients_,
        }

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        indptr, indices, values = (state[f"x.{name}"] for name in ("indptr", "indices", "data"))
        self.x_ = checked_csr(indptr, indices, self.spec_.shape, "x", values)
        self.weights_, self.precision_, self.log_popularity_, self.coefficients_ = (
            np.array(state[name]) for name in ("weights", "precision", "log_popularity", "coefficients")
        )
        self.ridge_ = float(state["ridge"][0])


def solve(gram: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """(B (n, n) float32 with diagonal 0, diagonal of P (n,)) from X'X (n, n) and lambda > 0."""
    from scipy.linalg.lapack import dpotrf, dpotri

    a = gram.copy(order="F")  # the order in which LAPACK works in place
    a[np.diag_indices_from(a)] += ridge
    factor, failed = dpotrf(a, lower=False, overwrite_a=True)
    p, broken = dpotri(factor, lower=False, overwrite_c=True)
    if failed or broken:
        raise DataError(
            f"X'X + {ridge:g} I of EASE is not positive definite in double precision; raise `ridge`."
        )
    diagonal = np.diag(p).copy()
    b = np.triu(p.astype(np.float32), 1)  # dpotri fills one triangle only
    b += b.T
    b /= -diagonal.astype(np.float32)
    return b, diagonal


def logistic(x: np.ndarray, r: np.ndarray, rounds: int = 50) -> np.ndarray:
    """(1 + F,) intercept and weights of a logistic regression of r in [0, 1] on features x (n, F), by Newton's method.

    (PENALTY / 2) times the squared weights of the standardised features is added. The intercept is drawn, a hundredth
    as strongly, to the logit of the mean outcome clipped to [0.01, 0.99], so that equal outcomes have a solution.
    """
    if not len(r):
        return np.zeros(1 + x.shape[1])
    centre, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    z = np.column_stack([np.ones(len(r)), (x - centre) / spread])
    mean = np.clip(r.mean(dtype=np.float64), 0.01, 0.99)
    start = np.zeros(z.shape[1])
    start[0] = np.log(mean / (1 - mean))
    penalty = np.full(z.shape[1], PENALTY)
    penalty[0] = PENALTY / 100
    w = start.copy()
    for _ in range(rounds):
        p = expit(z @ w)
        gradient = z.T @ (p - r) + penalty * (w - start)
        step = np.linalg.solve((z * (p * (1 - p))[:, None]).T @ z + np.diag(penalty), gradient)
        w -= step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < 1e-10:
            break
    weights = w[1:] / spread
    return np.concatenate([[w[0] - centre @ weights], weights])
