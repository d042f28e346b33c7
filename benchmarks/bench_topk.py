"""The 20 best items of every user from factors, pairs of the log left out: ours, implicit's and LensKit's recommenders.

Factors are given, not learned: each side reads the same arrays into a model of its own. Timed is the making of lists.
LensKit, which goes user by user, makes those of a part; its seconds are of that part, times what is left out.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peer

SAYS = "20 items for every user from 64 factors, seen pairs left out"
OURS = "deconrec"
PEER_NAME = "implicit"
PEER = "implicit"
ALSO = "lenskit"
TARGETS: dict[str, float] = {OURS: 1.0}
FULL = {"n_users": 100_000, "n_items": 20_000, "n_rows": 2_000_000, "dim": 64, "lenskit_part": 0.02}
TINY = {"n_users": 200, "n_items": 100, "n_rows": 1000, "dim": 4, "lenskit_part": 0.5}
REPETITIONS = 2
MEMORY = False  # the processes tell it themselves
WARM = False


def sides(
    n_users: int, n_items: int, n_rows: int, dim: int, lenskit_part: float
) -> dict[str, Callable[[], Any]]:
    """Every side runs in a process of its own."""
    import sys

    given = str(arrays(n_users, n_items, n_rows, dim))
    here = Path(__file__).parent / "peers"
    out = {
        OURS: partial(peer.ask, sys.executable, here / "ours_topk.py", given, str(n_users)),
        PEER_NAME: partial(peer.ask, peer.python(PEER), here / "implicit_topk.py", given, str(n_users)),
    }
    if peer.ready(ALSO) or n_users == FULL["n_users"]:
        asked = str(round(n_users * lenskit_part))
        out["LensKit"] = partial(
            peer.ask, peer.python(ALSO), here / "lenskit_topk.py", given, asked, str(n_users)
        )
    return out


def agree(results: dict[str, Any]) -> None:
    """The same lists, but where two scores are equal to single precision."""
    first = results[OURS].found["checksum"]
    for name, result in results.items():
        if abs(result.found["checksum"] - first) > 1e-3 * abs(first):
            raise AssertionError(f"the sides disagree on the best items of the first users: {name}")


@cache
def arrays(n_users: int, n_items: int, n_rows: int, dim: int) -> Path:
    """Distinct pairs, and normal factors of users and items."""
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp(prefix="deconrec-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    cell = np.unique(rng.integers(0, n_users * n_items, n_rows))
    np.save(folder / "user.npy", cell // n_items)
    np.save(folder / "item.npy", cell % n_items)
    np.save(folder / "users.npy", rng.normal(size=(n_users, dim)).astype(np.float32) / dim**0.5)
    np.save(folder / "items.npy", rng.normal(size=(n_items, dim)).astype(np.float32))
    return folder
