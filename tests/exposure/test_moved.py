"""Exposure models moved to other items: what is known stays, what is new says nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from deconrec.base import Spec
from deconrec.checks.fixtures import rows_world
from deconrec.data.dataset import Log
from deconrec.data.ids import Vocabulary
from deconrec.effects.factors import LogisticFactors
from deconrec.exposure import PoissonExposure, SVDExposure, VAEExposure
from deconrec.pairs import NO_TABLES
from deconrec.training.samplers import Source, user_rows

MODELS = [
    SVDExposure(dim=4),
    PoissonExposure(dim=3, check_draws=0),
    VAEExposure(dim=3, epochs=3, check_draws=0),
    LogisticFactors(dim=2, iterations=10, check_draws=0),
]
PARAMETERS = pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)


def rows_of(data):
    return user_rows(Source.of(data, NO_TABLES), np.arange(data.n_users))[0]


def with_rows(data, user, item, n_items):
    """The same users with these rows over n_items items."""
    log = Log(user.astype(np.int32), item.astype(np.int32), np.ones(len(user), np.float32))
    items = Vocabulary(pl.Series(np.arange(n_items)), "item")
    return data._replace(items=items, item_features=None, biased=log, unbiased=None)


@PARAMETERS
def test_the_same_items_in_another_order_change_nothing(model):
    data = rows_world()
    fitted = model.clone().fit(data)
    order = np.random.default_rng(0).permutation(data.n_items)
    other = with_rows(data, data.biased.user, np.argsort(order)[data.biased.item], data.n_items)
    moved = fitted.moved(order)
    np.testing.assert_allclose(
        moved.confounder(rows_of(other)), fitted.confounder(rows_of(data)), atol=1e-5, rtol=1e-4
    )
    np.testing.assert_allclose(
        moved.reconstruct(rows_of(other)), fitted.reconstruct(rows_of(data))[:, order], atol=1e-5, rtol=1e-4
    )


@PARAMETERS
def test_new_items_say_nothing(model):
    """They may make a history longer, which shortens what is said of it; its direction stays."""
    data = rows_world()
    n = data.n_items
    fitted = model.clone().fit(data)
    moved = fitted.moved(np.append(np.arange(n), [-1, -1]))
    user = np.concatenate([data.biased.user, np.repeat(np.arange(data.n_users), 2)])
    item = np.concatenate([data.biased.item, np.tile([n, n + 1], data.n_users)])
    wide = with_rows(data, user, item, n + 2)
    was, now = (m.confounder(rows_of(d)).numpy() for m, d in ((fitted, data), (moved, wide)))
    if isinstance(fitted, PoissonExposure | LogisticFactors):
        np.testing.assert_allclose(now, was, rtol=1e-3, atol=1e-4)
        new = moved.reconstruct(rows_of(wide))[:, n:]
        assert new.max() == (0 if isinstance(fitted, PoissonExposure) else new.min())
        return
    if isinstance(fitted, VAEExposure):
        bias = fitted.nets_.exposure.encoder.bias[: fitted.dim].detach().numpy()
        was, now = was - bias, now - bias
    longer = np.bincount(data.biased.user, minlength=data.n_users)
    plus = 1 if isinstance(fitted, SVDExposure) else 0
    shorter = np.sqrt((longer + plus) / (longer + 2 + plus))[:, None]
    np.testing.assert_allclose(now, was * shorter, rtol=1e-4, atol=1e-5)


def test_saved_and_restored_it_is_the_same():
    data = rows_world()
    for model in MODELS:
        moved = model.clone().fit(data).moved(np.arange(data.n_items)[::-1].copy())
        again = model.clone()
        again._restore(moved._state(), Spec.of(data))
        np.testing.assert_array_equal(
            again.confounder(rows_of(data)).numpy(), moved.confounder(rows_of(data)).numpy()
        )
