"""What every method does around its own learning: who is asked for, from what history, and when it refuses."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import numpy as np
import polars as pl
import pytest

from deconrec.checks.fixtures import confounded, one_item, rows_world
from deconrec.data.dataset import Dataset, Log, Task
from deconrec.data.split import PairsSplit, UsersSplit, ValidationPart
from deconrec.errors import DataError, DataWarning, NotFitted, ParameterError, UnknownItem
from deconrec.kernels.top_k import top_k
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.methods.mf import MF


@pytest.fixture(scope="module")
def data():
    return confounded()[0]


@pytest.fixture(scope="module")
def model(data):
    return MF(dim=2, epochs=3, l2=6e-4).fit(data)


@pytest.fixture(scope="module")
def rows_model():
    return ConcatVAE(hidden=(4,), epochs=2).fit(rows_world())


# ---------------------------------------------------------------------- fitting
def test_a_fit_that_fails_leaves_no_model_behind(data):
    model = MF(dim=2, epochs=1, error="cross-entropy").fit(data)
    with pytest.raises(DataError, match="cross-entropy"):
        model.fit(rows_world())
    with pytest.raises(NotFitted):  # and not the answers of half a model
        model.score()


def test_validation_with_other_ids_is_refused(data):
    other = dataclasses.replace(data, users=rows_world().users, items=rows_world().items)
    half = Dataset.from_frames(data.frame(data.biased).filter(pl.col("user_id") < "u020"))
    for validation in (half, ValidationPart(half)):
        with pytest.raises(DataError, match="users and items of the training data"):
            MF(epochs=1).fit(data, validation=validation)
    MF(dim=2, epochs=1).fit(data, validation=other.with_logs(data.biased.take(np.arange(9))))  # the same ids


def test_given_validation_no_row_is_held_out(data):
    parts = PairsSplit(seed=0).apply(data)
    model = MF(dim=2, epochs=1).fit(parts.train, validation=parts.holdout)
    assert model.fingerprint_ == parts.train.with_logs(parts.train.biased).fingerprint
    seen = model.seen_.toarray().astype(bool)
    for log in (parts.train.biased, parts.holdout.data.biased):
        assert seen[log.user, log.item].all()
    assert seen.sum() == len(parts.train.biased) + len(parts.holdout.data.biased)


def test_randomised_validation_rows_count_as_consumed(data):
    assert data.unbiased is not None
    part = ValidationPart(data.with_logs(data.unbiased.take(np.arange(7))), unbiased=True)
    assert MF(dim=2, epochs=1).fit(data, validation=part).unbiased_rows_ == 7
    assert MF(dim=2, epochs=1).fit(data).unbiased_rows_ == 0


def test_new_users_cannot_stop_a_method_of_pairs(data):
    parts = UsersSplit(seed=0).apply(rows_world())
    assert parts.holdout.history is not None
    model = MF(dim=2, epochs=2).fit(parts.train, validation=parts.holdout)
    assert "score" in model.history_.epochs[0]
    assert model.users_.same(parts.train.users)
    assert model.fingerprint_ != parts.train.fingerprint  # rows of its own users were held out
    rows = ConcatVAE(hidden=(4,), epochs=2).fit(parts.train, validation=parts.holdout)
    assert 0 <= rows.history_.epochs[0]["score"] <= 1


def test_a_method_never_gets_the_test_log(data, monkeypatch):
    got = []
    monkeypatch.setattr(
        MF, "_fit", lambda self, data, validation, progress: got.append((data, validation.data))
    )
    MF().fit(data.with_logs(data.biased, data.unbiased, data.biased))
    MF(population="combined").fit(data.with_logs(data.biased, data.unbiased, data.biased), validation=data)
    assert all(d.test is None for pair in got for d in pair)
    assert [train.unbiased is None for train, _ in got] == [True, False]


def test_the_hold_out_is_drawn_by_the_seed(data):
    a, b = (MF(dim=2, epochs=1, seed=s).fit(data).fingerprint_ for s in (0, 1))
    assert a != b


# ---------------------------------------------------------------------- who is asked for
def test_nobody_asked_nobody_answered(model, data):
    assert model.score([]).shape == (0, data.n_items)
    assert model.score([]).dtype == np.float32
    assert model.predict(([], [])).shape == (0,)
    table = model.recommend([], k=3)
    assert table.columns == ["user_id", "item_id", "rank", "score"]
    assert not len(table)


def test_with_a_history_everyone_is_everyone_of_the_history(model, data):
    history = pl.DataFrame(
        {"user_id": ["z", "a"], "item_id": data.items.values[[3, 4]], "rating": [1.0, 0.0]}
    )
    scores = model.score(history=history)
    assert scores.shape == (2, data.n_items)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, model.score(["a", "z"], history=history))
    assert model.recommend(history=history, k=2)["user_id"].to_list() == ["a", "a", "z", "z"]


def test_known_and_folded_in_users_in_one_question(model, data):
    known = data.users.values[0]
    history = pl.DataFrame({"user_id": ["new"], "item_id": data.items.values[:1], "rating": [1.0]})
    both = model.score([known, "new"], history=history)
    np.testing.assert_allclose(both[0], model.score([known])[0], atol=1e-6)
    np.testing.assert_allclose(both[1], model.score(history=history)[0], atol=1e-6)


def test_pairs_that_are_no_pairs(model, data):
    with pytest.raises(DataError, match="as many users as items; got 2 and 1"):
        model.predict(["u000", "u001"], [0])
    with pytest.raises(DataError, match="a tuple of 3"):
        model.predict((["u000"], [0], [1]))
    with pytest.raises(DataError, match="columns user_id and item_id"):
        model.predict(pl.DataFrame({"u": ["u000"], "i": [0]}))


def test_the_fallback_of_predict_and_score_is_one_number(model):
    items = model.items_.values
    by_pair = model.predict((["nobody"] * len(items), items), unknown="fallback")
    np.testing.assert_allclose(by_pair, model.score(["nobody"], unknown="fallback")[0], atol=1e-6)


# ---------------------------------------------------------------------- histories
def test_a_history_is_a_table_or_a_data_set(model, data):
    log = data.biased.take(data.biased.user < 3)
    table = data.frame(log)
    dataset = Dataset.from_frames(table)
    same_items = data.with_logs(log)
    by_table = model.score(history=table)
    np.testing.assert_array_equal(by_table, model.score(history=dataset))
    np.testing.assert_array_equal(by_table, model.score(history=same_items)[:3])
    assert len(model.score(history=same_items)) == data.n_users  # users without rows too


def test_a_history_is_read_on_the_model_s_scale():
    data = dataclasses.replace(rows_world(), task=Task(relevant=5.0))  # the range is what the ratings show
    model = MF(dim=2, epochs=3, l2=1e-3).fit(data)
    # 4 and 5 stars are the range of this history, and not what the model calls 0 and 1.
    history = pl.DataFrame(
        {"user_id": ["new"] * 3, "item_id": data.items.values[:3], "rating": [4.0, 5.0, 4.0]}
    )
    low = history.with_columns(rating=pl.Series([1.0, 2.0, 1.0]))
    dataset = Dataset.from_frames(history)
    np.testing.assert_array_equal(model.score(history=history), model.score(history=dataset))
    np.testing.assert_array_equal(
        model.score(history=history), model.score(history=dataclasses.replace(dataset))
    )
    assert model.score(history=history).mean() > model.score(history=low).mean()


def test_a_known_user_with_a_history_has_seen_both(model, data):
    user = data.users.values[0]
    log = data.biased.take(data.biased.user == 0)
    fresh = np.setdiff1d(np.arange(data.n_items), log.item)[:2]
    history = pl.DataFrame({"user_id": [user] * 2, "item_id": data.items.decode(fresh), "rating": [1.0, 0.0]})
    given = data.items.encode(model.recommend([user], k=data.n_items, history=history)["item_id"])
    assert not set(given) & (set(log.item) | set(fresh))
    assert len(given) == data.n_items - len(log) - 2


def test_items_of_a_history_that_the_model_does_not_know_are_not_read(model, data):
    history = pl.DataFrame({"user_id": ["new"] * 2, "item_id": [0, 7], "rating": [1.0, 1.0]})
    assert 7 not in data.items.values
    np.testing.assert_array_equal(model.score(history=history), model.score(history=history.head(1)))


def test_features_of_a_history(rows_model):
    data = rows_world()
    log = data.biased.take(data.biased.user < 2)
    with_features = data.with_logs(log)
    own = rows_model.score(data.users.values[:2], history=with_features)
    bare = rows_model.score(
        data.users.values[:2], history=dataclasses.replace(with_features, user_features=None)
    )
    table = rows_model.score(history=data.frame(log))
    np.testing.assert_array_equal(bare, table)  # without features: the training means
    assert not np.array_equal(own, bare)
    # The same rows and features as in training: the same answer as to a trained user.
    trained = ConcatVAE(hidden=(4,), epochs=2).fit(data, validation=data)
    np.testing.assert_allclose(trained.score(history=data), trained.score(), atol=1e-5)
    one = data.user_features
    narrow = dataclasses.replace(one, names=one.names[:1], values=one.values[:, :1])
    with pytest.raises(DataError, match="trained on 3 user features, but the history has 1"):
        rows_model.score(history=dataclasses.replace(with_features, user_features=narrow))


# ---------------------------------------------------------------------- recommending
def test_top_k_is_a_stable_sort():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 4, (6, 9)).astype(np.float32)  # many ties
        for k in (1, 3, 8, 9, 20):
            index, value = top_k(scores, k)
            wanted = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, 9)]
            np.testing.assert_array_equal(index, wanted)
            np.testing.assert_array_equal(value, np.take_along_axis(scores, wanted, 1))


def test_top_0_is_empty():
    index, value = top_k(np.ones((3, 4), np.float32), 0)
    assert index.shape == value.shape == (3, 0)


def test_fewer_candidates_than_k_give_fewer_rows(model, data):
    n_seen = int((model.seen_[0] != 0).sum())
    assert n_seen > 0
    assert len(model.recommend(data.users.values[:1], k=data.n_items)) == data.n_items - n_seen


def test_users_are_scored_in_blocks(model, data, monkeypatch):
    whole = model.recommend(k=3)
    monkeypatch.setattr("deconrec.base.CELLS", 3 * data.n_items)
    assert model.recommend(k=3).equals(whole)


# ---------------------------------------------------------------------- similar items
def test_similar_items_are_cosines(model, data):
    table = model.similar_items(data.items.values[:2], k=3)
    assert table["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    q = model.nets_.prediction.item.detach().numpy()
    unit = q / np.linalg.norm(q, axis=1, keepdims=True)
    cosine = unit[0] @ unit.T
    order = np.argsort(-cosine[1:])[:3] + 1
    assert table["similar_id"].head(3).to_list() == data.items.decode(order).to_list()
    np.testing.assert_allclose(table["score"].head(3), cosine[order], rtol=1e-5)


def test_similar_items_at_the_edges(model, data):
    assert len(model.similar_items(data.items.values[:1], k=1000)) == data.n_items - 1
    alone = one_item()
    assert not len(MF(dim=2, epochs=1).fit(alone).similar_items(alone.items.values))
    with pytest.raises(UnknownItem):
        model.similar_items([-1])
    with pytest.raises(ParameterError, match="'k' of similar_items"):
        model.similar_items(data.items.values[:1], k=0)


def test_a_method_without_item_vectors_says_so(rows_model):
    with pytest.raises(DataError, match="ConcatVAE has no item vectors"):
        rows_model.similar_items(rows_world().items.values[:1])


def test_a_log_of_one_row():
    data = Dataset.from_frames(pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "rating": [3.0]}))
    for model, warned in ((MF(dim=2, epochs=2), True), (ConcatVAE(hidden=(3,), epochs=2), False)):
        with pytest.warns(DataWarning, match="ONE_OUTCOME") if warned else nullcontext():
            scores = model.fit(data).score()
        assert scores.shape == (1, 1)
        assert np.isfinite(scores).all()


def test_seen_is_counted_once():
    data, _ = confounded()
    log = data.biased
    twice = data.with_logs(log, Log(log.user[:5], log.item[:5], log.rating[:5]))
    model = MF(dim=2, epochs=1, population="combined").fit(twice)
    assert set(np.unique(model.seen_.data)) == {1.0}
