"""scikit-learn's own tools on deconrec's methods."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from deconrec.checks.fixtures import confounded
from deconrec.errors import DataError, NotFitted
from deconrec.methods.ease import EASE
from deconrec.methods.ips import IPS
from deconrec.methods.mf import MF
from deconrec.methods.popularity import MostPopular
from deconrec.methods.res_dr import ResDR

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone, is_classifier, is_regressor  # noqa: E402  # only where it is installed
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402

from deconrec.adapters.sklearn import RatingClassifier, RatingRegressor, pairs_of  # noqa: E402


@pytest.fixture(scope="module")
def world():
    data, _ = confounded()
    log = data.frame(data.biased)
    return data, log.select("user_id", "item_id").to_pandas(), log["rating"].to_numpy()


@pytest.mark.parametrize("cls", [RatingClassifier, RatingRegressor])
@pytest.mark.parametrize("method", [MF(dim=3), IPS(dim=2, epochs=7), EASE(), ResDR(policy="joint")])
def test_clone(cls, method):
    mine = cls(method, refit=False)
    copy = clone(mine)
    assert copy is not mine
    assert copy.estimator is not method
    assert repr(copy.estimator) == repr(method)
    assert copy.get_params(deep=False).keys() == mine.get_params(deep=False).keys()
    assert copy.refit is False
    assert not hasattr(copy, "estimator_")


def test_parameters_of_parameters_are_reached():
    mine = RatingClassifier(IPS())
    mine.set_params(estimator__dim=5, estimator__propensity__dim=2)
    assert mine.get_params()["estimator__propensity__dim"] == 2
    assert (mine.estimator.dim, mine.estimator.propensity.dim) == (5, 2)
    with pytest.raises(ValueError, match="colour"):
        mine.set_params(estimator__colour=1)


def test_kinds():
    assert is_classifier(RatingClassifier())
    assert is_regressor(RatingRegressor())


def test_a_fit_is_the_fit_of_the_method(world):
    data, X, y = world
    ours = MF(dim=2, epochs=3).fit(data.with_logs(data.biased), refit=True)
    adapted = RatingClassifier(MF(dim=2, epochs=3)).fit(X, y)
    np.testing.assert_allclose(adapted.predict_proba(X)[:, 1], ours.predict(X), rtol=1e-6)
    assert adapted.classes_.tolist() == [0.0, 1.0]
    assert set(adapted.predict(X)) <= {0.0, 1.0}
    np.testing.assert_allclose(adapted.predict_proba(X).sum(1), 1)


def test_grid_search(world):
    _, X, y = world
    grid = {"estimator__dim": [2, 3], "estimator__propensity__floor": [0.05, 0.2]}
    search = GridSearchCV(RatingClassifier(IPS(epochs=3)), grid, scoring="roc_auc", cv=2, error_score="raise")
    search.fit(X, y)
    assert set(search.best_params_) == set(grid)
    assert len(search.cv_results_["mean_test_score"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict_proba(X.head(3)).shape == (3, 2)


def test_ratings(world):
    _, X, y = world
    ratings = 1 + 4 * y
    model = RatingRegressor(MostPopular(), rating_range=(1, 5))
    scores = cross_val_score(model, X, ratings, scoring="neg_mean_squared_error", cv=3, error_score="raise")
    assert (scores < 0).all()
    assert ((p := model.fit(X, ratings).predict(X)) >= 1).all()
    assert (p <= 5).all()


def test_randomised_rows_and_labels_that_are_text(world):
    data, X, y = world
    labels = np.where(y > 0, "yes", "no")
    unbiased = data.frame(data.unbiased).with_columns(
        rating=pl.when(pl.col("rating") > 0).then(pl.lit("yes")).otherwise(pl.lit("no"))
    )
    model = RatingClassifier(MF(population="uniform", dim=2, epochs=2), unbiased=unbiased).fit(X, labels)
    assert model.estimator_.unbiased_rows_ == len(data.unbiased)
    assert model.classes_.tolist() == ["no", "yes"]
    assert set(model.predict(X)) <= {"no", "yes"}


def test_features(world):
    data, X, y = world
    table = pd.DataFrame({"id": data.users.values.to_list()} | {"x": data.user_features.values[:, 0]})
    model = RatingClassifier(MF(backbone="fm", dim=2, epochs=2), users=table).fit(X, y)
    assert model.estimator_.spec_.n_user_features == 1


@pytest.mark.parametrize("kind", ["pandas", "polars", "array", "other names"])
def test_what_X_may_be(world, kind):
    _, X, y = world
    given = {
        "pandas": X,
        "polars": pl.from_pandas(X),
        "array": X.to_numpy(dtype=object),
        "other names": X.rename(columns={"user_id": "who", "item_id": "what"}),
    }[kind]
    model = RatingClassifier(MostPopular()).fit(given, y)
    expected = RatingClassifier(MostPopular()).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(model.predict_proba(given), expected)


def test_in_a_pipeline(world):
    _, X, y = world
    line = make_pipeline(FunctionTransformer(lambda t: t), RatingClassifier(MostPopular()))
    assert line.fit(X, y).predict(X).shape == y.shape


def test_what_is_refused(world):
    _, X, y = world
    with pytest.raises(NotFittedError):
        RatingClassifier().predict(X)
    with pytest.raises(DataError, match="needs two outcomes in y; got 3"):
        RatingClassifier().fit(X, np.arange(len(y)) % 3)
    with pytest.raises(DataError, match="one outcome a row"):
        RatingRegressor().fit(X, y[:-1])
    with pytest.raises(DataError, match=r"got the shape \(3,\)"):
        pairs_of([1, 2, 3])
    with pytest.raises(DataError, match="needs the columns user_id and item_id"):
        pairs_of(X[["user_id"]])
    with pytest.raises(NotFitted):
        MF().predict(X)
