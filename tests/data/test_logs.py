"""A log in memory, in a file, in small batches: one data set, and one message for what is wrong."""

from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest

from deconrec.data import blocks, tables
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError


@pytest.fixture(params=[3, 1 << 18], ids=["batches of three rows", "one batch"])
def small(request, monkeypatch):
    """Files and tables are read in pieces of a few rows, or whole."""
    monkeypatch.setattr(tables, "ROWS", request.param)
    monkeypatch.setattr(blocks.blocks, "__kwdefaults__", {"size": 40 if request.param == 3 else blocks.SIZE})


def files_of(table, folder):
    """The same log in every form that a file may have."""
    paths = {}
    table.write_parquet(paths.setdefault("parquet", folder / "log.parquet"), row_group_size=4)
    table.write_csv(paths.setdefault("csv", folder / "log.csv"))
    (folder / "packed.csv.gz").write_bytes(gzip.compress((folder / "log.csv").read_bytes()))
    paths["csv.gz"] = folder / "packed.csv.gz"
    return paths


def outcome(source, **options):
    """The fingerprint and notes, or the message."""
    try:
        data = Dataset.from_frames(source, **options)
    except DataError as error:
        return str(error)
    return data.fingerprint, data.notes


RNG = np.random.default_rng(1)
PAIRS = RNG.permutation(20 * 30)[:200]
GOOD = pl.DataFrame(
    {
        "user_id": [f"user {k}, 'ü'" if k % 2 else f"a longer name of user {k}" for k in PAIRS // 30],
        "item_id": PAIRS % 30 - 7,
        "rating": RNG.integers(2, 10, 200) / 2,
        "timestamp": RNG.integers(10**9, 2 * 10**9, 200),
    }
)


def twisted(name, rows, value, dtype=None):
    """The good log with a value put in the way."""
    values = GOOD[name].to_list()
    for row in rows:
        values[row] = value
    return GOOD.with_columns(pl.Series(name, values, dtype=dtype, strict=False))


WRONG = {
    "good": (GOOD, {}),
    "in range": (GOOD, {"rating_range": (1, 5)}),
    "out of range": (twisted("rating", [50, 150], 7.5), {"rating_range": (1, 5)}),
    "no rating": (twisted("rating", [120, 130], None), {}),
    "infinite rating": (twisted("rating", [3], float("inf")), {}),
    "infinite and out of range": (twisted("rating", [3, 4], float("-inf")), {"rating_range": (1, 5)}),
    "words for ratings": (twisted("rating", [77], "much", pl.String), {}),
    "no user": (twisted("user_id", [99, 100], None), {}),
    "no item": (twisted("item_id", [5], None), {}),
    "no time": (twisted("timestamp", [180], None), {}),
    "repeated": (pl.concat([GOOD, GOOD[17:20]]), {}),
    "repeated, the last counts": (pl.concat([GOOD, GOOD[17:20]]), {"duplicates": "last"}),
    "repeated, the mean counts": (
        pl.concat([GOOD, GOOD[17:20].with_columns(rating=pl.lit(1.0))]),
        {"duplicates": "mean"},
    ),
    "a column that is not there": (GOOD.drop("item_id"), {}),
    "a time that is not there": (GOOD, {"columns": {"timestamp": "when"}}),
    "no rows": (GOOD.clear(), {}),
    "unsigned ids": (GOOD.with_columns(item_id=(pl.col("item_id") + 7).cast(pl.UInt64)), {}),
    "ids beyond 64 bits": (
        GOOD.with_columns(item_id=(pl.col("item_id") + 7).cast(pl.UInt64) + 2**63 - 10),
        {},
    ),
    "whole floats": (GOOD.with_columns(pl.col("item_id").cast(pl.Float64)), {}),
    "true and false": (GOOD.with_columns(pl.col("rating") > 3), {}),
    "days": (GOOD.with_columns(pl.from_epoch("timestamp").dt.strftime("%Y-%m-%d")), {}),
    "days and words": (
        GOOD.with_columns(
            timestamp=pl.when(pl.int_range(200) == 160)
            .then(pl.lit("soon"))
            .otherwise(pl.from_epoch("timestamp").dt.strftime("%Y-%m-%d"))
        ),
        {},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_way_in_says_the_same(name, small, tmp_path):
    table, options = WRONG[name]
    whole = outcome(table, **options)
    assert isinstance(whole, str) == (
        name
        not in (
            "good",
            "in range",
            "unsigned ids",
            "ids beyond 64 bits",
            "whole floats",
            "true and false",
            "days",
        )
        and ", the" not in name
    )
    assert outcome(table.lazy(), **options) == whole
    for kind, path in files_of(table, tmp_path).items():
        assert outcome(path, **options) == whole, kind


def test_the_logs_of_a_data_set_are_named_and_compared(small, tmp_path):
    """An unbiased log of another kind of ids, from files and from tables."""
    randomised = GOOD[150:].with_columns(pl.col("item_id").cast(pl.String))
    GOOD.write_parquet(tmp_path / "log.parquet")
    randomised.write_csv(tmp_path / "randomised.csv")
    by_file = outcome(tmp_path / "log.parquet", unbiased=tmp_path / "randomised.csv")
    assert by_file == outcome(GOOD, unbiased=randomised.with_columns(pl.col("item_id").cast(pl.Int64)))
    assert "50 pairs of the unbiased log (100.0%) stand in the biased log too" in by_file[1][0]


# ------------------------------------------------------------------ text in blocks
def read_csv(tmp_path, text, **options):
    path = tmp_path / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Dataset.from_frames(path, **options)


def test_a_quoted_id_may_hold_a_line_end(small, tmp_path):
    rows = "".join(f'"a\n{k}","x, ""{k}""",{k % 5}\n' for k in range(30))
    data = read_csv(tmp_path, "user_id,item_id,rating\n" + rows)
    assert data.frame(data.biased).rows() == [(f"a\n{k}", f'x, "{k}"', k % 5) for k in range(30)]


def test_a_byte_order_mark_windows_lines_and_no_last_line_end(small, tmp_path):
    rows = "\r\n".join(f"u{k},{k},{k % 5}" for k in range(30))
    data = read_csv(tmp_path, b"\xef\xbb\xbfuser_id,item_id,rating\r\n" + rows.encode())
    assert data.frame(data.biased).rows() == [(f"u{k}", k, k % 5) for k in range(30)]


def test_a_quote_that_never_closes_is_refused(small, tmp_path):
    rows = "".join(f'u{k},"{k},{k % 5}\n' if k == 9 else f"u{k},{k},{k % 5}\n" for k in range(60))
    with pytest.raises(DataError, match=r"the biased log"):
        read_csv(tmp_path, "user_id,item_id,rating\n" + rows)


def test_late_halves_and_late_words(small, tmp_path):
    head, rows = "user_id,item_id,rating\n", "".join(f"{k},1,2\n" for k in range(50))
    assert read_csv(tmp_path, head + rows + "x,1,2.5\n").biased.rating[-1] == 2.5
    with pytest.raises(DataError, match=r"must hold numbers; got String \(first: 'many'\)"):
        read_csv(tmp_path, head + rows + "x,1,many\n")


def test_numbers_beside_true_and_false(small, tmp_path):
    head, rows = "user_id,item_id,rating\n", "".join(f"{k},1,2\n" for k in range(50))
    with pytest.raises(DataError, match="must hold numbers; got"):
        read_csv(tmp_path, head + rows + "x,1,true\n" * 1)


def test_ids_keep_their_text_where_one_late_row_needs_it(small, tmp_path):
    rows = "".join(f"{k},{k}.0,2\n" for k in range(50))
    data = read_csv(tmp_path, "user_id,item_id,rating\n" + rows + "007,50.0,3\n")
    assert data.users.is_text
    assert data.items.values.to_list() == list(range(51))


def test_a_packed_file_that_ends_too_early(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"user_id,item_id,rating\n" + b"a,b,1\n" * 9999)[:-20])
    with pytest.raises(DataError, match="cannot be read as CSV"):
        Dataset.from_frames(path)


def test_without_batches_of_a_lazy_frame(monkeypatch, tmp_path):
    """Older polars cannot collect in batches: the table is then read whole."""
    expected = outcome(GOOD)
    GOOD.write_parquet(tmp_path / "log.parquet")
    monkeypatch.delattr(pl.LazyFrame, "collect_batches", raising=False)
    assert outcome(tmp_path / "log.parquet") == expected
