"""What popularity and chance get, against counts and by their definition."""

from __future__ import annotations

import numpy as np
import pytest

import deconrec as dc
from deconrec.data.split import UsersSplit
from deconrec.experiments.metrics import evaluate_users
from deconrec.saving import load_model


@pytest.fixture(scope="module")
def world():
    return dc.simulate.deep_deconf(
        n_users=600, n_items=80, n_factors=3, n_features=2, exposure_rate=0.1, weight_scale=1.0, seed=0
    )


def test_popularity_ranks_by_rows(world):
    data, _ = world
    model = dc.MostPopular().fit(data, validation=data)
    count = np.bincount(data.biased.item, minlength=data.n_items)
    scores = model.score(data.users.values[np.unique(data.biased.user)])
    assert (scores == scores[0]).all()
    some = np.flatnonzero(count)  # an item without a row gets the mean, as from every method
    assert 0 < len(some) < data.n_items
    order = some[np.argsort(-scores[0][some], kind="stable")]
    assert (np.diff(count[order]) <= 0).all()
    same = count[:, None] == count
    assert (np.abs(scores[0][:, None] - scores[0])[same] < 1e-7).all()
    rating = data.biased.rating
    first = data.users.values[[int(data.biased.user[0])]]
    assert model.predict((first, data.items.values[:1]))[0] == pytest.approx(scores[0, 0])
    assert rating.min() <= scores.min() <= scores.max() <= rating.max()


def test_random_orders_are_everybodys_own_and_stay(world, tmp_path):
    data, _ = world
    model = dc.RandomRanker(seed=3).fit(data)
    scores = model.score()
    assert not np.array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(model.score(data.users.values[[5, 2]]), scores[[5, 2]])
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load_model(tmp_path / "m").score(), scores)
    correlation = np.corrcoef(scores.ravel(), np.tile(np.arange(data.n_items), data.n_users))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(scores.size)


def test_a_random_order_gets_what_chance_gets(world):
    """P(a positive is among the first K of n candidates) = K / n; every list of positives is shorter than K here."""
    data, truth = world
    parts = UsersSplit(0).apply(data, truth)
    model = dc.RandomRanker().fit(parts.train, validation=parts.holdout)
    evaluated = evaluate_users(model, parts.test, data, ["recall@20/full"], truth, parts.train)
    parts = UsersSplit(0).apply(data, truth)
    test = parts.test.open()
    candidates = data.n_items - test.history.biased.pattern(test.history.shape).sum(1)
    some = np.asarray(test.relevant.sum(1)).ravel() > 0
    expected = (20 / np.asarray(candidates).ravel()[some]).mean()
    values = evaluated.per_user["recall@20/full"][1]
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / np.sqrt(len(values)))
