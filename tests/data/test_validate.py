"""Each rule for doubtful rows, with the words of its message."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from deconrec.data.dataset import Dataset
from deconrec.data.tables import read_table
from deconrec.data.validate import MAX_CATEGORIES
from deconrec.errors import DataError, MissingData, ParameterError, UnknownName


def log(users=("a", "b"), items=(1, 2), ratings=(1.0, 2.0), **more):
    return pl.DataFrame({"user_id": users, "item_id": items, "rating": ratings, **more}, strict=False)


def raw(data, part):
    return sorted(data.frame(part).rows())


# ------------------------------------------------------------------ columns and ratings
@pytest.mark.parametrize(
    ("table", "says"),
    [
        (log().drop("rating"), "'rating' not among"),
        (log().rename({"user_id": "u"}), "columns="),
        (log(ratings=[1.0, None]), "1 of 2 are null"),
        (log(ratings=[1.0, float("nan")]), "user 'b', item 2"),
        (log(ratings=[1.0, float("inf")]), "finite"),
        (log(ratings=[1.0, 1e300]), "finite"),
        (log(ratings=["good", "bad"]), "must hold numbers; got String"),
        (log(users=["a", None]), "user ids must not be empty"),
        (log(items=[1.5, 2.0]), "item ids"),
        (log().clear(), "at least one row"),
        ([1, 2], "must be a polars, pandas or Arrow table"),
        (pl.Series([1]), "table"),
        (pd.DataFrame({"user_id": [1, "b"], "item_id": [1, 2], "rating": [1, 2]}), "one kind of value"),
        (pd.DataFrame({"user_id": [1, None], "item_id": [1, 2], "rating": [1, 2]}), "null"),
    ],
)
def test_a_log_that_cannot_be(table, says):
    with pytest.raises(DataError, match=says):
        Dataset.from_frames(table)


def test_which_log_is_at_fault_is_named():
    for role in ("unbiased", "test"):
        with pytest.raises(DataError, match=f"the {role} log"):
            Dataset.from_frames(log(), **{role: log(ratings=[1.0, None])})


def test_ratings_out_of_range():
    with pytest.raises(DataError, match=r"\[1, 5\]; 1 of 2 do not \(first: 7 of user 'b'"):
        Dataset.from_frames(log(ratings=[5, 7]), rating_range=(1, 5))
    # Ends that 32 bits cannot hold exactly are still inside.
    ends = Dataset.from_frames(log(ratings=[0.1, 0.3]), rating_range=(0.1, 0.3))
    assert len(ends.biased) == 2


def test_booleans_are_ratings():
    assert Dataset.from_frames(log(ratings=[True, False])).biased.rating.tolist() == [1, 0]


def test_named_columns():
    table = (
        log().rename({"user_id": "who", "item_id": "what", "rating": "stars"}).with_columns(when=pl.lit(3))
    )
    names = {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}
    assert Dataset.from_frames(table, columns=names).biased.timestamp.tolist() == [3, 3]
    with pytest.raises(UnknownName, match="did you mean 'rating'"):
        Dataset.from_frames(table, columns={"ratng": "stars"})
    with pytest.raises(DataError, match="'wehn' was named as the timestamp"):
        Dataset.from_frames(table, columns=names | {"timestamp": "wehn"})


# ------------------------------------------------------------------ repeated pairs
REPEATED = log(users=["a", "b", "a", "a"], items=[1, 2, 1, 2], ratings=[1.0, 2.0, 4.0, 3.0])


def test_a_repeated_pair_is_an_error():
    with pytest.raises(
        DataError, match=r"1 of 4 rows repeat one \(first: user 'a', item 1\).*duplicates='last'"
    ):
        Dataset.from_frames(REPEATED)
    with pytest.raises(ParameterError, match="'duplicates'"):
        Dataset.from_frames(REPEATED, duplicates="first")


def test_the_last_repeated_pair():
    data = Dataset.from_frames(REPEATED, duplicates="last")
    assert raw(data, data.biased) == [("a", 1, 4.0), ("a", 2, 3.0), ("b", 2, 2.0)]
    assert data.notes == ("1 repeated pairs of the biased log were merged (duplicates = 'last').",)
    assert data.duplicates == "last"
    stamped = REPEATED.with_columns(timestamp=pl.Series([9, 1, 2, 3]))
    data = Dataset.from_frames(stamped, duplicates="last")
    assert raw(data, data.biased) == [("a", 1, 1.0, 9), ("a", 2, 3.0, 3), ("b", 2, 2.0, 1)]


def test_the_mean_of_repeated_pairs():
    stamped = REPEATED.with_columns(timestamp=pl.Series([9, 1, 2, 3]))
    data = Dataset.from_frames(stamped, duplicates="mean")
    assert raw(data, data.biased) == [("a", 1, 2.5, 9), ("a", 2, 3.0, 3), ("b", 2, 2.0, 1)]


def test_a_mean_does_not_depend_on_the_order_of_rows():
    ratings = np.random.default_rng(0).random(99)
    table = log(users=["a"] * 99, items=[1] * 99, ratings=ratings)
    one, two = (Dataset.from_frames(t, duplicates="mean") for t in (table, table.reverse()))
    assert one.fingerprint == two.fingerprint
    assert one.biased.rating[0] == pytest.approx(ratings.mean(), rel=1e-6)


# ------------------------------------------------------------------ ids
def test_one_and_its_text_are_one_id():
    data = Dataset.from_frames(log(users=[1, 2]), unbiased=log(users=["1", "x"], ratings=[3, 3]))
    assert data.users.values.to_list() == ["1", "2", "x"]
    assert int(data.in_biased.sum()) == 1
    assert "1 users of the unbiased log have no row in the biased log." in data.notes


def test_ids_of_a_csv_keep_their_text(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,rating\n007,5,1\n8,6,2\n")
    data = Dataset.from_frames(path)
    assert data.users.values.to_list() == ["007", "8"]
    assert data.items.values.to_list() == [5, 6]
    path.write_text("user_id,item_id,rating\n7.0,5,1\n8.0,6,2\n")
    assert Dataset.from_frames(path).users.values.to_list() == [7, 8]


def test_ids_beyond_a_float_come_back_from_a_csv(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,rating\n{2**53 + 1},{2**70},1\n")
    data = Dataset.from_frames(path)
    assert data.frame(data.biased).rows() == [(2**53 + 1, str(2**70), 1.0)]


def test_late_rows_decide_about_types_too(tmp_path):
    path = tmp_path / "log.csv"
    rows = "".join(f"{k},1,2\n" for k in range(12_000)) + "x,1,2.5\n"
    path.write_text("user_id,item_id,rating\n" + rows)
    data = Dataset.from_frames(path)
    assert data.users.is_text
    assert data.n_users == 12_001
    assert data.biased.rating[-1] == 2.5


# ------------------------------------------------------------------ timestamps
@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([3, 4], [3, 4]),
        ([3.0, 4.0], [3, 4]),
        ([datetime(1970, 1, 1, 0, 0, 1), datetime(1970, 1, 2)], [1_000_000, 86_400_000_000]),
        ([date(1970, 1, 1), date(1970, 1, 2)], [0, 86_400_000_000]),
        (["1970-01-01T00:00:01", "1970-01-02T00:00:00"], [1_000_000, 86_400_000_000]),
    ],
)
def test_timestamps(stamps, expected):
    assert Dataset.from_frames(log(timestamp=stamps)).biased.timestamp.tolist() == expected


@pytest.mark.parametrize(
    ("stamps", "says"),
    [
        ([1, None], "1 of 2 are"),
        ([float("nan"), 1.0], "empty"),
        (["soon", "later"], "ISO"),
        ([True, False], "Bool"),
    ],
)
def test_timestamps_that_are_none(stamps, says):
    with pytest.raises(DataError, match=says):
        Dataset.from_frames(log(timestamp=stamps))


# ------------------------------------------------------------------ features
def test_features_numbers_booleans_categories_and_gaps():
    users = pl.DataFrame(
        {
            "id": ["b", "a", "z"],
            "age": [10, 30, None],
            "member": [True, False, True],
            "town": ["x", None, "y"],
        }
    )
    data = Dataset.from_frames(log(users=["a", "c"]), users=users)
    features = data.user_features
    assert data.users.values.to_list() == ["a", "b", "c", "z"]
    assert features.names == ("age", "member", "town=x", "town=y")
    assert features.missing.tolist() == [False, False, True, False]
    third = 1 / 3
    np.testing.assert_allclose(
        features.values,
        [[30, 0, 0, 0], [10, 1, 1, 0], [20, 2 * third, third, third], [20, 1, 0, 1]],
        rtol=1e-6,
    )
    assert "2 users have no row in any log." in data.notes
    assert "1 users have a gap in a numeric feature: the column mean is used." in data.notes
    assert "1 users have no features: the column means are used." in data.notes


def test_an_empty_row_of_features_is_a_missing_one():
    users = pl.DataFrame({"id": ["a", "b"], "age": [10, None], "town": ["x", None]})
    features = Dataset.from_frames(log(), users=users).user_features
    assert features.missing.tolist() == [False, True]
    assert features.values[1].tolist() == [10, 1]


def test_a_table_of_ids_alone_widens_the_vocabulary():
    data = Dataset.from_frames(log(), items=pl.DataFrame({"item_id": [1, 5]}))
    assert data.items.values.to_list() == [1, 2, 5]
    assert data.item_features is None


def test_the_ids_of_features_are_those_of_the_log():
    numbers = log(users=[1, 2])
    as_text = pl.DataFrame({"id": ["2", "1"], "age": [20, 10]})
    assert Dataset.from_frames(numbers, users=as_text).user_features.values.tolist() == [[10], [20]]
    as_numbers = pl.DataFrame({"id": [2, 1], "age": [20, 10]})
    texts = log(users=["1", "2"])
    assert Dataset.from_frames(texts, users=as_numbers).user_features.values.tolist() == [[10], [20]]


@pytest.mark.parametrize(
    ("users", "says"),
    [
        (pl.DataFrame({"id": ["a", "a"], "x": [1, 2]}), "an id once; 'a'"),
        (pl.DataFrame(), "no columns"),
        (pl.DataFrame({"id": ["a"], "x": [[1]]}), "numbers, booleans or categories; got List"),
        (pl.DataFrame({"id": ["a"], "x": [date(2020, 1, 1)]}), "got Date"),
        (pl.DataFrame({"id": ["a"], "x": pl.Series([None], dtype=pl.String)}), "must hold a value"),
        (
            pl.DataFrame({"id": ["a", *map(str, range(MAX_CATEGORIES))]}).with_columns(
                x=pl.col("id").cast(pl.String)
            ),
            "at most 200 categories; got 201",
        ),
        (pl.DataFrame({"id": [None], "x": [1]}), "user ids must"),
    ],
)
def test_features_that_cannot_be(users, says):
    with pytest.raises(DataError, match=says):
        Dataset.from_frames(log(), users=users)


def test_text_ids_of_features_for_a_log_of_numbers():
    with pytest.raises(DataError, match="whole numbers as in the logs"):
        Dataset.from_frames(log(users=[1, 2]), users=pl.DataFrame({"id": ["x"], "age": [1]}))


# ------------------------------------------------------------------ files
def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingData, match="no such file"):
        Dataset.from_frames(tmp_path / "log.csv")
    with pytest.raises(MissingData, match="a folder"):
        Dataset.from_frames(tmp_path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="cannot be read as CSV"):
        Dataset.from_frames(tmp_path / "empty.csv")
    (tmp_path / "log.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        Dataset.from_frames(tmp_path / "log.parquet")


def test_the_first_column_of_a_features_file_is_the_id(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("key;size\n007;1.5\n")
    table = read_table(path, "users", delimiter=";", ids=None)
    assert table.rows() == [("007", 1.5)]
