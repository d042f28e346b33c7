"""Methods in closed form over users' and items' factors: what alternating least squares and coordinate ascent share.

A method gives scores of pairs, of training users and of new ones; what turns them into expected outcomes, what
validation reads, and how features come in stand here once. No torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset, Features, Log
from deconrec.data.split import ValidationPart, take_users
from deconrec.errors import DataError
from deconrec.evaluation.calibration import platt
from deconrec.evaluation.ranking import place_blocks
from deconrec.evaluation.rating import auc, logloss, mse
from deconrec.kernels.response import bent
from deconrec.parameters import Search, parameter
from deconrec.training.features import spread

VALIDATION_K = 20
BLOCK = 1024  # validation users that are scored at a time
ENOUGH = 50  # NOTE validation rows from which the two numbers of the map of affinities are fitted to them
FLATTEST = 0.02  # NOTE smallest slope a standard deviation of scores: ranks survive single precision


@dataclass(kw_only=True, eq=False, repr=False)
class FactorEstimator(Estimator):
    """A method whose scores are made of factors found in closed form.

    Where scores are affinities (`affine` True), a logistic map fitted to held-out rows gives the expected outcome;
    where they estimate the outcome, they are kept, bent smoothly at 0 and 1. Both maps are increasing.
    """

    dim: int = parameter(64, "number of factors", low=1, search=Search(8, 256, log=True, whole=True))
    l2: float = parameter(
        30.0, "penalty lambda of the factors' squares", above=0, search=Search(0.1, 300, log=True)
    )
    iterations: int = parameter(12, "rounds of updates", low=1)
    seed: int = parameter(0, "draws initial values and the hold-out", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        x_mean_: np.ndarray
        x_std_: np.ndarray
        slope_: float
        shift_: float

    # ------------------------------------------------------------------ hooks
    @property
    @abstractmethod
    def affine(self) -> bool:
        """Whether scores are affinities without the outcome's level."""

    @abstractmethod
    def _learn(self, data: Dataset, validation: ValidationPart) -> None:
        """Find the factors."""

    @abstractmethod
    def _affinity(self, users: np.ndarray) -> np.ndarray:
        """(B, n_items) scores of training users."""

    @abstractmethod
    def _new_affinity(self, history: Dataset) -> np.ndarray:
        """(n, n_items) scores of new users, item side fixed."""

    @abstractmethod
    def _arrays(self) -> tuple[str, ...]:
        """Names of the learned arrays (without the final underscore) that answers are made from."""

    # ------------------------------------------------------------------ fitting
    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        self.x_mean_, self.x_std_ = spread(data.user_features if self.tags.uses_features else None)
        self.slope_, self.shift_ = 1.0, 0.0
        self._learn(data, validation)
        if self.affine:
            self._calibrate(data, validation)

    def _x(self, features: Features | None, n: int) -> np.ndarray:
        """(n, F) user features with mean 0 and deviation 1 on training users; F = 0 where none are read."""
        if features is None or not len(self.x_mean_):
            return np.zeros((n, 0), np.float32)
        return np.asarray((features.values - self.x_mean_) / self.x_std_, np.float32)

    def _calibrate(self, data: Dataset, validation: ValidationPart) -> None:
        log, scores = validation.data.biased, None
        if len(log) >= ENOUGH:
            scores, r = self._validation_scores(validation), validation.data.outcome(log)
        if scores is None or np.ptp(r) == 0:
            log, r = data.biased, data.outcome(data.biased)
            scores = self._pair_affinity(log.user, log.item)
        self.slope_, self.shift_ = increasing_map(scores, r)

    def _validation_scores(self, validation: ValidationPart) -> np.ndarray:
        """(n,) scores of the rows that are to be predicted."""
        log = validation.data.biased
        if validation.history is None:
            return self._pair_affinity(log.user, log.item)
        scores = np.empty(len(log), np.float64)
        for start in range(0, validation.history.n_users, BLOCK):
            users = np.arange(start, min(start + BLOCK, validation.history.n_users))
            rows = (log.user >= start) & (log.user < start + BLOCK)
            scores[rows] = self._validation_affinity(validation, users)[
                log.user[rows] - start, log.item[rows]
            ]
        return scores

    def _validation_affinity(self, validation: ValidationPart, users: np.ndarray) -> np.ndarray:
        """(B, n_items) scores of validation users, by their numbers."""
        assert validation.history is not None
        return self._new_affinity(take_users(validation.history, users))

    def validation_score(self, validation: ValidationPart) -> float:
        """NDCG@20 of validation users' held-out positives (any held-out row where no positive is defined);
        without validation users, AUC where both outcomes occur, minus the error otherwise.
        """
        if validation.history is not None:
            return ndcg_of_held_out(validation, lambda users: self._validation_affinity(validation, users))
        log = validation.data.biased
        return score_of_pairs(validation.data, self._pairs(log.user, log.item))

    def _covered(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        users, items = np.zeros(data.n_users, bool), np.zeros(data.n_items, bool)
        users[data.biased.user], items[data.biased.item] = True, True
        if data.user_features is not None and self.tags.uses_features:
            users |= ~data.user_features.missing
        return users, items

    # ------------------------------------------------------------------ answers
    def _outcome(self, score: np.ndarray) -> np.ndarray:
        if self.affine:
            return np.asarray(expit(self.slope_ * score.astype(np.float64) + self.shift_))
        return bent(score)

    def _pair_affinity(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(n,) scores of coded pairs of training users, a thousand users' rows held at once."""
        out = np.empty(len(user), np.float64)
        users, back = np.unique(user, return_inverse=True)
        order = np.argsort(back, kind="stable")
        bounds = np.searchsorted(back[order], np.arange(0, len(users) + 1024, 1024))
        for k, start in enumerate(range(0, len(users), 1024)):
            rows = order[bounds[k] : bounds[k + 1]]
            block = self._affinity(users[start : start + 1024])
            out[rows] = block[back[rows] - start, item[rows]]
        return out

    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self._outcome(self._pair_affinity(user, item))

    def _block(self, users: np.ndarray) -> np.ndarray:
        score = self._affinity(users)
        if not self.affine:
            return self._outcome(score)
        # sigma of many cells, in single precision and in place, which numpy does faster than scipy.
        out = np.multiply(score, np.float32(-self.slope_), dtype=np.float32)
        out -= np.float32(self.shift_)
        with np.errstate(over="ignore"):
            np.exp(out, out=out)
        out += 1
        return np.reciprocal(out, out=out)

    def _fold_in(self, history: Dataset) -> np.ndarray:
        return self._outcome(self._new_affinity(history))

    # ------------------------------------------------------------------ saving
    def _state(self) -> dict[str, np.ndarray]:
        kept = {name: np.asarray(getattr(self, f"{name}_")) for name in self._arrays()}
        return kept | {
            "x_mean": self.x_mean_,
            "x_std": self.x_std_,
            "calibration": np.array([self.slope_, self.shift_]),
        }

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name in (*self._arrays(), "x_mean", "x_std"):
            setattr(self, f"{name}_", np.array(state[name]))
        self.slope_, self.shift_ = (float(v) for v in state["calibration"])


def increasing_map(scores: np.ndarray, r: np.ndarray) -> tuple[float, float]:
    """(slope > 0, shift) of the logistic map sigma(slope * score + shift) fitted to outcomes r (n,) in [0, 1].

    Nearly flat, at the mean of r, where outcomes do not rise with the scores.
    """
    wide = float(scores.std()) if len(scores) else 0.0
    wide = wide if wide > 1e-12 else 1.0
    centre = float(scores.mean()) if len(scores) else 0.0
    slope, shift = platt((scores - centre) / wide, r)
    if slope < FLATTEST:
        mean = float(np.clip(r.mean(), 0.01, 0.99))
        slope, shift = FLATTEST, float(np.log(mean / (1 - mean)))
    return slope / wide, shift - slope * centre / wide


def ndcg_of_held_out(validation: ValidationPart, scores: Callable[[np.ndarray], np.ndarray]) -> float:
    """NDCG@20 of validation users' held-out positives (any held-out row where no positive is defined).

    scores: gives (B, n_items) of validation users by their numbers.
    """
    history, task, log = validation.history, validation.data.task, validation.data.biased
    assert history is not None
    target = log
    if task.binarize is not None or task.relevant is not None:
        positive = log.take(task.positive(log.rating))
        target = positive if len(positive) else log
    placed = place_blocks(
        scores,
        target.pattern(history.shape),
        history.biased.pattern(history.shape),
        depth=VALIDATION_K,
        size=BLOCK,
    )
    values = placed.values("ndcg", VALIDATION_K)
    return float(values.mean) if len(values.user) else 0.0


def score_of_pairs(data: Dataset, prediction: np.ndarray) -> float:
    """AUC of predictions of the biased log's rows where both outcomes occur, minus the error otherwise."""
    r = data.outcome(data.biased)
    if not data.outcome_scale.binary:
        return -mse(prediction, r)
    return -logloss(prediction, r) if r.min() == r.max() else auc(prediction, r)


def counts(task_binarized: bool, log: Log, outcome: np.ndarray, who: str) -> np.ndarray:
    """(n,) ratings as counts: as given, or the outcome 0 or 1 where it is binarised.

    Raises
    ------
    DataError: a rating below 0.
    """
    values = outcome if task_binarized else log.rating
    if len(values) and values.min() < 0:
        raise DataError(
            f"{who} reads ratings as counts, which must be >= 0; the lowest is {values.min():g}. Shift the ratings, "
            "or read exposures or positives."
        )
    return np.asarray(values, np.float32)
