"""Known propensities: an array, a table, and what cannot be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from deconrec.errors import DataError, ParameterError
from deconrec.methods.ips import IPS
from deconrec.propensity import Known
from deconrec.saving import load_model
from manual.batches import SHAPE, batches, dense, tiny

P = np.random.default_rng(0).uniform(0.1, 1, SHAPE)


def table(rows=slice(None)):
    log = tiny().biased
    u, i = log.user[rows], log.item[rows]
    return pl.DataFrame({"user_id": u, "item_id": i, "propensity": P[u, i]})


def test_an_array_answers_for_every_pair():
    (batch,) = batches(tiny())
    fitted = Known(values=P).fit(tiny())
    np.testing.assert_allclose(fitted(batch.space).reshape(SHAPE), P, rtol=1e-6)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_table_answers_for_the_logged_pairs(shuffled):
    rows = table().sample(fraction=1.0, shuffle=True, seed=1) if shuffled else table()
    (batch,) = batches(tiny())
    fitted = Known(values=rows).fit(tiny())
    o = batch.observed
    np.testing.assert_allclose(fitted(o), P[o.user.numpy(), o.item.numpy()], rtol=1e-6)
    with pytest.raises(DataError, match="logged pairs only"):
        fitted(batch.space)


def test_rows_of_unknown_ids_in_a_table_are_not_used():
    more = pl.concat(
        [table(), pl.DataFrame({"user_id": [99], "item_id": [0], "propensity": [0.5]})],
        how="vertical_relaxed",
    )
    assert len(Known(values=more).fit(tiny()).p_) == len(tiny().biased)


def test_the_floor():
    (batch,) = batches(tiny())
    fitted = Known(values=P, floor=0.5).fit(tiny())
    np.testing.assert_allclose(fitted(batch.space).reshape(SHAPE), np.maximum(P, 0.5), rtol=1e-6)
    o, *_ = dense(tiny())
    assert fitted.overlap_.floored == ((P < 0.5) & (o == 1)).sum()


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        (None, ParameterError, "'values' of Known must be an array or a table"),
        (P.T, DataError, r"must be \(7, 5\) \(users, items\); got \(5, 7\)"),
        (np.zeros(SHAPE), DataError, r"must lie in \(0, 1\]"),
        (np.full(SHAPE, 1.5), DataError, r"must lie in \(0, 1\]"),
        (np.full(SHAPE, np.nan), DataError, r"must lie in \(0, 1\]"),
        (table().drop("propensity"), DataError, "needs the columns"),
        (table(slice(1, None)), DataError, "must hold every biased row; 1 of"),
    ],
)
def test_what_cannot_be(values, error, says):
    with pytest.raises(error, match=says):
        Known(values=values).fit(tiny())


@pytest.mark.parametrize("values", [P, table()], ids=["array", "table"])
def test_a_saved_model_keeps_its_known_propensities(values, tmp_path):
    data = tiny()
    model = IPS(dim=2, epochs=1, propensity=Known(values=values)).fit(data, validation=data)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert np.array_equal(again.score(), model.score())
    (batch,) = batches(data)
    np.testing.assert_array_equal(again.propensity_(batch.observed), model.propensity_(batch.observed))
