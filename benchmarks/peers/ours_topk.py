"""WMF with given factors. Arguments: the folder of the arrays, users to recommend to."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import polars as pl
from benchmarks.peer import peak_mib

import deconrec as dc

folder, asked = sys.argv[1], int(sys.argv[2])
user, item, users, items = (np.load(f"{folder}/{name}.npy") for name in ("user", "item", "users", "items"))
log = pl.DataFrame({"user_id": user, "item_id": item, "rating": np.ones(len(user), np.int8)})
data = dc.Dataset.from_frames(log)
model = dc.WMF(dim=users.shape[1], iterations=1).fit(data, refit=False)
known = data.users.values.to_numpy()
model.user_factors_ = users[known]
model.item_factors_ = items[data.items.values.to_numpy()]
model.slope_, model.shift_ = 1.0, 0.0  # the map to outcomes, which is made too
some = data.users.values.filter(data.users.values < asked)

started = time.process_time()
lists = model.recommend(some, k=20)
ended = time.process_time()
head = lists.filter(pl.col("user_id") < 20)
print(
    json.dumps(
        {
            "seconds": ended - started,
            "lists": len(some),
            "checksum": float(head["item_id"].sum()),
            "peak_mib": peak_mib(),
        }
    )
)
