"""Files of data, changed at random: a data set with finite ratings, or an error of the library's own."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.errors import Error
from fuzz.bounds import each
from fuzz.mutate import changed, changed_bytes

PEOPLE = ("ann", "bob", "cy", "dee", "eve")
ROWS = [
    (user, item, (u + k) % 2, 100 * u + k) for u, user in enumerate(PEOPLE) for k, item in enumerate("abcd")
]
COLUMNS = ("user_id", "item_id", "rating", "timestamp")


def table(delimiter: str, names: tuple[str, ...] = COLUMNS) -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in (names, *ROWS))


CSV, TSV = table(","), table("\t")
INTER = table("\t", ("user_id:token", "item_id:token", "rating:float", "timestamp:float"))
USERS = "user_id,age,city\n" + "".join(f"{user},{20 + k},{'xy'[k % 2]}\n" for k, user in enumerate(PEOPLE))
SHOWN = "user_id,item_id,click,conversion,hour\n" + "".join(
    f"{user},{item},{k % 2},{k % 4 // 3},{k % 5}\n" for k, (user, item, _, _) in enumerate(ROWS)
)
PAIRS = """name = "shop"
[biased]
path = "log.csv"
[unbiased]
path = "random.csv"
[columns]
user = "user_id"
timestamp = "timestamp"
[features]
users = "users.csv"
[log]
duplicates = "last"
unrated = "drop"
rating_range = [0, 1]
delimiter = ","
[task]
binarize = 0.5
protocol = "pairs"
unbiased_split = [0.2, 0.2, 0.6]
"""
IMPRESSIONS = """[impressions]
path = "shown.csv"
click = "click"
conversion = "conversion"
context = ["hour"]
categorical = ["hour"]
"""


def parquet() -> bytes:
    out = io.BytesIO()
    pl.DataFrame(ROWS, schema=COLUMNS, orient="row").write_parquet(out)
    return out.getvalue()


PARQUET = parquet()


def read(path: Path) -> bool:
    """Whether the data were taken; what is taken must be sound."""
    try:
        data, says = dc.load(path), ""
    except Error as error:
        data, says = None, str(error)
    if data is None:
        assert 10 < len(says) < 2000, says
        assert "Traceback" not in says
        return False
    for log in (data.biased, data.unbiased):
        if log is not None and len(log):
            assert np.isfinite(log.rating).all()
            assert log.user.min() >= 0
            assert log.user.max() < data.n_users
            assert log.item.min() >= 0
            assert log.item.max() < data.n_items
    return True


def csv(rng: random.Random, folder: Path) -> Path:
    path = folder / "log.csv"
    path.write_bytes(changed(CSV, rng))
    return path


def tsv(rng: random.Random, folder: Path) -> Path:
    path = folder / "log.tsv"
    path.write_bytes(changed(TSV, rng))
    return path


def inter(rng: random.Random, folder: Path) -> Path:
    path = folder / "log.inter"
    path.write_bytes(changed(INTER, rng))
    return path


def parquet_file(rng: random.Random, folder: Path) -> Path:
    path = folder / "log.parquet"
    path.write_bytes(changed_bytes(PARQUET, rng))
    return path


def data_file(rng: random.Random, folder: Path) -> Path:
    """The data file is changed, or one of the tables beside it."""
    which = rng.randrange(4)
    for name, text in (("log.csv", CSV), ("random.csv", CSV), ("users.csv", USERS), ("shown.csv", SHOWN)):
        (folder / name).write_text(text)
    text = rng.choice((PAIRS, IMPRESSIONS))
    if which == 0:
        (folder / "users.csv").write_bytes(changed(USERS, rng))
    elif which == 1:
        (folder / "shown.csv").write_bytes(changed(SHOWN, rng))
    (folder / "data.toml").write_bytes(changed(text, rng) if which > 1 else text.encode())
    return folder / "data.toml"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cases", [100, pytest.param(11_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("made", [csv, tsv, inter, parquet_file, data_file])
def test_any_file_is_data_or_a_reason(
    made: Callable[[random.Random, Path], Path], cases: int, tmp_path: Path
) -> None:
    each(cases, lambda rng: read(made(rng, tmp_path)))
