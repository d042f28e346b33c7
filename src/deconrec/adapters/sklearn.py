"""deconrec's methods as scikit-learn estimators: `clone`, `cross_val_score`, `GridSearchCV`, pipelines.

X is a table of pairs, y their outcome. scikit-learn draws folds of the rows that it is given, so a score here is one of
held-out rows of the biased log: good for wiring, and no estimate of what a method is worth over all pairs (`compare`).

>>> from sklearn.model_selection import GridSearchCV
>>> import deconrec as dc
>>> from deconrec.adapters.sklearn import RatingClassifier
>>> data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.3, seed=0)
>>> log = data.frame(data.biased)
>>> grid = {"estimator__dim": [2, 4]}
>>> search = GridSearchCV(RatingClassifier(dc.MF(epochs=3)), grid, scoring="roc_auc", cv=2)
>>> search = search.fit(log.select("user_id", "item_id").to_pandas(), log["rating"].to_numpy())
>>> sorted(search.best_params_)
['estimator__dim']
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset, Duplicates
from deconrec.data.ids import as_series
from deconrec.data.tables import read_table
from deconrec.errors import DataError, MissingExtra
from deconrec.methods import make

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as error:
    raise MissingExtra("scikit-learn", "sklearn", "deconrec.adapters.sklearn") from error


class _Adapter(BaseEstimator):
    """What both share.

    Parameters
    ----------
    estimator, unbiased, users, items, duplicates, refit: see `RatingClassifier`.
    """

    def __init__(
        self,
        estimator: Estimator | None = None,
        *,
        unbiased: Any = None,
        users: Any = None,
        items: Any = None,
        duplicates: Duplicates = "error",
        refit: bool = True,
    ) -> None:
        self.estimator = estimator
        self.unbiased = unbiased
        self.users = users
        self.items = items
        self.duplicates = duplicates
        self.refit = refit

    def _fitted(self, X: Any, y: Any, **options: Any) -> None:
        """Fit a copy of the method to pairs X (n, 2 or more) and ratings y (n,)."""
        pairs = pairs_of(X)
        rating = np.asarray(y, np.float64)
        if rating.shape != (len(pairs),):
            raise DataError(
                f"y must hold one outcome a row of X, {len(pairs):,}; got the shape {rating.shape}."
            )
        data = Dataset.from_frames(
            pairs.with_columns(rating=pl.Series(rating)),
            users=self.users,
            items=self.items,
            duplicates=self.duplicates,
            **options,
        )
        if self.estimator is None:
            method: Estimator = make("mf")
        else:
            method = self.estimator.clone()
        self.estimator_ = method.fit(data, refit=self.refit)
        self.n_features_in_ = len(getattr(X, "columns", ())) or np.shape(X)[1]

    def _expected(self, X: Any) -> np.ndarray:
        """(n,) expected outcomes; ids that were not in this fold get the fallback."""
        check_is_fitted(self, "estimator_")
        out: np.ndarray = self.estimator_.predict(pairs_of(X), unknown="fallback")
        return out


class RatingRegressor(RegressorMixin, _Adapter):
    """A method for ratings as they are: `predict` gives the expected rating.

    Parameters
    ----------
    rating_range: lowest and highest possible rating; None = what each fold shows.

    The others as of `RatingClassifier`.
    """

    def __init__(
        self,
        estimator: Estimator | None = None,
        *,
        rating_range: tuple[float, float] | None = None,
        unbiased: Any = None,
        users: Any = None,
        items: Any = None,
        duplicates: Duplicates = "error",
        refit: bool = True,
    ) -> None:
        super().__init__(
            estimator, unbiased=unbiased, users=users, items=items, duplicates=duplicates, refit=refit
        )
        self.rating_range = rating_range

    def fit(self, X: Any, y: Any) -> RatingRegressor:
        """Learn from pairs X and their ratings y.

        Parameters
        ----------
        X: a table with user_id and item_id, or whose first two columns they are; or an array (n, 2).
        y: (n,) numbers.

        Raises
        ------
        DataError, ParameterError: as of `Estimator.fit`.
        """
        self._fitted(X, y, unbiased=self.unbiased, rating_range=self.rating_range)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(n,) expected ratings of pairs."""
        return self._expected(X)


class RatingClassifier(ClassifierMixin, _Adapter):
    """A method for two outcomes: `predict_proba` gives their probabilities.

    Parameters
    ----------
    estimator: an unfitted method; None = `MF()`. A grid names its parameters `estimator__dim`,
        `estimator__propensity__floor`, ...
    unbiased: a table of randomised rows user_id, item_id, rating (one of the two classes); the same for every fold.
    users, items: tables of features, the id in the first column.
    duplicates: what a repeated (user, item) pair in X means: "error", "last" or "mean".
    refit: see `Estimator.fit`.

    Attributes
    ----------
    estimator_: the fitted method.
    classes_: (2,) the two outcomes, sorted; the second is the one whose probability the method learns.
    """

    def fit(self, X: Any, y: Any) -> RatingClassifier:
        """Learn from pairs X and their outcomes y; see `RatingRegressor.fit`.

        Raises
        ------
        DataError: y does not hold exactly two values, or as of `Estimator.fit`.
        """
        self.classes_ = np.unique(np.asarray(y))
        if len(self.classes_) != 2:
            raise DataError(
                f"RatingClassifier needs two outcomes in y; got {len(self.classes_)}: {self.classes_[:5]}. Cut ratings "
                "in two, stratify the folds, or use RatingRegressor."
            )
        unbiased = None
        if self.unbiased is not None:
            unbiased = read_table(self.unbiased, "the unbiased rows")
            positive = unbiased["rating"].to_numpy() == self.classes_[1]
            unbiased = unbiased.with_columns(rating=pl.Series(positive.astype(np.float64)))
        labels = (np.asarray(y) == self.classes_[1]).astype(np.float64)
        self._fitted(X, labels, unbiased=unbiased, rating_range=(0.0, 1.0), binarize=0.5)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, 2) probabilities of `classes_`."""
        p = self._expected(X)
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any) -> np.ndarray:
        """(n,) the more probable of `classes_`."""
        likely = self._expected(X) >= 0.5
        return np.asarray(self.classes_[likely.astype(np.int64)])


def pairs_of(X: Any) -> pl.DataFrame:
    """X as a table user_id, item_id.

    Raises
    ------
    DataError: fewer than two columns.
    """
    if hasattr(X, "columns"):
        table = read_table(X, "X")
        names = ("user_id", "item_id")
        if not set(names) <= set(table.columns):
            if len(table.columns) < 2:
                raise DataError(f"X needs the columns user_id and item_id; got {table.columns}.")
            table = table.rename(dict(zip(table.columns[:2], names, strict=True)))
        return table.select(names)
    array = np.asarray(X)
    if array.ndim != 2 or array.shape[1] < 2:
        raise DataError(
            f"X must be a table or an array (n, 2) of user and item ids; got the shape {array.shape}."
        )
    return pl.DataFrame(
        [as_series(array[:, 0], "user").alias("user_id"), as_series(array[:, 1], "item").alias("item_id")]
    )
