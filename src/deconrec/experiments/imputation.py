"""What the doubly robust estimator puts in the place of outcomes that were not logged.

A method is fitted to the log's own rows in K parts; a pair's value comes from the fit that did not see its part, so
that what is imputed knows nothing of whether, and with what outcome, the pair was logged. Parts are a fixed rule.
"""

from __future__ import annotations

import numpy as np

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError
from deconrec.experiments.population import Population
from deconrec.methods import make


class Imputed:
    """Expected outcomes of every pair of a population, cross-fitted.

    Parameters
    ----------
    method: name of a method, with its parameters.
    folds: K >= 2.

    Raises
    ------
    DataError: so few rows that a part would be empty.
    """

    def __init__(self, population: Population, method: str, folds: int, seed: int) -> None:
        data, rows = population.data, population.rows
        self._data, self._folds = data, folds
        fold = self._fold(rows.user, rows.item)
        if np.bincount(fold, minlength=folds).max() == len(rows):
            raise DataError(
                f"the doubly robust estimator needs rows in more than one of {folds} parts; got {len(rows):,} rows. "
                "Use --estimator snips."
            )
        self._models = self._fitted(data, method, fold, seed)
        self._positives = self._models
        self._noise = 0.0
        if not data.outcome_scale.binary:
            if data.task.relevant is not None and data.task.binarize is None:
                self._positives = self._fitted(
                    data.with_task(binarize=data.task.relevant), method, fold, seed
                )
            users, items = data.users.decode(rows.user), data.items.decode(rows.item)
            each = [m.predict((users, items), unknown="fallback") for m in self._models]
            self._noise = float(np.mean((population.outcome - np.choose(fold, each)) ** 2))

    def _fold(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return ((user.astype(np.int64) * 7919 + item.astype(np.int64) * 104_729) >> 3) % self._folds

    def _fitted(self, data: Dataset, method: str, fold: np.ndarray, seed: int) -> list[Estimator]:
        found = []
        for k in range(self._folds):
            model = make(method)
            if "seed" in model.get_params(deep=False):
                model.set_params(seed=seed)
            found.append(model.fit(data.with_logs(data.biased.take(fold != k)), refit=True))
        return found

    def _block(self, models: list[Estimator], users: np.ndarray) -> np.ndarray:
        """(B, n_items), each pair from the fit that did not see its part."""
        raw = self._data.users.decode(users)
        fold = self._fold(users[:, None], np.arange(self._data.n_items)[None, :])
        out = np.empty(fold.shape)
        for k, model in enumerate(models):
            mine = fold == k
            out[mine] = model.score(raw, unknown="fallback")[mine]
        return out

    def outcome(self, users: np.ndarray) -> np.ndarray:
        """(B, n_items) expected outcomes on the outcome's own scale."""
        return self._block(self._models, users)

    def positives(self, users: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        """(B, n_items) probability of a positive; `outcome` is what `outcome` gave."""
        block = outcome if self._positives is self._models else self._block(self._positives, users)
        return np.clip(block, 0.0, 1.0)

    def squared(self, outcome: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """(B, n_items) expected squared error of predictions."""
        if self._data.outcome_scale.binary:
            r = np.clip(outcome, 0.0, 1.0)
            return np.asarray(r * (1 - prediction) ** 2 + (1 - r) * prediction**2)
        return np.asarray((outcome - prediction) ** 2 + self._noise)
