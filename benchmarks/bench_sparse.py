"""A catalogue of which no grid could be held: what a rating costs where there are ten times as many.

IPS, DR-JL, ESCM2-DR and Res-DR train on 1 M users x 100 k items (a grid of 400 GB in float32). Seconds are those of one
pass for each million ratings, by a few steps of it, in a process of its own. Memory is the peak of the whole process:
log, model and all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peer

SAYS = (
    "seconds of a pass for each million ratings: IPS, DR-JL, ESCM2-DR and Res-DR on a large sparse catalogue"
)
OURS = "50 M ratings"
PEER_NAME = "5 M ratings"
TARGETS: dict[str, float] = {OURS: 0.8}
FULL = {
    "n_users": 1_000_000,
    "n_items": 100_000,
    "few": 5_000_000,
    "many": 50_000_000,
    "dim": 16,
    "steps": 10,
}
TINY = {"n_users": 2000, "n_items": 500, "few": 2000, "many": 8000, "dim": 2, "steps": 1}
REPETITIONS = 1
MEMORY = False  # the processes tell it themselves
WARM = False


def sides(
    n_users: int, n_items: int, few: int, many: int, dim: int, steps: int
) -> dict[str, Callable[[], Any]]:
    """Both run in processes of their own."""
    script = Path(__file__).parent / "peers" / "ours_sparse.py"

    def side(n: int) -> Callable[[], Any]:
        told = (str(x) for x in (n_users, n_items, n, dim, steps))
        return partial(peer.ask, sys.executable, script, *told)

    return {OURS: side(many), PEER_NAME: side(few)}
