"""A Parquet log with string ids to codes, checked for repeated pairs, against pandas.

The file is written once, before anything is timed. The reference is what a pandas user writes first; the tuned side
looks for repeated pairs among codes, which pandas can do faster than among strings.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SAYS = "a Parquet log with string ids to codes, ratings and a check for repeated pairs, against pandas"
OURS = "deconrec"
PEER_NAME = "pandas"
TARGETS: dict[str, float] = {"deconrec": 5.0}
FULL = {"n_rows": 12_500_000, "n_users": 200_000, "n_items": 40_000}
TINY = {"n_rows": 3000, "n_users": 200, "n_items": 100}
REPETITIONS = 3
MEMORY = True


def sides(n_rows: int, n_users: int, n_items: int) -> dict[str, Callable[[], Any]]:
    """Each gives (users, items, rows, sum of ratings, whether a pair is repeated)."""
    path = log(n_rows, n_users, n_items)
    return {
        "deconrec": lambda: by_deconrec(path),
        "pandas": lambda: by_pandas(path, tuned=False),
        "pandas, tuned": lambda: by_pandas(path, tuned=True),
    }


@cache
def log(n_rows: int, n_users: int, n_items: int) -> Path:
    """The log: distinct pairs in no order, ids of 13 and 11 characters, whole stars, a timestamp."""
    import polars as pl

    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp(prefix="deconrec-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    drawn = pl.Series(rng.integers(0, n_users * n_items, int(n_rows * 1.3)))
    pair = drawn.unique(maintain_order=True).head(n_rows).to_numpy()
    assert len(pair) == n_rows
    users = pl.Series([f"user-{k:08d}" for k in rng.permutation(n_users)])
    items = pl.Series([f"item/{k:06d}" for k in rng.permutation(n_items)])
    pl.DataFrame(
        {
            "user_id": users.gather(pair // n_items),
            "item_id": items.gather(pair % n_items),
            "rating": pl.Series(rng.integers(1, 6, n_rows)).cast(pl.Float32),
            "timestamp": rng.integers(1_600_000_000, 1_700_000_000, n_rows),
        }
    ).write_parquet(folder / "log.parquet", row_group_size=1 << 20)
    return folder / "log.parquet"


def by_deconrec(path: Path) -> tuple[Any, ...]:
    """What `compare`, `fit` and `data describe` read with."""
    from deconrec.data.dataset import Dataset

    data = Dataset.from_frames(path)
    return (*data.shape, len(data.biased), float(data.biased.rating.sum(dtype=np.float64)), False)


def by_pandas(path: Path, *, tuned: bool) -> tuple[Any, ...]:
    """Read, factorise with sorted ids, look for repeated pairs."""
    import pandas as pd
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    table = pd.read_parquet(path)
    user, users = pd.factorize(table["user_id"], sort=True)
    item, items = pd.factorize(table["item_id"], sort=True)
    if tuned:
        repeated = pd.Series(user * len(items) + item).duplicated().any()
    else:
        repeated = table.duplicated(["user_id", "item_id"]).any()
    return (
        len(users),
        len(items),
        len(table),
        float(table["rating"].to_numpy().sum(dtype=np.float64)),
        bool(repeated),
    )


def agree(results: dict[str, Any]) -> None:
    """All sides see the same log."""
    if len(set(results.values())) > 1:
        raise AssertionError(f"the sides disagree: {results}")
