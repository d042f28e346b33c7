"""NDCG@10 and Recall@10 of many lists: ours, a polars join, ranx and jurity.

Each starts from inputs of its own kind, whose making is not timed: rows with scores and labels (ours), two tables (the
join and jurity), compiled dictionaries of sorted lists (ranx). ranx and jurity run in processes of their own, warm.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peer

SAYS = "NDCG@10 and Recall@10 of every user: ours, a polars join, ranx and jurity"
OURS = "deconrec"
PEER_NAME = "ranx"
PEER = "metrics"
TARGETS: dict[str, float] = {OURS: 20.0}
FULL = {"n_users": 100_000, "n_recs": 50, "n_relevant": 10}
TINY = {"n_users": 20, "n_recs": 15, "n_relevant": 4}
REPETITIONS = 2
MEMORY = False  # the peers' processes tell it themselves
K = 10


def sides(n_users: int, n_recs: int, n_relevant: int) -> dict[str, Callable[[], Any]]:
    """What is relevant is among what was listed."""
    import polars as pl

    from deconrec.evaluation import ranking

    rng = np.random.default_rng(0)
    n_items = 10 * n_recs
    user = np.repeat(np.arange(n_users), n_recs)
    item = np.argsort(rng.random((n_users, n_items), np.float32), axis=1)[:, :n_recs].reshape(-1)
    score = rng.random(len(user))
    chosen = np.argsort(rng.random((n_users, n_recs)), axis=1)[:, :n_relevant]
    relevant_user = np.repeat(np.arange(n_users), n_relevant)
    relevant_item = np.take_along_axis(item.reshape(n_users, n_recs), chosen, axis=1).reshape(-1)
    recs = pl.DataFrame({"user": user, "item": item, "score": score})
    truth = pl.DataFrame(
        {"user": relevant_user, "item": relevant_item, "hit": np.ones(len(relevant_user), np.int8)}
    )
    ideal = (1 / np.log2(np.arange(2, min(n_relevant, K) + 2))).sum()

    label = np.isin(user * n_items + item, relevant_user * n_items + relevant_item)

    def ours() -> dict[str, float]:
        placed = ranking.place(user, score, label)
        return {name: placed.values(name, K).mean for name in ("ndcg", "recall")}

    def polars_join() -> dict[str, float]:
        ranked = recs.with_columns(
            pl.col("score").rank("ordinal", descending=True).over("user").alias("rank")
        )
        hits = ranked.filter(pl.col("rank") <= K).join(truth, on=["user", "item"])
        gain = hits.group_by("user").agg((1 / (pl.col("rank") + 1).log(2)).sum().alias("gain"))
        return {
            "ndcg": float(gain["gain"].sum() / ideal / n_users),
            "recall": len(hits) / n_relevant / n_users,
        }

    folder = tempfile.mkdtemp(prefix="deconrec-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    arrays = {"user": user, "item": item, "score": score}
    for name, array in (arrays | {"true_user": relevant_user, "true_item": relevant_item}).items():
        np.save(f"{folder}/{name}.npy", array)
    script = Path(__file__).parent / "peers" / "metrics.py"
    theirs = {name: partial(peer.ask, peer.python(PEER), script, folder, name) for name in ("ranx", "jurity")}
    return {OURS: ours, "polars join": polars_join, **theirs}


def agree(results: dict[str, Any]) -> None:
    """All must have computed the same two numbers."""
    found = {name: result if isinstance(result, dict) else result.found for name, result in results.items()}
    for name in ("ndcg", "recall"):
        if not np.allclose([f[name] for f in found.values()], found[OURS][name], atol=1e-9):
            raise AssertionError(f"the sides disagree on {name}: {found}")
