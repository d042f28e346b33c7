"""grounded-gp on a large log: the fit and 20 items for every user, against implicit's ALS.

Both run in processes of their own with one thread, from the same arrays. Timed are the fit and the lists. Ours draws
from a posterior (variances, intervals and all), the peer finds one point; at its default, ours has fewer latent factors
than `rank`, and features of exposures beside them. Peaks are those of the whole processes, interpreter and data with
them.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peer

SAYS = "grounded-gp: a fit and 20 items for every user, against implicit's ALS with as many factors"
OURS = "grounded-gp"
PEER_NAME = "implicit ALS"
TARGETS: dict[str, float] = {OURS: 0.1}  # at most ten times its time
PEER = "implicit"
FULL = {"n_users": 100_000, "n_items": 20_000, "n_rows": 10_000_000, "rank": 32, "default_dim": True}
TINY = {"n_users": 300, "n_items": 80, "n_rows": 4000, "rank": 4, "default_dim": False}
REPETITIONS = 1
MEMORY = False  # the processes tell it themselves
WARM = False  # a process of its own has nothing to warm up


def sides(
    n_users: int, n_items: int, n_rows: int, rank: int, default_dim: bool
) -> dict[str, Callable[[], Any]]:
    """default_dim: also with the method's default number of latent factors."""
    folder = str(arrays(n_users, n_items, n_rows))
    here = Path(__file__).parent / "peers"
    theirs = partial(peer.ask, peer.python(PEER), here / "implicit_als.py", folder, str(rank), str(n_users))

    def ours(dim: int) -> Callable[[], Any]:
        return partial(peer.ask, sys.executable, here / "ours_grounded.py", folder, str(dim), str(n_users))

    default = {"grounded-gp, its default dim": ours(8)} if default_dim else {}
    return {OURS: ours(rank), **default, PEER_NAME: theirs}


@cache
def arrays(n_users: int, n_items: int, n_rows: int) -> Path:
    """user, item, rating of distinct pairs: popularity falls as a power, ratings 1 to 5 follow 8 factors."""
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp(prefix="deconrec-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    share = (1 + np.arange(n_items)) ** -0.6
    active = rng.lognormal(sigma=0.8, size=n_users)
    draws = int(1.6 * n_rows)
    user = rng.choice(n_users, draws, p=active / active.sum())
    item = rng.choice(n_items, draws, p=share / share.sum())
    pair = np.unique(user * n_items + item)
    pair = np.sort(rng.choice(pair, min(n_rows, len(pair)), replace=False))
    user, item = pair // n_items, pair % n_items
    p, q = (rng.standard_normal((n, 8)).astype(np.float32) for n in (n_users, n_items))
    taste = np.empty(len(user), np.float32)
    for start in range(0, len(user), 1 << 20):
        part = slice(start, start + (1 << 20))
        taste[part] = np.einsum("nk,nk->n", p[user[part]], q[item[part]])
    score = 3.3 + 0.35 * taste + 0.8 * rng.standard_normal(len(user))
    rating = np.clip(np.rint(score), 1, 5).astype(np.float32)
    for name, values in (("user", user), ("item", item), ("rating", rating)):
        np.save(folder / f"{name}.npy", values)
    return folder


def agree(results: dict[str, peer.Elsewhere]) -> None:
    """Every side gave a list to everybody."""
    if len({one.found["lists"] for one in results.values()}) > 1:
        raise AssertionError(f"the sides disagree: {results}")
