"""Ids to codes batch by batch, against a dictionary."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconrec.data import coder as module
from deconrec.data.coder import Coder
from deconrec.errors import DataError


def by_dictionary(batches):
    """The slow twin: the distinct ids, a row at a time."""
    return list(dict.fromkeys(value for batch in batches for value in batch))


def by_coder(batches, dtype):
    coder = Coder("user")
    codes = [coder.encode(pl.Series(batch, dtype=dtype)) for batch in batches]
    assert all(c.dtype == np.int32 for c in codes)
    return [c.tolist() for c in codes], coder.distinct()


def check(batches, dtype):
    ids = by_dictionary(batches)
    codes, distinct = by_coder(batches, dtype)
    # Inside one batch the table decides who comes first: what must agree is the partition and the ids.
    decoded = [distinct.gather(c).to_list() if c else [] for c in codes]
    assert decoded == [list(batch) for batch in batches]
    assert sorted(distinct.to_list()) == sorted(ids)
    assert len(distinct) == len(set(distinct.to_list()))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.lists(TEXT, max_size=30), max_size=5))
def test_strings(batches):
    check(batches, pl.String)


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9), max_size=30), max_size=5))
def test_signed_integers(batches):
    check(batches, pl.Int64)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=30), max_size=5))
def test_unsigned_integers(batches):
    check(batches, pl.UInt64)


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32, pl.Float32, pl.Float64]
)
def test_narrow_numbers(dtype):
    check([[1, 2, 1], [3, 2], [100]], dtype)


def test_a_table_that_grows_many_times():
    rng = np.random.default_rng(0)
    numbers = [rng.integers(0, 10 ** (k + 1), 3000).tolist() for k in range(6)]
    check([[f"id {n}" for n in batch] for batch in numbers], pl.String)
    check(numbers, pl.Int64)
    check([[n * 2**40 for n in batch] for batch in numbers], pl.Int64)


def test_hashes_that_fall_together_in_their_first_half(monkeypatch):
    """Everything in one place of the table, and the second hash alone tells ids apart."""

    def poor(text):
        second = text.hash(1).to_numpy()
        return np.zeros(len(second), np.uint64), second

    monkeypatch.setattr(module, "_hashes", poor)
    check([[f"{k % 40}" for k in range(100)], [f"{k}" for k in range(60)], ["0"]], pl.String)


def test_codes_follow_the_order_of_first_appearance():
    coder = Coder("user")
    assert coder.encode(pl.Series(["b", "a", "b"])).tolist() == [0, 1, 0]
    assert coder.encode(pl.Series(["c", "a"])).tolist() == [2, 1]
    assert coder.distinct().to_list() == ["b", "a", "c"]


def test_categories_and_minus_zero():
    assert by_coder([["b", "a"], ["a"]], pl.Categorical)[0] == [[0, 1], [1]]
    assert by_coder([[0.0, -0.0]], pl.Float64)[0] == [[0, 0]]


def test_integers_of_128_bits_are_text_where_they_must():
    codes, ids = by_coder([[1, 2], [2**70, 2]], pl.Int128)
    assert [i for c in codes for i in ids.gather(c)] == ["1", "2", str(2**70), "2"]


@pytest.mark.parametrize(
    ("batches", "dtype", "says"),
    [
        ([["a", None], ["b"], [None]], pl.String, "user ids must not be empty; 2 of 4 are null"),
        ([[True]], pl.Boolean, "got Boolean"),
        ([[None], [True]], pl.Boolean, "got Boolean"),
        ([[None]], pl.Null, "1 of 1 are null"),
    ],
)
def test_columns_that_are_no_ids(batches, dtype, says):
    with pytest.raises(DataError, match=says):
        by_coder(batches, dtype)


def test_nothing():
    assert by_coder([[]], pl.String)[1].to_list() == []
