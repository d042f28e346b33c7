"""Features as networks read them, and how strongly a feature's effect is felt within exposures."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.checks.fixtures import checkerboard, confounded
from deconrec.training.features import WEIGHTS, feature_tables, weight_within_exposure


def test_tables_are_standardised_on_the_data() -> None:
    data = confounded()[0]
    tables = feature_tables(data)
    assert data.user_features is not None
    assert tables.user is not None
    x = tables.user.numpy()[~data.user_features.missing]
    assert x.mean(0) == pytest.approx(0, abs=1e-5)
    assert set(x.std(0).round(3)) <= {0.0, 1.0}
    assert feature_tables(checkerboard()[0]).user is None


@pytest.mark.parametrize("true", [0.0, 1.0, WEIGHTS[-1]])
def test_the_weight_that_ratings_follow_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(100), 30)
    own, felt = rng.normal(size=(2, len(user)))
    rating = own + true * felt + rng.normal(0, 0.1, len(user)) + rng.normal(0, 5, 100)[user]
    assert weight_within_exposure(own, felt, rating, user) == true


def test_where_nothing_varies_the_weight_is_1() -> None:
    x = np.array([1.0, 2.0, 3.0])
    for rating, user in ((np.ones(3), np.zeros(3, int)), (x, np.arange(3))):
        assert weight_within_exposure(x, x, rating, user) == 1.0
