"""NDCG@10 of many short lists: ours, a polars join, and scikit-learn's function called user by user."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SAYS = "NDCG@10 of every user: ours, a polars join, and sklearn.metrics.ndcg_score in a loop over users"
OURS = "deconrec"
PEER_NAME = "scikit-learn loop"
TARGETS: dict[str, float] = {}
FULL = {"n_users": 10_000, "n_recs": 50, "n_relevant": 10}
TINY = {"n_users": 20, "n_recs": 15, "n_relevant": 4}
REPETITIONS = 5
MEMORY = True
K = 10


def sides(n_users: int, n_recs: int, n_relevant: int) -> dict[str, Callable[[], float]]:
    """Ours and the join start from two tables (recommended rows, relevant pairs); scikit-learn is given the labels."""
    import polars as pl
    from sklearn.metrics import ndcg_score

    from deconrec.evaluation import ranking

    rng = np.random.default_rng(0)
    n_items = 10 * n_recs
    user = np.repeat(np.arange(n_users), n_recs)
    item = np.argsort(rng.random((n_users, n_items)), axis=1)[:, :n_recs].reshape(-1)
    score = rng.random(len(user))
    chosen = np.argsort(rng.random((n_users, n_recs)), axis=1)[:, :n_relevant]
    relevant_user = np.repeat(np.arange(n_users), n_relevant)
    relevant_item = np.take_along_axis(item.reshape(n_users, n_recs), chosen, axis=1).reshape(-1)
    recs = pl.DataFrame({"user": user, "item": item, "score": score})
    truth = pl.DataFrame(
        {"user": relevant_user, "item": relevant_item, "hit": np.ones(len(relevant_user), np.int8)}
    )
    labels = np.zeros((n_users, n_recs))
    np.put_along_axis(labels, chosen, 1.0, axis=1)
    scores = score.reshape(n_users, n_recs)
    ideal = (1 / np.log2(np.arange(2, min(n_relevant, K) + 2))).sum()

    def ours() -> float:
        label = np.isin(user * n_items + item, relevant_user * n_items + relevant_item)
        return ranking.shown(user, score, label, K, "ndcg").mean

    def polars_join() -> float:
        ranked = recs.with_columns(
            pl.col("score").rank("ordinal", descending=True).over("user").alias("rank")
        )
        hits = ranked.filter(pl.col("rank") <= K).join(truth, on=["user", "item"])
        gain = hits.group_by("user").agg((1 / (pl.col("rank") + 1).log(2)).sum().alias("gain"))
        return float(gain["gain"].sum() / ideal / n_users)

    def sklearn_loop() -> float:
        return float(np.mean([ndcg_score(labels[u : u + 1], scores[u : u + 1], k=K) for u in range(n_users)]))

    return {"deconrec": ours, "polars join": polars_join, "scikit-learn loop": sklearn_loop}


def agree(results: dict[str, float]) -> None:
    """All three must have computed the same number."""
    if not np.allclose(list(results.values()), results["deconrec"], atol=1e-9):
        raise AssertionError(f"the sides disagree: {results}")
