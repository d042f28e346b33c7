"""A split on disk holds the rows that the split in memory holds."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.split_files import write_split
from deconrec.errors import ParameterError


@pytest.fixture(scope="module")
def world():
    return dc.simulate.pairs(n_users=60, n_items=40, exposure_rate=0.2, unbiased_share=0.2, seed=3)


def rows(data, log):
    return sorted(data.frame(log).rows())


@pytest.mark.parametrize("by", ["record", "time"])
def test_pairs(world, by, tmp_path):
    data = world[0]
    if by == "time":
        times = np.arange(len(data.biased)) * 7 % 101
        later = np.arange(len(data.unbiased)) * 5 % 103
        data = data.with_logs(
            dc.Log(data.biased.user, data.biased.item, data.biased.rating, times),
            dc.Log(data.unbiased.user, data.unbiased.item, data.unbiased.rating, later),
        )
    record = write_split(data, tmp_path / "out", seed=5, by=by)
    parts = dc.PairsSplit(5, by=by).apply(data)
    test = parts.test.open()
    read = {name: dc.load(tmp_path / "out" / name) for name in ("train", "holdout", "validation", "test")}
    assert rows(read["train"], read["train"].biased) == rows(data, parts.train.biased)
    assert rows(read["train"], read["train"].unbiased) == rows(data, parts.train.unbiased)
    assert rows(read["holdout"], read["holdout"].biased) == rows(data, parts.holdout.data.biased)
    assert rows(read["validation"], read["validation"].biased) == rows(data, parts.validation.data.biased)
    assert rows(read["test"], read["test"].test) == rows(data, test.log)
    assert rows(read["test"], read["test"].biased) == rows(data, data.biased)
    leaked = pl.read_parquet(tmp_path / "out" / "test" / "test_leaked.parquet")
    assert sorted(leaked.rows()) == rows(data, test.leaked)
    assert read["train"].test is None
    assert record == json.loads((tmp_path / "out" / "split.json").read_text())
    assert record["rows"] == parts.counts
    assert {name: part.shape for name, part in read.items()} == dict.fromkeys(read, data.shape)


def test_without_an_unbiased_log(world, tmp_path):
    data = world[0].with_logs(world[0].biased)
    write_split(data, tmp_path / "out", seed=1)
    parts = dc.PairsSplit(1).apply(data)
    read = dc.load(tmp_path / "out" / "test")
    assert rows(read, read.test) == rows(data, parts.test.open().log)
    assert len(read.biased) + len(read.test) == len(data.biased)
    assert not (tmp_path / "out" / "test" / "test_leaked.parquet").exists()


def test_the_range_of_the_whole_data_stays(tmp_path):
    table = pl.DataFrame(
        {"user_id": range(40), "item_id": [k % 7 for k in range(40)], "rating": [2.0] * 39 + [5.0]}
    )
    data = dc.Dataset.from_frames(table)
    write_split(data, tmp_path / "out")
    for name in ("train", "holdout", "test"):
        scale = dc.load(tmp_path / "out" / name).outcome_scale
        assert (scale.low, scale.high) == (2, 5)


@pytest.mark.parametrize("truth", ["simulator", "log alone", "test log"])
def test_users(world, truth, tmp_path):
    data, known = world
    data = data.with_task(relevant=1.0, binarize=None) if truth == "log alone" else data
    if truth == "test log":
        data = data.with_logs(data.biased, None, data.unbiased)
    known = known if truth == "simulator" else None
    write_split(data, tmp_path / "out", truth=known, protocol="users", seed=2)
    parts = dc.UsersSplit(2).apply(data, known)
    test = parts.test.open()
    read = {name: dc.load(tmp_path / "out" / name) for name in ("train", "validation", "test")}
    train = parts.train
    assert rows(read["train"], read["train"].biased) == rows(train, train.biased)
    assert read["train"].users.values.to_list() == train.users.values.to_list()
    target = parts.holdout.data
    assert rows(read["validation"], read["validation"].test) == rows(target, target.biased)
    history = parts.holdout.history
    assert rows(read["validation"], read["validation"].biased) == rows(history, history.biased)
    found = read["test"].test
    assert rows(read["test"], read["test"].biased) == rows(test.history, test.history.biased)
    assert sorted(zip(found.user.tolist(), found.item.tolist(), strict=True)) == sorted(
        zip(*(c.tolist() for c in test.relevant.nonzero()), strict=True)
    )
    assert data.task.positive(found.rating).all()


def test_rules_that_do_not_fit(world, tmp_path):
    with pytest.raises(ParameterError, match="'pairs' or 'users'; got 'rows'"):
        write_split(world[0], tmp_path / "out", protocol="rows")
    with pytest.raises(ParameterError, match="got 'time' in the users protocol"):
        write_split(world[0], tmp_path / "out", protocol="users", by="time")
    assert not any(tmp_path.iterdir())
