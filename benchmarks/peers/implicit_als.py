"""ALS of implicit on (user, item, rating) arrays, and the 20 best unseen items of users; its environment runs it.

Arguments: the folder of the arrays, factors, users to recommend to.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from benchmarks.peer import peak_mib
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

folder, factors, asked = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
user, item, rating = (np.load(f"{folder}/{name}.npy") for name in ("user", "item", "rating"))
matrix = csr_matrix((rating.astype(np.float32), (user, item)))

started = time.process_time()
model = AlternatingLeastSquares(factors=factors, random_state=0, num_threads=1)
model.fit(matrix, show_progress=False)
fitted = time.process_time()
some = np.unique(user[user < asked])
ids, _ = model.recommend(some, matrix[some], N=20, filter_already_liked_items=True)
ended = time.process_time()
print(
    json.dumps(
        {
            "seconds": ended - started,
            "fit": fitted - started,
            "recommend": ended - fitted,
            "lists": len(ids),
            "peak_mib": peak_mib(),
        }
    )
)
