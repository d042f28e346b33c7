"""RecBole's atomic files: read, refused in exact words, and written back."""

from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data import blocks
from deconrec.data.recbole import read_features, read_rows
from deconrec.data.tables import read_table
from deconrec.errors import DataError

HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ODD = [
    ("user with spaces", "it's", 5.0, 3),
    ('"quoted"', 'half"', 4.5, 4),
    ("ünïcødé ✓", " leading", 1.0, 5),
    ("a,b;c", "trailing ", 2.0, 6),
    ("\u2028", "007", 3.0, 7),
]


@pytest.fixture(params=[30, blocks.SIZE], ids=["small blocks", "one block"], autouse=True)
def size(request, monkeypatch):
    monkeypatch.setattr(blocks.blocks, "__kwdefaults__", {"size": request.param})


def put(tmp_path, text, name="log.inter"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(rows, end="\n"):
    return "".join("\t".join(map(str, row)) + end for row in rows)


# ------------------------------------------------------------------ what is read
@pytest.mark.parametrize("make", ["plain", "bom", "crlf", "no last end", "blank end", "gzip"])
def test_ids_are_what_stands_between_tabs(make, tmp_path):
    text = HEAD + lines(ODD)
    raw = {
        "plain": text.encode(),
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "no last end": text[:-1].encode(),
        "blank end": (text + "\n\n\n").encode(),
        "gzip": gzip.compress(text.encode()),
    }[make]
    path = put(tmp_path, raw, "log.inter.gz" if make == "gzip" else "log.inter")
    data = dc.Dataset.from_frames(path)
    assert data.frame(data.biased).rows() == ODD
    assert read_table(path, "the pairs").rows() == ODD


def test_ids_of_digits_are_numbers_as_in_a_csv(tmp_path):
    data = dc.Dataset.from_frames(put(tmp_path, HEAD + lines([(1, -5, 1, 1), (20, 2**62, 2, 2)])))
    assert data.users.values.to_list() == [1, 20]
    assert data.items.values.to_list() == [-5, 2**62]


def test_other_columns_are_not_read(tmp_path):
    head = "session:token_seq\tuser_id:token\trating:float\titem_id:token\tvector:float_seq\n"
    data = dc.Dataset.from_frames(put(tmp_path, head + "a b\tu\t3\ti\t0.1 x\n"))
    assert data.frame(data.biased).rows() == [("u", "i", 3.0)]


def test_named_in_a_data_file(tmp_path):
    put(tmp_path, HEAD + lines(ODD))
    put(tmp_path, HEAD + lines([("new", "007", 1.0, 9)]), "random.inter")
    put(tmp_path, 'user_id:token\tage:float\n"quoted"\t31\nnew\t\n', "people.user")
    (tmp_path / "data.toml").write_text(
        '[biased]\npath = "log.inter"\n[unbiased]\npath = "random.inter"\n[features]\nusers = "people.user"\n'
    )
    data = dc.load(tmp_path / "data.toml")
    assert (data.n_users, len(data.unbiased)) == (6, 1)
    assert data.user_features.missing.sum() == 5


# ------------------------------------------------------------------ exact words
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'{path}' must begin with a header of name:type; the file is empty."),
        (
            "user_id:token\titem_id:token\trating\n",
            "the header of '{path}' must give each column as name:type (types: token, token_seq, float, float_seq), "
            "separated by tabs; got 'rating'.",
        ),
        (
            "user_id:token,item_id:token,rating:float\n",
            "the header of '{path}' must give each column as name:type (types: token, token_seq, float, float_seq), "
            "separated by tabs; got 'user_id:token,item_id:token,rating:float'.",
        ),
        (
            "user_id:token\titem_id:token\trating:int\n",
            "the header of '{path}' gives 'rating' the type 'int'; known: token, token_seq, float, float_seq.",
        ),
        (
            "user_id:token\tuser_id:token\n",
            "the header of '{path}' must name each column once; got 'user_id' twice.",
        ),
        (
            HEAD + lines(ODD) + "u\ti\t1\n",
            "line 7 of '{path}' must have 4 fields separated by tabs (user_id, item_id, rating, timestamp); got 3. "
            "Correct or drop the line.",
        ),
        (
            HEAD + lines(ODD[:2]) + "u\ti\t1\t2\t3\n" + lines(ODD[2:]) + "v\n",
            "line 4 of '{path}' must have 4 fields separated by tabs (user_id, item_id, rating, timestamp); got 5. "
            "Correct or drop the line.",
        ),
        (
            HEAD + lines(ODD[:2]) + "u\ti\t1\nu\ti\t1\t2\t3\n",
            "line 4 of '{path}' must have 4 fields separated by tabs (user_id, item_id, rating, timestamp); got 3. "
            "Correct or drop the line.",
        ),
        (
            HEAD + lines(ODD[:3]) + "\n" + lines(ODD[3:]),
            "line 5 of '{path}' must have 4 fields separated by tabs (user_id, item_id, rating, timestamp); got 1. "
            "Correct or drop the line.",
        ),
        (
            HEAD + lines(ODD[:3]) + "u\ti\tfive\t7\n",
            "line 5 of '{path}': 'rating' is declared float and must be a number; got 'five'. Correct it, or declare "
            "rating:token.",
        ),
        (
            HEAD.encode() + lines(ODD[:3]).encode() + b"u\xff\ti\t1\t7\n",
            "line 5 of '{path}' must be UTF-8; invalid start byte.",
        ),
    ],
)
def test_what_is_refused(text, says, tmp_path):
    path = put(tmp_path, text)
    with pytest.raises(DataError) as caught:
        dc.Dataset.from_frames(path)
    assert str(caught.value) == f"the biased log: {says.format(path=path)}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "user_id:token\titem_id:token\tlabel:float\na\tb\t1\n",
            "'rating' not among ['user_id', 'item_id', 'label']",
        ),
        (HEAD + "\ti\t1\t2\n", "user ids must not be empty; 1 of 1 are null"),
        (HEAD + "u\ti\t\t2\n", "the biased log's ratings must be finite numbers; 1 of 1"),
        (HEAD + "u\ti\t1\t\n", "the biased log's timestamps must not be empty; 1 of 1"),
        (HEAD, "the biased log must have at least one row"),
        (
            HEAD.replace("rating:float", "rating:token") + "u\ti\tgood\t2\n",
            "must hold numbers; got String (first: 'good')",
        ),
    ],
)
def test_the_rules_of_a_log_hold_here_too(text, says, tmp_path):
    with pytest.raises(DataError) as caught:
        dc.Dataset.from_frames(put(tmp_path, text))
    assert says in str(caught.value)


# ------------------------------------------------------------------ features
FEATURES = (
    "item_id:token\tyear:float\tkind:token\tgenres:token_seq\tvector:float_seq\ttitle:token_seq\n"
    "i1\t1999\tfilm\tDrama Comedy\t0.5 -1\tA b c\n"
    "i2\t\tseries\t\t1 2.5\td\n"
    "i3\t\t\t\t\t\n"
)


def test_features_of_every_type(tmp_path):
    table, notes = read_features(put(tmp_path, FEATURES, "x.item"), "the items table", 3)
    assert table.to_dict(as_series=False) == {
        "item_id": ["i1", "i2", "i3"],
        "year": [1999, None, None],
        "kind": ["film", "series", None],
        "genres=Comedy": [True, False, None],
        "genres=Drama": [True, False, None],
        "vector.0": [0.5, 1, None],
        "vector.1": [-1, 2.5, None],
    }
    assert notes == ["'title' of the items table has 4 different tokens, more than 3: left out as a feature."]


def test_features_in_a_data_set(tmp_path):
    log = pl.DataFrame({"user_id": [1, 2], "item_id": ["i1", "i2"], "rating": [1, 2]})
    data = dc.Dataset.from_frames(log, items=put(tmp_path, FEATURES, "x.item"))
    names = ("year", "kind=film", "kind=series", "genres=Comedy", "genres=Drama", "vector.0", "vector.1")
    assert data.item_features.names[:7] == names
    assert data.item_features.missing.tolist() == [False, False, True]
    np.testing.assert_array_equal(data.item_features.values[1, :7], [1999, 0, 1, 0, 0, 1, 2.5])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("u:token\tv:float_seq\na\t1 2\nb\t1\n", "must have one length in all rows; got lengths 1 to 2"),
        (
            "u:token\tv:float_seq\na\t1 2\nb\t1 x\n",
            "line 3 of '{path}': 'v' is declared float_seq and must be numbers",
        ),
        ("u:token\tv:float\na\tx\n", "line 2 of '{path}': 'v' is declared float"),
    ],
)
def test_features_that_are_refused(text, says, tmp_path):
    path = put(tmp_path, text, "x.user")
    with pytest.raises(DataError) as caught:
        read_features(path, "the users table", 200)
    assert says.format(path=path) in str(caught.value)


def test_a_header_alone_is_an_empty_table(tmp_path):
    table = read_rows(put(tmp_path, "a:token\tb:float\n"), "the table")
    assert (table.columns, len(table)) == (["a", "b"], 0)
    assert read_features(put(tmp_path, "a:token\n"), "the table", 5)[0].columns == ["a"]
