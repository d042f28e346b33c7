"""NDCG@10 and Recall@10 by ranx or jurity; their environment runs it. Arguments: the folder of the arrays, which one.

Timed is the evaluation alone, twice: ranx compiles itself first, and both are given inputs of their own kind.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pandas as pd
from benchmarks.peer import peak_mib

folder, which = sys.argv[1], sys.argv[2]
user, item, score, true_user, true_item = (
    np.load(f"{folder}/{name}.npy") for name in ("user", "item", "score", "true_user", "true_item")
)
K = 10

if which == "ranx":
    from ranx import Qrels, Run, evaluate

    relevant = pd.DataFrame({"q": true_user.astype(str), "d": true_item.astype(str), "r": 1})
    listed = pd.DataFrame({"q": user.astype(str), "d": item.astype(str), "s": score})
    qrels = Qrels.from_df(relevant, q_id_col="q", doc_id_col="d", score_col="r")
    run = Run.from_df(listed, q_id_col="q", doc_id_col="d", score_col="s")

    def work() -> tuple[float, float]:
        found = evaluate(qrels, run, [f"ndcg@{K}", f"recall@{K}"], threads=1)
        return float(found[f"ndcg@{K}"]), float(found[f"recall@{K}"])
else:
    from jurity.recommenders import RankingRecoMetrics

    actual = pd.DataFrame({"user": true_user, "item": true_item, "clicks": 1})
    predicted = pd.DataFrame({"user": user, "item": item, "clicks": score})
    names = {"click_column": "clicks", "k": K, "user_id_column": "user", "item_id_column": "item"}

    def work() -> tuple[float, float]:
        found = (
            getattr(RankingRecoMetrics, name)(**names).get_score(actual, predicted)
            for name in ("NDCG", "Recall")
        )
        ndcg, recall = found
        return float(ndcg), float(recall)


work()
started = time.process_time()
ndcg, recall = work()
print(
    json.dumps(
        {
            "seconds": time.process_time() - started,
            "ndcg": ndcg,
            "recall": recall,
            "peak_mib": peak_mib(),
        }
    )
)
