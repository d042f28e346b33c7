"""Impression logs from tables: every rule, encodings that last, leaks, and files."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.context import BUCKETS, MISSING, Category, Schema, bucket
from deconrec.data.describe import describe
from deconrec.data.files import read_dataset, write_dataset
from deconrec.data.split import PairsSplit, cut, joined
from deconrec.errors import DataError, DataWarning, ParameterError

N = 60


def table(**columns):
    rng = np.random.default_rng(0)
    click = rng.random(N) < 0.5
    out = {
        "user_id": [f"u{k}" for k in rng.integers(0, 8, N)],
        "item_id": rng.integers(0, 6, N),
        "click": click.astype(int),
        "conversion": ((rng.random(N) < 0.5) & click).astype(int),
        "hour": rng.integers(0, 24, N),
        "device": rng.choice(["ios", "web"], N),
        "price": rng.standard_normal(N),
    }
    return pl.DataFrame(out | columns)


def build(frame=None, context=("hour", "device", "price"), **options):
    return dc.Dataset.from_impressions(table() if frame is None else frame, context=list(context), **options)


# ---------------------------------------------------------------------- the data set
def test_clicked_rows_are_the_biased_log_and_the_table_is_d():
    frame, data = table(), build()
    clicked = frame.filter(pl.col("click") == 1)
    assert len(data.impressions) == N
    assert data.biased.rating.tolist() == clicked["conversion"].to_list()
    assert data.density == pytest.approx(len(clicked) / N)
    assert data.users.decode(data.biased.user).to_list() == clicked["user_id"].to_list()
    assert data.outcome_scale.binary
    names = {c.name: c for c in data.impressions.schema.categories}
    assert set(names) == {"hour", "device"}
    assert data.impressions.log.user.dtype == np.int32
    assert data.impressions.context.numbers.dtype == np.float32


def test_pandas_csv_and_parquet_give_the_same(tmp_path):
    frame = table().with_columns(
        pl.when(pl.int_range(N) == 3).then(None).otherwise(pl.col("hour")).alias("hour")
    )
    frame.write_csv(tmp_path / "log.csv")
    frame.write_parquet(tmp_path / "log.parquet")
    made = [
        build(x)
        for x in (
            frame,
            pd.DataFrame(frame.to_dict(as_series=False)),
            tmp_path / "log.csv",
            tmp_path / "log.parquet",
        )
    ]
    assert len({d.fingerprint for d in made}) == 1


@pytest.mark.parametrize("flavour", ["pandas", "parquet", "csv"])
def test_conversions_with_gaps_may_be_floats(tmp_path, flavour):
    # pandas has no whole numbers with gaps: a conversion that is empty without a click comes as 0.0, 1.0 and NaN.
    frame, path = table(), tmp_path / f"log.{flavour}"
    loose = frame.to_pandas().assign(click=lambda f: f["click"].astype(float))
    loose["conversion"] = loose["conversion"].where(loose["click"] == 1)
    if flavour == "parquet":
        loose.to_parquet(path)
    elif flavour == "csv":
        loose.to_csv(path, index=False)
    read = build(loose if flavour == "pandas" else path)
    assert read.biased.rating.tolist() == build(frame).biased.rating.tolist()
    with pytest.raises(DataError, match=r"'conversion' must be 0 or 1 in every row; got 0.5"):
        build(loose.assign(conversion=loose["conversion"].replace(1.0, 0.5)))


def test_an_empty_conversion_without_a_click_is_fine():
    frame = table()
    gaps = frame.with_columns(pl.when(pl.col("click") == 1).then(pl.col("conversion")).alias("conversion"))
    assert build(gaps).fingerprint == build(frame).fingerprint


FIRST = pl.int_range(N) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"click": np.zeros(N, int), "conversion": np.zeros(N, int)}, "must have clicked rows; none of 60"),
        ({"click": np.ones(N, int)}, "all 60 are clicked"),
        ({"conversion": np.ones(N, int)}, "conversions without a click"),
        ({"click": np.full(N, 2)}, "'click' must be 0 or 1 in every row; got 2"),
        ({"click": ["yes"] * N}, "'click' must be 0 or 1 in every row; got 'yes'"),
        ({"conversion": [None] * N}, "every row is empty"),
        ({"price": [None] * N}, "'price' must hold a value"),
        ({"price": pl.Series([np.nan] * N)}, "'price' must hold a"),
        (
            {"price": pl.Series(range(N)).cast(pl.Date)},
            "'price' must hold text, booleans or numbers; got Date",
        ),
    ],
)
def test_what_is_refused(change, says):
    with pytest.raises(DataError, match=says):
        build(table(**change))


def test_a_click_without_its_conversion_is_refused():
    frame = table().with_columns(pl.lit(None, pl.Int64).alias("conversion"), click=pl.lit(1))
    frame = frame.with_columns(pl.when(FIRST).then(0).alias("conversion"))
    with pytest.raises(DataError, match="59 clicked rows are empty"):
        build(frame)


def test_names_that_do_not_fit():
    with pytest.raises(DataError, match="'nothing' not among"):
        build(context=("nothing",))
    with pytest.raises(ParameterError, match="must not name 'conversion'"):
        build(context=("conversion",))
    with pytest.raises(ParameterError, match="once"):
        build(context=("hour", "hour"))
    with pytest.raises(ParameterError, match="'categorical' must name columns of 'context'; got 'price'"):
        build(context=("hour",), categorical=("price",))
    with pytest.raises(ParameterError, match="lists"):
        dc.Dataset.from_impressions(table(), context="hour")


@pytest.mark.parametrize("bad", [0.0, -1.0, None, float("inf")])
def test_weights_are_positive(bad):
    frame = table().with_columns(w=pl.when(FIRST).then(pl.lit(bad, pl.Float64)).otherwise(1.0))
    with pytest.raises(DataError, match="'w' must be a positive number in every row; 1 of 60"):
        build(frame, weight="w")


def test_rates_count_weights():
    frame = table().with_columns(w=pl.when(pl.col("click") == 1).then(3.0).otherwise(1.0))
    clicks = frame["click"].sum()
    assert build(frame, weight="w").density == pytest.approx(3 * clicks / (3 * clicks + N - clicks))


def test_randomised_rows_without_a_click_are_left_out_and_counted():
    data = build(unbiased=table())
    assert len(data.unbiased) == table()["click"].sum()
    assert any("of the unbiased log have no click" in note for note in data.notes)
    everything = build(unbiased=table().with_columns(conversion=pl.lit(1)).drop("click"))
    assert everything.unbiased.rating.tolist() == [1.0] * N
    assert not everything.in_biased.any()


# ---------------------------------------------------------------------- encodings
def category(*values, counts=None):
    n = np.array(counts or [5] * len(values))
    return Category("device", pl.Series("value", list(values)), n)


def test_codes_places_and_gaps():
    column = category("a", "b", "c", counts=[5, 1, 5])  # b is rare
    codes = column.encode(pl.Series("device", ["a", None, "c", "b", "new"]))
    assert codes.tolist() == [0, MISSING, 2, 1, -2 - bucket("device", "new")]
    places = column.placed(codes)
    assert column.size == 2 + BUCKETS + 1
    assert places.tolist() == [
        0,
        2 + BUCKETS,
        1,
        2 + bucket("device", "b"),
        2 + bucket("device", "new"),
    ]
    assert column.decode(codes).to_list() == ["a", None, "c", "b", None]


def test_the_hash_is_the_same_in_another_process():
    code = "from deconrec.data.context import bucket; print([bucket('c', str(k)) for k in range(50)])"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": s},
        ).stdout
        for s in ("1", "2")
    }
    assert seen == {f"{[bucket('c', str(k)) for k in range(50)]}\n"}
    assert [bucket("c", str(k)) for k in range(4)] == [9, 15, 5, 3]  # CRC-32 for ever
    assert len({bucket("c", str(k)) for k in range(200)}) == BUCKETS


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("hour", [1, 2, None]),
        pl.Series("hour", [1.0, 2.0, float("nan")]),
        pl.Series("hour", ["1", "2", None]),
    ],
)
def test_whole_numbers_are_the_same_categories_whatever_their_type(column):
    known = Category("hour", pl.Series("value", ["1", "2"]), np.array([5, 5]))
    assert known.encode(column).tolist() == [0, 1, MISSING]


def test_booleans_are_categories():
    known = Category("new", pl.Series("value", ["false", "true"]), np.array([5, 5]))
    assert known.encode(pl.Series("new", [True, None, False])).tolist() == [1, MISSING, 0]


def test_kinds_of_columns():
    n = 200
    frame = pl.DataFrame(
        {
            "few": np.arange(n) % 50,
            "many": np.arange(n) % 51,
            "real": np.arange(n) + 0.5,
            "flag": np.arange(n) % 2 == 0,
        }
    )
    schema = Schema.of(frame, frame.columns, (), "the log")
    assert [c.name for c in schema.categories] == ["few", "flag"]
    assert [c.name for c in schema.numbers] == ["many", "real"]
    assert "many" in {c.name for c in Schema.of(frame, frame.columns, ("many",), "the log").categories}


def test_numbers_are_standardised_gaps_marked_and_outliers_held():
    frame = pl.DataFrame({"x": [1.5, 2.5, 3.5, None], "y": [0.5, 0.5, 0.5, 0.5]})
    schema = Schema.of(frame, ["x", "y"], (), "the log")
    more = pl.DataFrame({"x": [2.5, None, 1e30, float("inf")], "y": [0.5, 1.5, 0.5, 0.5]})
    got = schema.encode(more, "rows").inputs()
    std = np.std([1.5, 2.5, 3.5])
    np.testing.assert_allclose(got[:, 0], [0, 0, 10, 0], atol=1e-6)
    np.testing.assert_allclose(got[:, 1], [0, 1, 0, 0], atol=1e-6)  # a constant column has deviation 1
    assert got[:, 2].tolist() == [0, 1, 0, 1]
    assert schema.numbers[0].std == pytest.approx(std)


def test_a_schema_survives_its_record():
    schema = build().impressions.schema
    again = Schema.rebuilt(schema.to_dict(), schema.frame())
    assert schema.same(again)
    rows = table().head(5)
    assert np.array_equal(schema.encode(rows, "rows").places(), again.encode(rows, "rows").places())
    with pytest.raises(DataError, match="'price' not among"):
        schema.encode(rows.drop("price"), "the rows")
    with pytest.raises(DataError, match="must hold numbers"):
        schema.encode(rows.with_columns(price=pl.lit("dear")), "the rows")


# ---------------------------------------------------------------------- leaks
@pytest.mark.parametrize(
    ("column", "label"),
    [
        (lambda f: f["conversion"] * 2.5 + 0.1, "conversion"),
        (lambda f: f["conversion"] * -2.5 + 0.1, "conversion"),
        (lambda f: f["conversion"].replace_strict({0: "no", 1: "yes"}), "conversion"),
        (lambda f: pl.Series([None if c else 1.5 for c in f["conversion"]]), "conversion"),
        (lambda f: f["click"] * 7.25, "click"),
    ],
)
def test_a_leak_is_named_with_its_auc(column, label):
    frame = table()
    frame = frame.with_columns(column(frame).alias("after"))
    with pytest.warns(
        DataWarning, match=rf"\[LEAK\] the context column 'after' alone predicts the {label} with AUC"
    ) as w:
        data = build(frame, context=("after", "hour"))
    said = [str(x.message) for x in w]
    assert any("AUC 1.000" in s or "AUC 0.99" in s or "AUC 0.98" in s for s in said)
    facts = describe(data).to_dict()["impressions"]
    assert {"after"} == {leak["column"] for leak in facts["leaks"]}
    assert any("[LEAK]" in note for note in data.notes)


def test_honest_columns_and_ids_of_one_row_are_no_leak():
    build(table(session=[f"s{k}" for k in range(N)]), context=("session", "hour", "price"))


# ---------------------------------------------------------------------- parts and files
def test_cut_and_joined_are_inverse():
    data = build()
    train, held = cut(data, 0.25, seed=3)
    assert len(train.impressions) + len(held.impressions) == N
    assert len(train.biased) == train.impressions.click.sum()
    both = joined(train, held)
    assert both.fingerprint == data.fingerprint or sorted(both.impressions.log.key(6)) == sorted(
        data.impressions.log.key(6)
    )
    assert both.impressions.click.sum() == data.impressions.click.sum()


def test_the_split_keeps_impressions_apart():
    data = build(unbiased=table())
    parts = PairsSplit(seed=1, shares=(0.3, 0.2, 0.5)).apply(data)
    test = parts.test.open()
    c = parts.counts
    assert c["impressions"] + c["test_impressions"] + len(parts.holdout.data.impressions) == N
    assert len(test.shown) == c["test_impressions"]
    assert not test.biased
    assert len(parts.train.unbiased) == c["U"] > 0
    without = PairsSplit(seed=1).apply(build()).test.open()
    assert without.biased
    shown = build().impressions.take(without.shown)
    assert without.log.rating.tolist() == shown.clicked.rating.tolist()


def test_a_data_set_survives_its_files(tmp_path):
    frame = table().with_columns(
        w=pl.Series(np.arange(N) % 3 + 1.0),
        device=pl.when(FIRST).then(pl.lit("rare")).otherwise(pl.col("device")),
        price=pl.when(pl.int_range(N) == 2).then(None).otherwise(pl.col("price").cast(pl.Float32)),
    )
    data = build(frame, weight="w", unbiased=frame, name="mine")
    again = read_dataset(write_dataset(data, tmp_path / "data"))
    assert again.fingerprint == data.fingerprint
    assert again.impressions.schema.same(data.impressions.schema)


def test_a_data_file_names_its_columns(tmp_path):
    frame = table().rename({"user_id": "uid", "click": "clicked", "conversion": "bought"})
    frame.write_parquet(tmp_path / "log.parquet")
    frame.head(20).with_columns(clicked=pl.lit(1)).write_csv(tmp_path / "random.csv")
    (tmp_path / "data.toml").write_text(
        '[impressions]\npath = "log.parquet"\nclick = "clicked"\nconversion = "bought"\ncontext = ["hour", "device"]\n'
        '[unbiased]\npath = "random.csv"\n[columns]\nuser = "uid"\n'
    )
    data = read_dataset(tmp_path / "data.toml")
    assert len(data.unbiased) == 20
    assert data.impressions.schema.names == ("hour", "device")


def test_what_describe_says():
    from rich.console import Console

    description = describe(build())
    console = Console(width=120)
    with console.capture() as text:
        console.print(description)
    said = text.get()
    frame = table()
    assert f"60 impressions, {frame['click'].sum()} clicks" in said
    assert "device" in said
    facts = description.to_dict()["impressions"]
    clicked = frame.filter(pl.col("click") == 1)
    assert facts["conversion_rate"] == pytest.approx(clicked["conversion"].mean())
    assert facts["click_rate"] == pytest.approx(frame["click"].mean())
    assert [c["name"] for c in facts["context"]] == ["hour", "device", "price"]


def test_commands_over_pairs_say_that_they_read_none() -> None:
    data, _ = dc.simulate.impressions(n_impressions=2000, n_users=200, n_items=50, seed=0)
    model = dc.MF(dim=2).fit(data)
    for ask in (
        lambda: dc.sensitivity([], data),
        lambda: dc.evaluate(model, data),
        lambda: dc.effects.estimate(data),
    ):
        with pytest.raises(DataError, match=r"reads logs of \(user, item\) pairs"):
            ask()
