"""The data set: construction from every make of table, immutability, fingerprint."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from deconrec.data.dataset import Dataset, Features, Log, OutcomeScale, Task
from deconrec.errors import DataError, ParameterError

ROWS = {
    "user_id": ["ann", "ann", "bob", "cy", "cy"],
    "item_id": [30, 10, 10, 20, 30],
    "rating": [5.0, 1.0, 0.0, 3.0, 2.5],
}


@pytest.fixture
def frame():
    return pl.DataFrame(ROWS)


@pytest.fixture
def data(frame):
    return Dataset.from_frames(frame)


def raw_rows(data, log):
    return sorted(data.frame(log).select("user_id", "item_id", "rating").rows())


EXPECTED = sorted(zip(*ROWS.values(), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda f: f,
        lambda f: f.lazy(),
        lambda f: f.to_pandas(),
        lambda f: f.to_pandas().assign(user_id=lambda t: t.user_id.astype(object)),
        lambda f: f.to_arrow(),
        lambda f: f.to_arrow().to_batches()[0],
    ],
    ids=["polars", "lazy", "pandas", "pandas-object", "arrow", "batch"],
)
def test_any_table_gives_the_same_data(make, frame, data):
    other = Dataset.from_frames(make(frame))
    assert raw_rows(other, other.biased) == EXPECTED
    assert other.fingerprint == data.fingerprint
    assert other.shape == (3, 3)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "csv.gz"])
@pytest.mark.parametrize("as_text", [True, False])
def test_any_file_gives_the_same_data(suffix, as_text, frame, data, tmp_path):
    path = tmp_path / f"log.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    elif suffix == "csv":
        frame.write_csv(path)
    else:
        import gzip

        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    assert Dataset.from_frames(str(path) if as_text else path).fingerprint == data.fingerprint


def test_pandas_without_pyarrow(frame, data, monkeypatch):
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise ImportError("pyarrow")

    table = frame.to_pandas()
    monkeypatch.setattr(pl, "from_pandas", refuse)
    assert Dataset.from_frames(table).fingerprint == data.fingerprint
    assert data.users.encode(table["user_id"]).tolist() == [0, 0, 1, 2, 2]
    assert len(asked) == 2


def test_a_zero_rating_is_an_observation(data):
    pattern = data.biased.pattern(data.shape)
    assert pattern.nnz == 5
    assert pattern[data.users.encode("bob")[0], data.items.encode(10)[0]] == 1
    assert data.density == 5 / 9


def test_csr_keeps_explicit_zeros_and_empty_rows():
    # User 1 has no entry; (2, 0) is stored as zero.
    matrix = sparse.csr_matrix((np.array([4.0, 0.0]), (np.array([0, 2]), np.array([1, 0]))), shape=(3, 2))
    data = Dataset.from_csr(matrix, user_ids=["z", "y", "x"], binarize=3)
    assert data.shape == (3, 2)
    assert sorted(data.frame(data.biased).rows()) == [("x", 0, 0.0), ("z", 1, 4.0)]
    assert data.task.binarize == 3
    assert data.notes == ("1 users have no row in any log.",)
    assert matrix.nnz == 2


def test_csr_arrays_duplicates_and_an_unbiased_matrix():
    twice = sparse.coo_array((np.array([1.0, 3.0]), (np.array([0, 0]), np.array([0, 0]))), shape=(2, 2))
    with pytest.raises(DataError, match="repeat"):
        Dataset.from_csr(twice)
    data = Dataset.from_csr(twice, unbiased=sparse.csr_array(np.eye(2)), duplicates="mean")
    assert data.biased.rating.tolist() == [2.0]
    assert raw_rows(data, data.unbiased) == [(0, 0, 1.0), (1, 1, 1.0)]


@pytest.mark.parametrize(
    ("matrix", "options", "says"),
    [
        (np.eye(2), {}, "scipy sparse"),
        (None, {}, "scipy sparse"),
        (sparse.eye(2), {"user_ids": ["a"]}, "'user_ids' must have 2 ids"),
        (sparse.eye(2), {"item_ids": ["a", "a"]}, "'item_ids' must be distinct"),
        (sparse.eye(2), {"unbiased": sparse.eye(3)}, r"shape \(2, 2\)"),
    ],
)
def test_csr_that_does_not_fit(matrix, options, says):
    with pytest.raises(DataError, match=says):
        Dataset.from_csr(matrix, **options)


def test_arrays_are_read_only_and_the_callers_stay_writeable():
    user, item, rating = np.array([0, 1], np.int32), np.array([1, 0], np.int32), np.array([1, 2], np.float32)
    stamp = np.array([7, 8])
    log = Log(user, item, rating, stamp)
    for own, given in ((log.user, user), (log.item, item), (log.rating, rating), (log.timestamp, stamp)):
        assert not own.flags.writeable
        assert not np.shares_memory(own, given)
        with pytest.raises(ValueError, match="read-only"):
            own[0] = 9
        given[0] = 5  # the caller's array is theirs, and changes nothing here
    assert log.rating.tolist() == [1, 2]


def test_features_are_read_only():
    values = np.ones((2, 1), np.float32)
    features = Features(("a",), values, np.zeros(2, bool))
    values[0] = 4
    assert features.values.tolist() == [[1], [1]]
    assert not features.values.flags.writeable
    assert not features.missing.flags.writeable


def test_the_callers_table_is_unchanged():
    table = pd.DataFrame(ROWS)
    before = table.copy()
    Dataset.from_frames(table)
    pd.testing.assert_frame_equal(table, before)


def test_fingerprint_ignores_the_order_of_rows(frame, data):
    users = pl.DataFrame({"id": ["ann", "bob", "cy"], "age": [0.1, 0.2, 0.7], "sex": ["f", "m", "m"]})
    one = Dataset.from_frames(frame, users=users)
    two = Dataset.from_frames(frame.sample(fraction=1, shuffle=True, seed=1), users=users.reverse())
    assert one.fingerprint == two.fingerprint != data.fingerprint
    assert len(one.fingerprint) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"rating": [5.0, 1.0, 0.0, 3.0, 2.0]},
        {"user_id": ["ann", "ann", "bob", "cy", "di"]},
        {"item_id": [30, 10, 10, 20, 31]},
        {"timestamp": [1, 2, 3, 4, 5]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_sees_a_change(change, data):
    assert Dataset.from_frames(pl.DataFrame(ROWS | change)).fingerprint != data.fingerprint


def test_fingerprint_sees_features_but_not_what_fills_their_gaps(frame):
    def digest(rows):
        return Dataset.from_frames(
            frame, users=pl.DataFrame(rows, schema=["id", "age"], orient="row")
        ).fingerprint

    assert digest([("ann", 1)]) == digest([("ann", 1), ("bob", None)])
    assert (
        len({digest(rows) for rows in ([("ann", 1)], [("ann", 2)], [("bob", 1)], [("ann", 1), ("bob", 1)])})
        == 4
    )


def test_fingerprint_sees_task_role_and_kind_of_id(frame, data):
    digests = {
        data.fingerprint,
        Dataset.from_frames(frame, binarize=3).fingerprint,
        Dataset.from_frames(frame, unbiased=frame).fingerprint,
        Dataset.from_frames(frame, test=frame).fingerprint,
        Dataset.from_frames(frame.with_columns(pl.col("item_id").cast(pl.String))).fingerprint,
    }
    assert len(digests) == 5
    assert (
        Dataset.from_frames(frame, binarize=3).fingerprint
        == Dataset.from_frames(frame, binarize=3.0).fingerprint
    )


def test_taking_rows_and_sorting_by_user():
    log = Log(np.array([1, 0, 1]), np.array([2, 1, 0]), np.array([3, 4, 5]), np.array([10, 11, 12]))
    part = log.take(np.array([True, False, True]))
    assert (part.user.tolist(), part.timestamp.tolist()) == ([1, 1], [10, 12])
    indptr, order = log.by_user(3)
    assert indptr.tolist() == [0, 1, 3, 3]
    assert order.tolist() == [1, 2, 0]
    empty = log.take(np.zeros(0, int))
    assert empty.pattern((2, 3)).nnz == 0


def test_a_log_of_unequal_columns():
    with pytest.raises(DataError, match="2, 1, 2"):
        Log(np.array([0, 1]), np.array([0]), np.array([1, 1]))
    with pytest.raises(DataError, match="timestamps"):
        Log(np.array([0]), np.array([0]), np.array([1]), np.array([1, 2]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"protocol": "rows"}, "'pairs' or 'users'"),
        ({"unbiased_split": (0.5, 0.6, 0.2)}, "three shares"),
        ({"unbiased_split": (0.5, 0.5)}, "three shares"),
        ({"unbiased_split": (-0.1, 0.5, 0.5)}, "three shares"),
        ({"rating_range": (5, 1)}, "low < high"),
        ({"binarize": float("nan")}, "'binarize'"),
        ({"relevant": float("inf")}, "'relevant'"),
    ],
)
def test_a_task_that_cannot_be(options, says):
    with pytest.raises(ParameterError, match=says):
        Task(**options)


def test_positives_need_a_rule():
    ratings = np.array([3, 4, 5], np.float32)
    assert Task(binarize=4).positive(ratings).tolist() == [False, True, True]
    assert Task(relevant=5).positive(ratings).tolist() == [False, False, True]
    with pytest.raises(DataError, match="binarize"):
        Task().positive(ratings)


def test_outcome_scales_go_both_ways(frame):
    plain = Dataset.from_frames(frame)
    assert (plain.outcome_scale.low, plain.outcome_scale.high) == (0, 5)
    inward = plain.outcome(plain.biased)
    np.testing.assert_allclose(plain.outcome_scale.outward(inward), plain.biased.rating, rtol=1e-6)
    binary = Dataset.from_frames(frame, binarize=3)
    assert sorted(binary.outcome(binary.biased).tolist()) == [0, 0, 0, 1, 1]
    assert binary.outcome_scale == OutcomeScale(0.0, 1.0, 3.0, True)


def test_a_part_of_the_rows_keeps_the_scale(data):
    low = data.with_logs(data.biased.take(data.biased.rating < 3))
    assert low.outcome_scale == data.outcome_scale
    assert data.with_task(binarize=3).outcome_scale != data.outcome_scale


def test_pairs_in_both_logs(frame):
    unbiased = pl.DataFrame({"user_id": ["ann", "bob"], "item_id": [10, 30], "rating": [2.0, 2.0]})
    data = Dataset.from_frames(frame, unbiased=unbiased)
    assert data.frame(data.unbiased).filter(data.in_biased)["user_id"].to_list() == ["ann"]
    assert "1 pairs of the unbiased log (50.0%)" in data.notes[-1]
    assert Dataset.from_frames(frame).in_biased.shape == (0,)


def test_without_the_test_nothing_of_it_is_left(frame):
    data = Dataset.from_frames(frame, test=frame)
    assert data.without_test().test is None
    assert data.test is not None
    assert "5 test rows" in repr(data)
    assert "test rows" not in repr(data.without_test())


def test_a_context_of_another_kind_is_refused():
    with pytest.raises(DataError, match="must be a Context of impressions; got ndarray"):
        Log(np.zeros(2), np.zeros(2), np.ones(2), None, np.full(2, 0.5))
