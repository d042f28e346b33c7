"""LensKit's ALS model with given factors; its environment runs it. Arguments: folder, users asked, users in all."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pandas as pd
import torch
from benchmarks.peer import peak_mib
from lenskit.als import ImplicitMFScorer
from lenskit.batch import recommend
from lenskit.data import from_interactions_df
from lenskit.pipeline import topn_pipeline

torch.set_num_threads(1)
folder, asked, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
user, item, users, items = (np.load(f"{folder}/{name}.npy") for name in ("user", "item", "users", "items"))
data = from_interactions_df(pd.DataFrame({"user_id": user, "item_id": item}))
scorer = ImplicitMFScorer(
    embedding_size=users.shape[1], epochs=1, use_ratings=False, user_embeddings="prefer"
)
pipeline = topn_pipeline(scorer, n=20)
pipeline.train(data)
scorer = pipeline.component("scorer")
scorer.user_embeddings = users[scorer.users.ids()]
scorer.item_embeddings = items[scorer.items.ids()]
some = np.unique(user[user < asked])
recommend(pipeline, [int(u) for u in some[:5]], n=20, n_jobs=1)  # warm

started = time.process_time()
lists = recommend(pipeline, [int(u) for u in some], n=20, n_jobs=1)
passed = time.process_time() - started
sums = [float(np.sum(lists.lookup(user_id=int(u)).ids())) for u in some[some < 20]]
print(
    json.dumps(
        {
            "seconds": passed * total / asked,
            "lists": len(some),
            "checksum": sum(sums),
            "peak_mib": peak_mib(),
        }
    )
)
