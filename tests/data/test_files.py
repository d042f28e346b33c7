"""The data file and its writer."""

from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest

from deconrec.data.dataset import Dataset
from deconrec.data.files import read_dataset, write_dataset
from deconrec.data.writing import MARKER
from deconrec.errors import DataError, FileError, MissingData

LOG = "user_id,item_id,rating,timestamp\na,1,1,10\nb,2,5,20\nb,1,4,30\n"
BIASED = '[biased]\npath = "log.csv"\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    return tmp_path


def read(folder, text):
    (folder / "data.toml").write_text(text, encoding="utf-8")
    return read_dataset(folder / "data.toml")


# ------------------------------------------------------------------ reading
def test_the_smallest_file(folder):
    data = read(folder, BIASED)
    assert data.frame(data.biased).rows() == [("a", 1, 1.0, 10), ("b", 2, 5.0, 20), ("b", 1, 4.0, 30)]
    assert (data.unbiased, data.test, data.user_features) == (None, None, None)
    assert data.name == folder.name
    assert data.task.unbiased_split == (0.05, 0.05, 0.90)


def test_every_key(folder):
    (folder / "sub").mkdir()
    log = "who;what;stars\n1;x;2\n1;x;4\n2;y;5\n"
    (folder / "sub" / "log.csv.gz").write_bytes(gzip.compress(log.encode()))
    (folder / "fair.csv").write_text("who;what;stars\n1;y;1\n")
    pl.DataFrame({"who": [3], "what": ["x"], "stars": [5]}).write_parquet(folder / "test.parquet")
    (folder / "people.csv").write_text("id;age\n1;30\n2;40\n")
    (folder / "things.csv").write_text("id;new\nx;true\ny;false\n")
    data = read(
        folder,
        """
        name = "shop"
        [biased]
        path = "sub/log.csv.gz"
        [unbiased]
        path = "fair.csv"
        [test]
        path = "test.parquet"
        [columns]
        user = "who"
        item = "what"
        rating = "stars"
        [features]
        users = "people.csv"
        items = "things.csv"
        [log]
        duplicates = "mean"
        rating_range = [1, 5]
        delimiter = ";"
        [task]
        binarize = 4
        relevant = 5.0
        protocol = "users"
        unbiased_split = [0.1, 0.2, 0.3]
        """,
    )
    assert data.frame(data.biased).rows() == [(1, "x", 3.0), (2, "y", 5.0)]
    assert data.frame(data.unbiased).rows() == [(1, "y", 1.0)]
    assert data.frame(data.test).rows() == [(3, "x", 5.0)]
    assert data.user_features.values[:2].tolist() == [[30], [40]]
    assert data.user_features.missing.tolist() == [False, False, True]
    assert data.item_features.names == ("new",)
    task = data.task
    assert (task.binarize, task.relevant, task.protocol) == (4.0, 5.0, "users")
    assert (task.unbiased_split, task.rating_range) == ((0.1, 0.2, 0.3), (1.0, 5.0))
    assert (data.name, data.duplicates) == ("shop", "mean")


def test_a_file_of_another_name_names_the_data(folder):
    (folder / "shop.toml").write_text(BIASED)
    assert Dataset.from_file(folder / "shop.toml").name == "shop"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"a \[biased\] table with its path is required.*got nothing"),
        ("[unbiased]\npath='x'", "got 'unbiased'"),
        ("[biased", "must be TOML"),
        ("[impressions]\nclick='x'", "'impressions.path' is required"),
        (
            "[impressions]\npath='x'\ncontext='hour'",
            "'impressions.context' must be a list of columns; got 'hour'",
        ),
        (BIASED + "[impressions]\npath='x'", r"give \[biased\] or \[impressions\], not both"),
        ("[impressions]\npath='x'\n[features]\nusers='u'", r"\[features\] are of \(user, item\) pairs"),
        ("[impressions]\npath='x'\n[task]\nbinarize=4", r"\[task\] binarize means nothing for impressions"),
        ("[biased]", "'biased.path' is required: the path"),
        ("[biased]\npath = 3", "'biased.path' must be the path of a CSV, Parquet or RecBole file; got 3"),
        ("biased = 'log.csv'", r"'biased' must be a table, \[biased\]; got 'log.csv'"),
        (BIASED + "[unbiased]\nfile = 'x'", "no key 'file'.*1 more"),
        (BIASED + "[feature]\nusers = 'x'", "no key 'feature' in the data file; did you mean 'features'"),
        (BIASED + "[zzz]", "known: name, biased"),
        (BIASED + "[log]\nduplicate = 'last'", r"no key 'duplicate' in \[log\]; did you mean 'duplicates'"),
        (
            BIASED + "[task]\nrating_range = [1, 5]",
            r"no key 'rating_range' in \[task\]; it belongs to \[log\]",
        ),
        (BIASED + "[task]\nzzz = 1", "known: binarize, relevant"),
        (
            BIASED + "[log]\nduplicates = 'first'",
            "'log.duplicates' must be 'error', 'last' or 'mean'; got 'first'",
        ),
        (
            BIASED + "[log]\nrating_range = [1]",
            r"'log.rating_range' must be \[low, high\], two numbers; got \[1\]",
        ),
        (BIASED + "[log]\nrating_range = ['a', 2]", "two numbers; got 'a'"),
        (BIASED + "[log]\nrating_range = [5, 1]", "low < high"),
        (BIASED + "[log]\nrating_range = [1, 4]", r"the biased log's ratings must lie in \[1, 4\]"),
        (BIASED + "[log]\ndelimiter = '::'", "'log.delimiter' must be one character; got '::'"),
        (BIASED + "[log]\ndelimiter = ';'", "needs the columns"),
        (BIASED + "[task]\nbinarize = true", "'task.binarize' must be a rating .a number.; got True"),
        (BIASED + "[task]\nbinarize = nan", "'task.binarize'"),
        (BIASED + "[task]\nprotocol = 'rows'", "'task.protocol' must be 'pairs' or 'users'; got 'rows'"),
        (BIASED + "[task]\nunbiased_split = [0.5, 0.5]", "'task.unbiased_split' must be .*three shares"),
        (BIASED + "[task]\nunbiased_split = [0.5, 0.6, 0.5]", "sum in"),
        (BIASED + "[columns]\nrating = 'stars'", "'stars' not among"),
        (BIASED + "[columns]\nuser = 3", "'columns.user' must be the name of a column; got 3"),
        (BIASED + "[features]\nusers = ['x']", "'features.users' must be the path"),
        ("name = ''\n" + BIASED, "'name' must be a name for reports"),
    ],
)
def test_a_file_that_cannot_be(folder, text, says):
    with pytest.raises(DataError, match=says) as caught:
        read(folder, text)
    assert str(caught.value).startswith(str(folder / "data.toml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", ["biased", "unbiased", "test"])
def test_a_table_that_is_not_there(folder, table):
    text = BIASED if table != "biased" else ""
    with pytest.raises(MissingData, match=rf"the {table} log .*gone\.csv"):
        read(folder, f'{text}[{table}]\npath = "gone.csv"')


def test_a_data_file_that_is_not_there(folder):
    with pytest.raises(MissingData, match="no such file"):
        read_dataset(folder / "gone.toml")
    with pytest.raises(MissingData, match="it is a folder; name the file in it"):
        read_dataset(folder)


def test_a_data_file_in_another_encoding(folder):
    (folder / "data.toml").write_bytes(b'name = "\xe9"\n' + BIASED.encode())
    with pytest.raises(DataError, match="UTF-8"):
        read_dataset(folder / "data.toml")


# ------------------------------------------------------------------ writing
@pytest.fixture
def full():
    rng = np.random.default_rng(3)
    pairs = rng.permutation(20 * 30)[:300]
    table = pl.DataFrame(
        {
            "user_id": pairs // 30,
            "item_id": pairs % 30,
            "rating": rng.normal(size=300),
            "timestamp": pairs * 7,
        }
    ).with_columns(pl.format("u{}", "user_id").alias("user_id"))
    users = pl.DataFrame(
        {
            "id": ["u3", "u1", "nobody"],
            "age": [0.1, None, 3.3],
            "score": [1 / 3, 2.0, 7.7],
            "town": ["x", "y", "x"],
        }
    )
    return Dataset.from_frames(
        table[:150],
        unbiased=table[100:250],
        test=table[250:],
        users=users,
        items=pl.DataFrame({"item_id": [99]}),
        binarize=0.25,
        rating_range=(-9, 9),
        unbiased_split=(0.2, 0.2, 0.5),
        name='a "name" with \\ and ü\x7f',
    )


def test_what_is_written_is_read_back(full, tmp_path):
    path = write_dataset(full, tmp_path / "out")
    assert path == tmp_path / "out" / "data.toml"
    again = read_dataset(path)
    assert again.fingerprint == full.fingerprint
    assert (again.name, again.task) == (full.name, full.task)
    np.testing.assert_array_equal(again.user_features.missing, full.user_features.missing)
    np.testing.assert_allclose(again.user_features.values, full.user_features.values, rtol=1e-6)
    assert again.items.values.to_list() == full.items.values.to_list()
    assert again.frame(again.biased).equals(full.frame(full.biased))
    assert {p.name for p in path.parent.iterdir()} == {
        "data.toml",
        "log.parquet",
        "randomised.parquet",
        "test.parquet",
        "users.parquet",
        "items.parquet",
        MARKER,
    }
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_part_of_the_data_keeps_its_users(full, tmp_path):
    part = full.with_logs(full.biased.take(np.arange(5)))
    again = read_dataset(write_dataset(part, tmp_path / "part"))
    assert again.shape == full.shape
    assert (again.unbiased, again.test) == (None, None)
    assert again.fingerprint == part.fingerprint


def test_writing_again_replaces_the_folder_whole(full, tmp_path):
    write_dataset(full, tmp_path / "out")
    smaller = full.with_logs(full.biased)
    assert read_dataset(write_dataset(smaller, tmp_path / "out")).fingerprint == smaller.fingerprint
    assert not (tmp_path / "out" / "test.parquet").exists()


def test_a_users_own_data_folder_is_not_replaced(full, folder):
    (folder / "data.toml").write_text(BIASED)
    with pytest.raises(FileError, match="left alone"):
        write_dataset(full, folder)
    assert (folder / "log.csv").read_text() == LOG
