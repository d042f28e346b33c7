"""A table that is a folder of Parquet files: it is the table of its parts, in batches too, and says what is wrong."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import deconrec as dc
from deconrec.checks import fixtures
from deconrec.data.tables import open_batches, read_table
from deconrec.errors import DataError, MissingData

LOG = pl.DataFrame(
    {
        "user_id": [f"u{k % 7}" for k in range(40)],
        "item_id": [k // 7 for k in range(40)],
        "rating": [1.0, 5.0] * 20,
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """LOG in three parts, beside the marks that other engines leave."""
    path = tmp_path / "log"
    path.mkdir()
    for k, start in enumerate((0, 15, 16)):
        LOG[start : (15, 16, 40)[k]].write_parquet(path / f"part-{k:05d}.snappy.parquet")
    (path / "_SUCCESS").touch()
    (path / ".part-00000.crc").touch()
    return path


def test_it_is_the_table_of_its_parts(folder: Path) -> None:
    whole = dc.Dataset.from_frames(LOG)
    assert dc.Dataset.from_frames(folder).fingerprint == whole.fingerprint
    assert read_table(folder, "a log").equals(LOG)
    read = open_batches(folder, "a log").read(["item_id"], [])
    assert pl.concat(read)["item_id"].equals(LOG["item_id"])


def test_in_a_data_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text('[biased]\npath = "log"\n')
    assert dc.load(tmp_path / "data.toml").fingerprint == dc.Dataset.from_frames(LOG).fingerprint


def test_of_impressions(tmp_path: Path) -> None:
    data = fixtures.impressions()
    assert data.impressions is not None
    frame = data.frame(data.impressions.log, data.impressions.click)
    (tmp_path / "shown").mkdir()
    for k in range(2):
        frame[200 * k : 200 * (k + 1)].write_parquet(tmp_path / "shown" / f"{k}.pq")
    context = data.impressions.schema.names
    one, parts = (
        dc.Dataset.from_impressions(source, context=context) for source in (frame, tmp_path / "shown")
    )
    assert one.fingerprint == parts.fingerprint


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (
            lambda f: (f / "part-00001.snappy.parquet").write_bytes(b"PAR1 cut"),
            r"part-00001.*does not end as Parquet",
        ),
        (lambda f: (f / "part-00001.snappy.parquet").write_bytes(b""), r"part-00001.*the file is empty"),
        (
            lambda f: LOG.select("user_id", "item_id").write_parquet(f / "part-00001.snappy.parquet"),
            "must have the same columns",
        ),
    ],
)
def test_a_part_that_does_not_belong(folder: Path, do: object, says: str) -> None:
    do(folder)
    with pytest.raises(DataError, match=says):
        dc.Dataset.from_frames(folder)


def test_a_folder_without_parquet_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="it is a folder"):
        dc.Dataset.from_frames(tmp_path)
