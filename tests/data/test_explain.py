"""A table that cannot be read as asked: the message names the object, what was found and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.explain import delimiter_hint, not_among, repeated_column
from deconrec.errors import DataError, ParameterError

HEAD = "user_id,item_id,rating\n"


def reading(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        dc.Dataset.from_frames(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty. A header and at least one row were expected."),
        ("user_id,item_id,rating\nann,Übung,3\n".encode("latin-1"), "it is not UTF-8"),
        ((HEAD + "ann,a,3\n").encode("utf-16"), "it is UTF-16, and UTF-8 was expected"),
        (
            (HEAD + "ann,a,3\nbob,Love, Actually,4\n").encode(),
            "line 3 has 4 fields, and the header has 3 fields (user_id, item_id, rating)",
        ),
        (
            (HEAD + '"ann\nlee",a,3\nbob,b,1,4\n').encode(),
            "line 4 has 4 fields, and the header has 3 fields (user_id, item_id, rating)",
        ),
        (b"user_id,item_id,rating,rating\na,b,1,2\n", "must name each column once; got 'rating' twice"),
        (b"user_id;item_id;rating\na;b;1\n", "separated by a semicolon: say so with --delimiter ';'"),
        (b"user_id\titem_id\trating\na\tb\t1\n", "separated by a tab: say so with --delimiter $'\\t'"),
        (b"User,item_id,rating\na,b,1\n", "'user_id' not among ['User', 'item_id', 'rating']"),
        (b"User_Id,item_id,rating\na,b,1\n", "'user_id' (did you mean 'User_Id'?) not among"),
        (b"user_id,item_id,clicked,bought\na,b,1,\n", "is a log of impressions"),
        (b"user_id,item_id\na,b\n", "alone has no ratings"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_wrong_with_a_csv(tmp_path: Path, content: bytes, says: str, packed: bool) -> None:
    path = tmp_path / ("log.csv.gz" if packed else "log.csv")
    path.write_bytes(gzip.compress(content) if packed and content else content)
    said = reading(path)
    assert says in said
    assert "the biased log" in said


def test_a_hint_needs_one_column_and_another_delimiter():
    assert delimiter_hint(["a;b"], ";") == ""
    assert delimiter_hint(["a"], ",") == ""
    assert delimiter_hint(["a;b", "c"], ",") == ""
    assert 'delimiter = "\\t"' in delimiter_hint(["a\tb"], ",")


def test_close_names_are_offered_and_far_ones_are_not():
    assert not_among(["visiter"], ["visitor", "sku"]).startswith("'visiter' (did you mean 'visitor'?) not")
    assert not_among(["rating"], ["visitor", "sku"]).startswith("'rating' not among ['visitor', 'sku']")
    assert repeated_column(["a", "b", "a"]) == "a"
    assert repeated_column(["a", "b"]) is None


def test_a_delimiter_is_taken_in_python_and_reaches_every_table(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id;item_id;rating\nann;x, y;3\nbob;z;4\n")
    (tmp_path / "users.csv").write_text("id;age\nann;31\nbob;40\n")
    data = dc.Dataset.from_frames(tmp_path / "log.csv", users=tmp_path / "users.csv", delimiter=";")
    assert data.items.values.to_list() == ["x, y", "z"]
    assert data.user_features is not None
    assert data.user_features.values.ravel().tolist() == [31.0, 40.0]
    (tmp_path / "comma.csv").write_text(HEAD + "ann,x,3\nbob,z,4\n")
    said = reading(tmp_path / "comma.csv", users=tmp_path / "users.csv")
    assert "the users table: " in said
    assert "separated by a semicolon" in said


# ------------------------------------------------------------------ rows without a rating
@pytest.mark.parametrize("gap", ["", "NA", "n/a", " NaN ", "null"])
def test_rows_without_a_rating_are_left_out_where_asked(tmp_path: Path, gap: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEAD + f"ann,a,3\nbob,b,{gap}\ncy,c,4.5\nann,b,{gap}\n")
    data = dc.Dataset.from_frames(path, unrated="drop")
    assert data.biased.rating.tolist() == [3.0, 4.5]
    assert data.users.values.to_list() == ["ann", "cy"]  # nobody is known by a rating that is not there
    assert data.notes == ("2 rows of the biased log without a rating were left out (unrated = 'drop').",)
    assert "rating" in reading(path)


def test_words_that_are_no_gaps_stay_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEAD + "ann,a,3\nbob,b,good\ncy,c,\n")
    assert "must hold numbers; got String (first: 'good')" in reading(path, unrated="drop")


def test_infinite_ratings_stay_an_error_and_frames_may_have_gaps():
    log = pl.DataFrame({"user_id": ["a", "b", "c"], "item_id": [1, 2, 3], "rating": [1.0, None, np.nan]})
    assert dc.Dataset.from_frames(log, unrated="drop").biased.rating.tolist() == [1.0]
    with pytest.raises(DataError, match="unrated='drop'"):
        dc.Dataset.from_frames(log)
    with pytest.raises(DataError, match="1 of 3 are null, NaN or infinite"):
        dc.Dataset.from_frames(log.with_columns(rating=pl.Series([1.0, 2.0, np.inf])), unrated="drop")
    with pytest.raises(DataError, match="at least one row"):
        dc.Dataset.from_frames(log.tail(2), unrated="drop")
    with pytest.raises(ParameterError, match="'error' or 'drop'"):
        dc.Dataset.from_frames(log, unrated="ignore")  # type: ignore[arg-type]  # refused: that is the test


def test_a_data_file_says_that_rows_without_a_rating_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD + "ann,a,3\nbob,b,\ncy,c,4\n")
    (tmp_path / "data.toml").write_text('[biased]\npath = "log.csv"\n[log]\nunrated = "drop"\n')
    assert len(dc.load(tmp_path / "data.toml").biased) == 2
    (tmp_path / "data.toml").write_text('[biased]\npath = "log.csv"\n[log]\nunrated = "skip"\n')
    with pytest.raises(DataError, match=r"'log\.unrated' must be 'error' or 'drop'; got 'skip'"):
        dc.load(tmp_path / "data.toml")


# ------------------------------------------------------------------ logs that say nothing
def test_a_log_of_ones_is_noted():
    pairs = {"user_id": np.repeat(np.arange(5), 4), "item_id": np.tile(np.arange(4), 5)}
    ones = dc.Dataset.from_frames(pl.DataFrame(pairs | {"rating": [1] * 20}))
    assert any(n.startswith("[ONE_OUTCOME] Every rating of the biased log is 1:") for n in ones.notes)
    high = pl.DataFrame(pairs | {"rating": [4, 5] * 10})
    liked = dc.Dataset.from_frames(high, rating_range=(1, 5), binarize=4)
    assert any(n.startswith("[ONE_OUTCOME] Every outcome of the biased log is the same") for n in liked.notes)
    assert not dc.Dataset.from_frames(high).notes
