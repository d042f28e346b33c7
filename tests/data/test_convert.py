"""Round trips between forms, and what must not be written."""

from __future__ import annotations

import gzip

import polars as pl
import pytest

import deconrec as dc
from deconrec.data import sinks
from deconrec.data.convert import check_output, convert, left_out
from deconrec.data.given import read_data
from deconrec.data.writing import MARKER
from deconrec.errors import DataError, FileError, MissingData, ParameterError


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sinks, "ROWS", 7)


def data_of(users, items, **more):
    """A data set with all parts, from the ids of both sides."""
    log = pl.DataFrame(
        {
            "user_id": [users[k % len(users)] for k in range(30)],
            "item_id": [items[k // len(users) % len(items)] for k in range(30)],
            "rating": [(k % 9) / 3 for k in range(30)],
            "timestamp": [2**53 + k if k else -5 for k in range(30)],
        }
    ).unique(["user_id", "item_id"], maintain_order=True)
    features = pl.DataFrame({"id": users[:2], "age": [0.1, None], "town": ["x:y", None]})
    return dc.Dataset.from_frames(
        log[5:], unbiased=log[:3], test=log[3:5], users=features, rating_range=(-1, 9), relevant=2.5, **more
    )


TEXT = ["a user", '"b"', "ü✓", "it's", "007"]
NUMBERS = [3, -7, 2**62, 0, 11]


@pytest.mark.parametrize("form", ["parquet", "inter"])
@pytest.mark.parametrize(("users", "items"), [(TEXT, NUMBERS), (NUMBERS, TEXT)])
def test_a_folder_reads_back(form, users, items, tmp_path):
    data = data_of(users, items)
    again = dc.load(convert(data, tmp_path / "out", form))
    assert again.fingerprint == data.fingerprint
    assert again.frame(again.biased).equals(data.frame(data.biased))
    assert dc.load(tmp_path / "out").fingerprint == data.fingerprint  # by its folder


def test_there_and_back(tmp_path):
    """.inter to Parquet to .inter: the same bytes."""
    first = convert(data_of(TEXT, NUMBERS), tmp_path / "a", "inter").parent
    convert(dc.load(first), tmp_path / "b")
    second = convert(dc.load(tmp_path / "b"), tmp_path / "c", "inter").parent
    names = {p.name for p in first.iterdir()}
    assert names == {
        "log.inter",
        "randomised.inter",
        "test.inter",
        "log.user",
        "log.item",
        "data.toml",
        MARKER,
    }
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (
        (first / "log.inter")
        .read_text()
        .startswith("user_id:token\titem_id:token\trating:float\ttimestamp:float\n")
    )
    assert (first / "log.user").read_text().splitlines()[0] == "user_id:token\tage:float\ttown=x:y:float"


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.inter"])
def test_one_file_holds_the_biased_log(name, tmp_path):
    data = data_of(TEXT, NUMBERS)
    assert convert(data, tmp_path / name) == tmp_path / name
    again = dc.load(tmp_path / name)
    assert again.frame(again.biased).equals(data.frame(data.biased))
    assert left_out(data) == ["the randomised log", "the test log", "the features of users"]
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("bad", ["a\tb", "a\nb", "a\rb", ""])
def test_ids_that_an_inter_file_cannot_hold(bad, tmp_path):
    data = data_of([*TEXT[:4], bad], NUMBERS)
    with pytest.raises(DataError, match="a RecBole file cannot hold the user id"):
        convert(data, tmp_path / "out", "inter")
    assert not any(tmp_path.iterdir())
    if bad:
        assert dc.load(convert(data, tmp_path / "out")).fingerprint == data.fingerprint


def test_outputs_that_are_refused(tmp_path):
    (tmp_path / "log.csv").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "data.toml").touch()
    with pytest.raises(FileError, match="exists and must not be overwritten"):
        check_output(None, tmp_path / "log.csv", "parquet")
    check_output(None, tmp_path / "log.csv", "parquet", overwrite=True)
    with pytest.raises(FileError, match="left alone"):
        check_output(None, tmp_path / "full", "parquet", overwrite=True)
    for source in (tmp_path, tmp_path / "data.toml"):
        with pytest.raises(FileError, match="what is converted"):
            check_output(source, tmp_path, "parquet")
    with pytest.raises(FileError, match="what is converted"):
        check_output(tmp_path / "log.csv", tmp_path / "log.csv", "parquet", overwrite=True)
    with pytest.raises(ParameterError, match="one of parquet, inter; got 'csv'"):
        check_output(None, tmp_path / "new", "csv")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("old")
    data = data_of(TEXT, NUMBERS)
    monkeypatch.setattr(sinks, "_sink", lambda frame, path: path.write_text("half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(data, tmp_path / "log.csv")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("log.csv", "old")]


# ------------------------------------------------------------------ what a path names
def test_a_recbole_folder(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "films.inter.gz").write_bytes(
        gzip.compress(b"user_id:token\titem_id:token\trating:float\nu\ti\t4\nv\ti\t2\n")
    )
    (folder / "films.item").write_text("item_id:token\tyear:float\ni\t1998\nj\t1999\n")
    data = dc.load(folder)
    assert (data.name, data.shape, data.item_features.names) == ("films", (2, 2), ("year",))
    assert read_data(folder, binarize=3.0).task.binarize == 3
    (folder / "more.inter").touch()
    with pytest.raises(
        MissingData, match=r"one \.inter file; found films.inter.gz, more.inter. Name one of them"
    ):
        dc.load(folder)


def test_a_log_by_itself(tmp_path):
    (tmp_path / "shop.csv").write_text("visitor;sku;stars\na;b;4\na;c;1\na;c;2\n")
    options = {"columns": {"user": "visitor", "item": "sku", "rating": "stars"}, "delimiter": ";"}
    data = read_data(tmp_path / "shop.csv", duplicates="last", relevant=4, **options)
    assert (data.name, len(data.biased), data.task.relevant) == ("shop", 2, 4)
    with pytest.raises(DataError, match=r"shop\.csv: the biased log must hold a .* pair once"):
        read_data(tmp_path / "shop.csv", **options)
    (tmp_path / "shop.tsv").write_text("user_id\titem_id\trating\na b\tc\t4\n")
    assert dc.load(tmp_path / "shop.tsv").users.values.to_list() == ["a b"]


def test_paths_that_name_no_data(tmp_path):
    (tmp_path / "notes.md").touch()
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("notes.md", "its ending is '.md'"),
        ("gone.csv", "no such file"),
        ("empty", "found none"),
    ):
        with pytest.raises(MissingData, match=says):
            read_data(tmp_path / name)
    convert(data_of(TEXT, NUMBERS), tmp_path / "out")
    with pytest.raises(
        ParameterError, match="is a data file and says this itself: leave out columns, delimiter"
    ):
        read_data(tmp_path / "out", columns={"user": "u"}, delimiter=";")
