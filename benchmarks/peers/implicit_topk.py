"""implicit's ALS model with given factors; its environment runs it. Arguments as of `ours_topk`."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from benchmarks.peer import peak_mib
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

folder, asked = sys.argv[1], int(sys.argv[2])
user, item, users, items = (np.load(f"{folder}/{name}.npy") for name in ("user", "item", "users", "items"))
matrix = csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=(len(users), len(items)))
model = AlternatingLeastSquares(factors=users.shape[1], num_threads=1)
model.user_factors, model.item_factors = users, items
some = np.unique(user[user < asked])

started = time.process_time()
parts = []
for start in range(0, len(some), 1000):  # as its manual advises: a batch at a time
    part = some[start : start + 1000]
    parts.append(model.recommend(part, matrix[part], N=20, filter_already_liked_items=True)[0])
ids = np.concatenate(parts)
ended = time.process_time()
print(
    json.dumps(
        {
            "seconds": ended - started,
            "lists": len(ids),
            "checksum": float(ids[some < 20].sum()),
            "peak_mib": peak_mib(),
        }
    )
)
