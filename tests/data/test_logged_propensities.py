"""The column of propensities: read where it stands, kept by every cut, written back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.dataset import Log
from deconrec.data.files import read_dataset, write_dataset
from deconrec.data.split import take_users
from deconrec.errors import DataError, ParameterError

FRAME = pl.DataFrame(
    {
        "user_id": ["a", "a", "b", "c"],
        "item_id": ["x", "y", "x", "z"],
        "rating": [1.0, 0.0, 1.0, 1.0],
        "propensity": [0.5, 0.25, 1.0, 0.125],
    }
)


def test_a_column_is_read_and_written_back(tmp_path: Path) -> None:
    data = dc.Dataset.from_frames(FRAME)
    assert data.biased.propensity is not None
    assert data.biased.propensity.tolist() == [0.5, 0.25, 1.0, 0.125]
    assert dc.Dataset.from_frames(FRAME.drop("propensity")).biased.propensity is None
    again = read_dataset(write_dataset(data, tmp_path / "d"))
    assert again.biased.propensity is not None
    assert again.fingerprint == data.fingerprint
    named = FRAME.rename({"propensity": "chance"})
    assert dc.Dataset.from_frames(named, columns={"propensity": "chance"}).fingerprint == data.fingerprint


def test_propensities_are_part_of_the_fingerprint() -> None:
    other = FRAME.with_columns(pl.col("propensity") / 2)
    assert dc.Dataset.from_frames(other).fingerprint != dc.Dataset.from_frames(FRAME).fingerprint


def test_cuts_keep_propensities() -> None:
    data = dc.Dataset.from_frames(FRAME)
    part = take_users(data, np.array([0, 2]))
    assert part.biased.propensity is not None
    assert part.biased.propensity.tolist() == [0.5, 0.25, 0.125]
    halves = data.biased.take(np.array([0, 1])), data.biased.take(np.array([2, 3]))
    joined = halves[0].joined(halves[1], data.n_items)
    assert joined.propensity is not None
    assert joined.propensity.tolist() == [0.5, 0.25, 1.0, 0.125]
    plain = Log(halves[1].user, halves[1].item, halves[1].rating)
    assert halves[0].joined(plain, data.n_items).propensity is None


def test_known_reads_the_log() -> None:
    from deconrec.pairs import NO_TABLES
    from deconrec.training.samplers import log_pairs

    data = dc.Dataset.from_frames(FRAME)
    known = dc.Known().fit(data)
    assert known(log_pairs(data, data.biased, NO_TABLES)).tolist() == [0.5, 0.25, 1.0, 0.125]
    with pytest.raises(ParameterError, match="where the biased log has no column"):
        dc.Known().fit(dc.Dataset.from_frames(FRAME.drop("propensity")))


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, None, float("nan")])
def test_what_is_no_propensity_is_refused(bad: float | None) -> None:
    with pytest.raises(DataError, match=r"must be propensities in \(0, 1\]; 1 of 4 are not"):
        dc.Dataset.from_frames(FRAME.with_columns(propensity=pl.Series([0.5, bad, 1.0, 0.5])))


def test_repeated_pairs() -> None:
    twice = pl.concat([FRAME, FRAME.head(1).with_columns(propensity=pl.lit(0.75))])
    last = dc.Dataset.from_frames(twice, duplicates="last").biased
    assert last.propensity is not None
    assert last.propensity[last.key(3) == 0].tolist() == [0.75]
    with pytest.raises(DataError, match="which have no mean"):
        dc.Dataset.from_frames(twice, duplicates="mean")


def test_a_log_checks_its_propensities() -> None:
    columns = np.array([0, 1]), np.array([0, 1]), np.array([1.0, 0.0])
    with pytest.raises(DataError, match="propensities must lie in"):
        Log(*columns, propensity=np.array([0.5, 0.0]))
    with pytest.raises(DataError, match="as many users as items"):
        Log(*columns, propensity=np.array([0.5]))


def test_a_column_that_is_named_must_exist() -> None:
    with pytest.raises(DataError, match="was named as the propensity"):
        dc.Dataset.from_frames(FRAME, columns={"propensity": "chance"})
