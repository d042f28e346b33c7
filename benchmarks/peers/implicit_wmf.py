"""ALS of implicit on pairs; its environment runs it. Arguments: the folder of the arrays, factors, rounds."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from benchmarks.peer import peak_mib
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

folder, dim, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
user, item, held_user, held_item = (
    np.load(f"{folder}/{name}.npy") for name in ("user", "item", "held_user", "held_item")
)
shape = max(user.max(), held_user.max()) + 1, max(item.max(), held_item.max()) + 1
matrix = csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=shape)

started = time.process_time()
model = AlternatingLeastSquares(
    factors=dim, iterations=rounds, alpha=41.0, regularization=0.01, random_state=0, num_threads=1
)
model.fit(matrix, show_progress=False)
seconds = time.process_time() - started
ids, _ = model.recommend(held_user, matrix[held_user], N=20, filter_already_liked_items=True)
print(
    json.dumps(
        {
            "seconds": seconds,
            "recall": float((ids == held_item[:, None]).any(1).mean()),
            "held_out": len(held_user),
            "peak_mib": peak_mib(),
        }
    )
)
