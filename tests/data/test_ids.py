"""Raw ids in, raw ids out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconrec.data.ids import Vocabulary, as_series, normalise_ids
from deconrec.errors import DataError

WIDE = st.integers(-(2**63), 2**63 - 1)
NARROW = st.integers(-50, 50)


def vocabulary(values, kind="user"):
    return Vocabulary(pl.Series(values), kind)


@given(st.lists(st.one_of(WIDE, NARROW), min_size=1, max_size=30) | st.lists(NARROW, min_size=1, max_size=30))
def test_integers_come_back(values):
    v = vocabulary(pl.Series(values, dtype=pl.Int64))
    codes = v.encode(values)
    assert codes.dtype == np.int32
    assert v.decode(codes).to_list() == values
    assert v.values.to_list() == sorted(set(values))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=30))
def test_strings_come_back(values):
    v = vocabulary(values)
    assert v.decode(v.encode(values)).to_list() == values
    assert len(v) == len(set(values))


@given(st.sets(NARROW, min_size=1), st.lists(st.one_of(NARROW, WIDE)))
def test_an_unknown_integer_is_minus_one(known, asked):
    codes = vocabulary(sorted(known)).encode(pl.Series(asked, dtype=pl.Int64))
    assert [c >= 0 for c in codes] == [a in known for a in asked]


def test_sparse_and_dense_integers_take_both_ways_to_the_same_codes():
    near, far = [5, 7, 9], [-(2**62), 7, 2**63 - 1]
    assert vocabulary(near)._table is not None
    assert vocabulary(far)._table is None
    asked = [7, 8, 2**63 - 1, -(2**63)]
    assert vocabulary(near).encode(asked).tolist() == [1, -1, -1, -1]
    assert vocabulary(far).encode(asked).tolist() == [1, -1, 2, -1]


def test_an_unknown_string_is_minus_one():
    assert vocabulary(["a", "c"]).encode(["c", "b", "a"]).tolist() == [1, -1, 0]


def test_the_other_kind_of_id_is_converted():
    assert vocabulary([1, 20]).encode(["20", "x", "1"]).tolist() == [1, -1, 0]
    assert vocabulary(["1", "20", "x"]).encode([20, 1, 3]).tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    "empty", [pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.Int64), pl.Series([])]
)
def test_an_empty_vocabulary_knows_nothing(empty):
    v = vocabulary(empty)
    assert len(v) == 0
    assert v.encode(["a", "b"]).tolist() == [-1, -1]
    assert v.encode([]).tolist() == []


@pytest.mark.parametrize(
    "raw",
    [
        ["b", "a", "b"],
        ("b", "a", "b"),
        np.array(["b", "a", "b"]),
        np.array(["b", "a", "b"], dtype=object),
        pl.Series(["b", "a", "b"]),
        pl.Series(["b", "a", "b"], dtype=pl.Categorical),
        pd.Series(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], dtype="category"),
        pd.Index(["b", "a", "b"]),
        pa.array(["b", "a", "b"]),
        pa.chunked_array([["b"], ["a", "b"]]),
    ],
    ids=lambda raw: f"{type(raw).__module__}.{type(raw).__name__}",
)
def test_ids_of_any_make(raw):
    assert vocabulary(["a", "b"]).encode(raw).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "raw",
    [
        [2, 1],
        range(2, 0, -1),
        np.array([2, 1], np.uint8),
        np.array([2, 1], dtype=object),
        np.array([2.0, 1.0]),
        pd.Series([2, 1]),
        pd.Series([2, 1], dtype="Int64"),
        pa.array([2, 1], pa.int16()),
        pl.Series([2.0, 1.0], dtype=pl.Float32),
    ],
    ids=lambda raw: f"{type(raw).__module__}.{type(raw).__name__}",
)
def test_whole_numbers_of_any_make(raw):
    assert vocabulary([1, 2]).encode(raw).tolist() == [1, 0]


@pytest.mark.parametrize("one", ["a", 1, np.int64(1)])
def test_a_single_id_is_a_list_of_one(one):
    assert len(as_series(one)) == 1


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([1, "a"], "all strings or all whole numbers"),
        (np.array([1, "a"], dtype=object), "all strings or all whole numbers"),
        (pd.Series([1, "a"]), "all strings or all whole numbers"),
        (pd.DataFrame({"a": [1]}), "one column"),
        ([True, False], "Boolean"),
        ([1.5], "fractions"),
        ([float("nan")], "NaN"),
        ([float("inf")], "NaN or fractions"),
        (["a", None], "1 of 2 are null"),
        ([1e300], "must be exact"),
        (pl.Series([2.0**24 + 2], dtype=pl.Float32), "must be exact"),
        (np.array([b"a"]), "Binary"),
    ],
)
def test_ids_that_are_none(raw, says):
    with pytest.raises(DataError, match=says) as caught:
        vocabulary([1, 2], "item").encode(raw)
    assert "item ids" in str(caught.value)


def test_huge_integers_are_kept_apart():
    near = [2**53, 2**53 + 1, 2**63 - 1]
    v = vocabulary(near)
    assert v.decode(v.encode(near)).to_list() == near


@pytest.mark.parametrize("huge", [2**63, 2**64 - 1, 2**70])
def test_integers_beyond_64_bits_are_text_as_in_a_csv(huge):
    v = vocabulary(pl.Series([huge, 5]))
    assert v.values.to_list() == sorted(["5", str(huge)])
    assert v.decode(v.encode([huge, 5, -1])[:2]).to_list() == [str(huge), "5"]
    assert vocabulary([1, 2]).encode([huge]).tolist() == [-1]


def test_normalised_ids_are_strings_or_64_bit():
    assert normalise_ids(pl.Series([1], dtype=pl.UInt64), "user").dtype == pl.Int64
    assert normalise_ids(pl.Series([3.0]), "user").to_list() == [3]
    assert normalise_ids(pl.Series(["a"], dtype=pl.Categorical), "user").dtype == pl.String


def test_union_and_same():
    v = vocabulary([3, 1])
    wider = v.union(pl.Series([2, 3]))
    assert wider.values.to_list() == [1, 2, 3]
    assert v.same(vocabulary([1, 3]))
    assert not v.same(wider)
    assert not v.same(vocabulary(["1", "3"]))
