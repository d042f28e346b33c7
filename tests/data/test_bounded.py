"""A log whose text does not fit in memory is read all the same: only codes, ratings and distinct ids are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

CHILD = """
import resource, sys
from pathlib import Path
import polars as pl
from deconrec.data.dataset import Dataset
from deconrec.data.describe import describe
from deconrec.data.convert import convert

path, small, room, work = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
convert(Dataset.from_frames(small), Path(small).with_suffix(".out"))  # loads the code that the work needs
describe(Dataset.from_frames(small))
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + room, now + room))
if work == "whole":
    table = pl.read_parquet(path) if path.endswith(".parquet") else pl.read_csv(path)
    print(len(table))
else:
    data = Dataset.from_frames(path)
    print(len(data.biased), data.n_users, data.n_items, int(data.biased.rating.sum(dtype="float64")))
    if work == "describe":
        describe(data)
    if work == "convert":
        convert(data, Path(path).with_suffix(".out"))
"""


def child(path: Path, room: int, work: str) -> subprocess.CompletedProcess[str]:
    """The work in a process that may take `room` bytes of address space beyond what its code needs."""
    small = path.with_name(f"small{path.suffix}")
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(small), str(room), work],
        capture_output=True,
        text=True,
        env={
            "POLARS_MAX_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join(sys.path),
            "MALLOC_ARENA_MAX": "1",
        },
    )


def log_of(n: int) -> tuple[pl.DataFrame, tuple[int, int, int, int]]:
    """Distinct pairs with long ids, 60 bytes each, and what is to be found."""
    n_users, n_items = 5_000, n // 2_500
    pair = np.random.default_rng(0).permutation(n_users * n_items)[:n]
    users = pl.Series(
        [f"{k:08d}-a-user-whose-id-is-as-long-as-an-address@example.org" for k in range(n_users)]
    )
    items = pl.Series(
        [f"{k:08d}-an-item-whose-id-is-a-long-line-of-text-in-a-catalogue" for k in range(n_items)]
    )
    rating = pair % 5 + 1
    table = pl.DataFrame(
        {"user_id": users.gather(pair // n_items), "item_id": items.gather(pair % n_items), "rating": rating}
    )
    return table, (n, table["user_id"].n_unique(), table["item_id"].n_unique(), int(rating.sum()))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are enforced on Linux")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_log_larger_than_memory(ending, tmp_path):
    n = 5_000_000
    table, facts = log_of(n)
    path = tmp_path / f"log.{ending}"
    for name, rows in (("small", table.head(1000)), ("log", table)):
        if ending == "parquet":
            rows.write_parquet(tmp_path / f"{name}.parquet", row_group_size=100_000)
        else:
            rows.write_csv(tmp_path / f"{name}.csv")
    text = sum(int(table[name].str.len_bytes().sum()) for name in ("user_id", "item_id"))
    room = text // 2 + 64 * 2**20
    assert 12 * n < room < text  # codes and ratings fit, the text does not
    for work in ("read", "describe", "convert"):
        done = child(path, room, work)
        assert done.returncode == 0, f"{work}: {done.stderr[-2000:]}"
        assert tuple(map(int, done.stdout.split())) == facts
    if ending == "csv":  # of Parquet the whole table could share each text among its rows
        assert child(path, room, "whole").returncode != 0
