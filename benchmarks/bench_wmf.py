"""A fit of WMF, against implicit's ALS: the same factors, rounds, penalty and weights, on the same pairs.

Ours is shown twice: three steps of conjugate gradients an update, which is what implicit does, and exact updates. Both
run in processes of their own. Quality is how well left-out pairs are found again: recall of them among the 20 best.
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

SAYS = "a fit of WMF with 64 factors, against implicit's ALS"
OURS = "deconrec, cg"
PEER_NAME = "implicit ALS"
PEER = "implicit"
TARGETS: dict[str, float] = {OURS: 0.8}
FULL = {"n_users": 50_000, "n_items": 10_000, "n_rows": 2_000_000, "dim": 64, "rounds": 15}
TINY = {"n_users": 200, "n_items": 60, "n_rows": 3000, "dim": 4, "rounds": 2}
REPETITIONS = 2
MEMORY = False  # the processes tell it themselves
WARM = False


def sides(n_users: int, n_items: int, n_rows: int, dim: int, rounds: int) -> dict[str, Callable[[], Any]]:
    """Every side runs in a process of its own."""
    folder = str(arrays(n_users, n_items, n_rows))
    here = Path(__file__).parent / "peers"

    def ours(solver: str) -> Callable[[], Any]:
        return partial(peer.ask, sys.executable, here / "ours_wmf.py", folder, str(dim), str(rounds), solver)

    theirs = partial(peer.ask, peer.python(PEER), here / "implicit_wmf.py", folder, str(dim), str(rounds))
    return {OURS: ours("cg"), "deconrec, exact": ours("exact"), PEER_NAME: theirs}


def agree(results: dict[str, Any]) -> None:
    """None finds a hundredth less than another, where enough was left out to tell."""
    found = {name: result.found["recall"] for name, result in results.items()}
    enough = results[OURS].found["held_out"] >= 1000
    if enough and max(found.values()) - min(found.values()) > 0.01:
        raise AssertionError(f"the sides disagree on how many left-out pairs they find: {found}")


@cache
def arrays(n_users: int, n_items: int, n_rows: int) -> Path:
    """Distinct pairs of users and items with 16 tastes; a pair of every tenth user is left out."""
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp(prefix="deconrec-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    taste, kind = rng.integers(0, 16, n_users), rng.integers(0, 16, n_items)
    share = (1 + np.arange(n_items)) ** -0.6
    user = rng.integers(0, n_users, 3 * n_rows)
    item = rng.choice(n_items, 3 * n_rows, p=share / share.sum())
    liked = rng.random(3 * n_rows) < np.where(taste[user] == kind[item], 0.9, 0.15)
    cell = rng.permutation(np.unique(user[liked] * n_items + item[liked]))[:n_rows]
    user, item = cell // n_items, cell % n_items
    order = np.argsort(user, kind="stable")
    user, item = user[order], item[order]
    last = np.append(user[1:] != user[:-1], True) & (user % 10 == 0)
    for name, array in {"user": user, "item": item}.items():
        np.save(folder / f"{name}.npy", array[~last])
        np.save(folder / f"held_{name}.npy", array[last])
    return folder
