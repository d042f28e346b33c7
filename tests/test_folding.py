"""New users at request time: what a history, features or both come to."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from deconrec.checks.fixtures import confounded, impressions, rows_world
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError
from deconrec.folding import new_users
from deconrec.methods import make
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.methods.mf import MF
from deconrec.methods.popularity import MostPopular
from deconrec.methods.wmf import WMF

READERS = (
    "mf:backbone=fm+dim=2+epochs=2",
    "concat-vae:hidden=3+epochs=2",
    "wmf:dim=2+iterations=2",
    "grounded-gp:dim=2+draws=2+burn=1+kept=2+affinity.dim=2",
)


@pytest.fixture(scope="module")
def data():
    return confounded()[0]


@pytest.fixture(scope="module")
def model(data):
    return MF(backbone="fm", dim=2, epochs=3).fit(data)


def table_of(data, rows=slice(None), prefix=""):
    """The features of training users as the table that a user of the library would give."""
    features = data.user_features
    ids = [prefix + str(v) for v in data.users.values[rows]]
    columns = {n: features.values[rows, j].astype(float) for j, n in enumerate(features.names)}
    return pl.DataFrame({"user_id": ids} | columns)


# ---------------------------------------------------------------------- the same as the training's
def test_features_by_name_are_those_of_training(model, data):
    table = table_of(data, prefix="new ")
    shuffled = table.select("user_id", *reversed(table.columns[1:])).reverse()
    folded = new_users(model, None, shuffled)
    assert folded.users.values.to_list() == sorted(table["user_id"])
    np.testing.assert_allclose(folded.user_features.values, data.user_features.values, rtol=1e-6)
    assert folded.user_features.names == data.user_features.names
    assert not len(folded.biased)
    assert not folded.user_features.missing.any()


def test_a_history_with_features_equals_a_data_set_with_both(model, data):
    log = data.biased.take(data.biased.user < 3)
    whole = data.with_logs(log)
    rows = data.frame(log)
    by_data_set = model.score(data.users.values[:3], history=whole)
    by_tables = model.score(data.users.values[:3], history=rows, features=table_of(data))
    np.testing.assert_allclose(by_tables, by_data_set, rtol=1e-5)
    assert not np.allclose(model.score(history=rows), by_data_set)  # without features: the means


@pytest.mark.parametrize("method", READERS)
def test_methods_that_read_features_answer_from_them_alone(method):
    world = rows_world() if method.startswith(("concat", "wmf")) else confounded()[0]
    model = make(method).fit(world)
    features = table_of(world, slice(0, 4), prefix="new ")
    scores = model.score(features=features)
    assert scores.shape == (4, world.n_items)
    assert np.isfinite(scores).all()
    assert not np.array_equal(scores[0], scores[1])
    answer = model.predict(
        (features["user_id"], [world.items.values[0]] * 4), features=features, details=True
    )
    assert answer["source"].to_list() == ["fold-in"] * 4
    np.testing.assert_allclose(answer["score"], scores[:, 0], atol=1e-5)
    top = model.recommend(features=features, k=3)
    assert top["user_id"].unique(maintain_order=True).to_list() == sorted(features["user_id"])


# ---------------------------------------------------------------------- categories, gaps, who is who
@pytest.fixture(scope="module")
def shop():
    """A model whose users have a category, a number and a flag."""
    data, _ = confounded()
    n = data.n_users
    users = pl.DataFrame(
        {
            "id": data.users.values,
            "town": ["a", "b", "a=c", None] * (n // 4),
            "age": np.linspace(20, 60, n),
            "club": [True, False] * (n // 2),
        }
    )
    given = Dataset.from_frames(data.frame(data.biased), users=users, binarize=0.5)
    return given, MF(backbone="fm", dim=2, epochs=2).fit(given)


def test_categories_become_the_columns_of_training(shop):
    given, model = shop
    assert given.user_features.names == ("town=a", "town=a=c", "town=b", "age", "club")
    new = pl.DataFrame(
        {
            "who": ["p", "q", "r", "s"],
            "club": [True, None, False, None],
            "town": ["a=c", "nowhere", None, None],
            "age": [30, 40, None, None],
            "shoes": [1, 2, 3, 4],
        }
    )
    mean = np.asarray(model.about_["features"]["user"]["means"])
    x = new_users(model, None, new).user_features
    np.testing.assert_allclose(x.values[0], [0, 1, 0, 30, 1])
    np.testing.assert_allclose(x.values[1], [0, 0, 0, 40, mean[4]])  # an unknown town is none of the known
    np.testing.assert_allclose(x.values[2], [0, 0, 0, mean[3], 0], rtol=1e-6)
    assert not x.missing[:3].any()


def test_a_row_of_gaps_has_no_features(shop):
    _, model = shop
    new = pl.DataFrame({"who": ["p", "q"], "town": ["a", None], "age": [30, None], "club": [True, None]})
    x = new_users(model, None, new).user_features
    assert x.missing.tolist() == [False, True]
    np.testing.assert_allclose(x.values[1], model.about_["features"]["user"]["means"], rtol=1e-6)


def test_a_data_set_without_one_of_the_categories(shop):
    """Its one-hot columns are fewer: what nobody has is zero."""
    given, model = shop
    few = pl.DataFrame({"user_id": ["x"] * 2, "item_id": given.items.values[:2], "rating": [1.0, 0.0]})
    users = pl.DataFrame({"id": ["x"], "town": ["b"], "age": [33.0], "club": [True]})
    history = Dataset.from_frames(few, users=users, binarize=0.5)
    np.testing.assert_allclose(new_users(model, history).user_features.values, [[0, 0, 1, 33, 1]])


def test_features_do_not_replace_what_a_known_user_taught(model, data):
    known, other = data.users.values[0], data.users.values[1]
    features = table_of(data, slice(0, 2))
    rows = pl.DataFrame({"user_id": [other], "item_id": data.items.values[:1], "rating": [1.0]})
    asked = ([known, other], [data.items.values[3]] * 2)
    answer = model.predict(asked, history=rows, features=features, details=True)
    assert answer["source"].to_list() == ["model", "fold-in"]
    assert answer["score"][0] == model.predict(([known], [data.items.values[3]]))[0]


@pytest.mark.parametrize(("one", "other"), [(7, 7), ("7", "7"), (7, "7"), ("7", 7), (7, "x")])
def test_ids_of_another_kind(model, data, one, other):
    """Numbers and text of a history and a table of features meet as they do everywhere."""
    rows = pl.DataFrame({"user_id": [one], "item_id": data.items.values[:1], "rating": [1.0]})
    features = table_of(data, slice(0, 1)).with_columns(user_id=pl.lit(other))
    folded = new_users(model, rows, features)
    assert [str(v) for v in folded.users.values] == sorted({str(one), str(other)})
    assert len(folded.biased) == 1
    assert folded.users.values[int(folded.biased.user[0])] in (7, "7")


# ---------------------------------------------------------------------- refused
def test_what_is_refused(model, data, shop):
    features = table_of(data, slice(0, 2), prefix="new ")
    for who, says in (
        (MF(dim=2, epochs=1).fit(data), "MF reads no user features"),
        (MostPopular().fit(data), "MostPopular reads no user features"),
        (
            MF(backbone="fm", dim=2, epochs=1).fit(dataclasses.replace(data, user_features=None)),
            "reads no user",
        ),
    ):
        with pytest.raises(DataError, match=says):
            who.score(features=features)
    with pytest.raises(DataError, match="need the column 'x2'"):
        model.score(features=features.drop("x2"))
    with pytest.raises(DataError, match="must hold a user once"):
        model.score(features=pl.concat([features, features]))
    with pytest.raises(DataError, match="the feature 'x1' must be a number"):
        model.score(features=features.with_columns(x1=pl.lit("tall")))
    with pytest.raises(DataError, match="need the column 'town'"):
        shop[1].score(features=pl.DataFrame({"id": ["p"], "age": [1.0], "club": [True]}))
    clicks = impressions()
    with pytest.raises(DataError, match="it folds no one in"):
        make("esmm:dim=2+epochs=1").fit(clicks).predict(
            clicks.frame(clicks.impressions.log), features=features
        )


def test_an_earlier_model_takes_features_by_position():
    from pathlib import Path

    from deconrec.saving import load_model

    old = load_model(Path(__file__).parent / "fixtures" / "models" / "format-1" / "mf-features" / "model")
    data, _ = confounded()
    table = table_of(data, slice(0, 3), prefix="new ")
    x = new_users(old, None, table).user_features
    np.testing.assert_allclose(x.values, data.user_features.values[:3], rtol=1e-6)
    with pytest.raises(DataError, match="was trained on 3 user features; the table has 2"):
        old.score(features=table.drop("x3"))


# ---------------------------------------------------------------------- bounded
def test_many_users_are_folded_in_a_few_at_a_time(model, data, monkeypatch):
    rows = pl.concat(
        [data.frame(data.biased).with_columns(user_id=pl.lit(f"{c} ") + pl.col("user_id")) for c in "abc"]
    )
    asked = rows.select("user_id", "item_id")
    whole = model.predict(asked, history=rows)
    sizes, fold = [], MF._fold_in

    def noted(self, history):
        sizes.append(history.n_users)
        return fold(self, history)

    monkeypatch.setattr(MF, "_fold_in", noted)
    monkeypatch.setattr("deconrec.base.CELLS", 10 * data.n_items)
    np.testing.assert_allclose(model.predict(asked, history=rows), whole, rtol=1e-6)
    assert max(sizes) <= 10
    assert sum(sizes) == 3 * data.n_users


@pytest.mark.parametrize("cls", [ConcatVAE, WMF])
def test_a_training_user_without_news_is_itself(cls):
    """Its own rows and features as a new user's: the scores that it had."""
    data = rows_world()
    model = (cls(hidden=(3,), epochs=2) if cls is ConcatVAE else cls(dim=2, iterations=2)).fit(
        data, validation=data
    )
    rows = data.frame(data.biased).with_columns(user_id=pl.lit("n") + pl.col("user_id").cast(pl.String))
    table = table_of(data, prefix="n")
    ids = [f"n{v}" for v in data.users.values]
    np.testing.assert_allclose(
        model.score(ids, history=rows, features=table), model.score(), atol=1e-4 if cls is WMF else 1e-5
    )
