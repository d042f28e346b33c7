"""WMF on pairs. Arguments: the folder of the arrays, factors, rounds, solver."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import polars as pl
from benchmarks.peer import peak_mib

import deconrec as dc

folder, dim, rounds, solver = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
user, item, held_user, held_item = (
    np.load(f"{folder}/{name}.npy") for name in ("user", "item", "held_user", "held_item")
)
log = pl.DataFrame({"user_id": user, "item_id": item, "rating": np.ones(len(user), np.int8)})
data = dc.Dataset.from_frames(log)

started = time.process_time()
model = dc.WMF(dim=dim, iterations=rounds, solver=solver, alpha=40.0, l2=0.01).fit(
    data, validation=data.with_logs(data.biased.take(np.zeros(0, np.int64)))
)
seconds = time.process_time() - started
held = pl.DataFrame({"user_id": held_user, "item_id": held_item})
asked = held["user_id"].filter(held["user_id"].is_in(data.users.values.implode()))
found = model.recommend(asked, k=20).join(held, on=["user_id", "item_id"], how="semi")
print(
    json.dumps(
        {
            "seconds": seconds,
            "recall": len(found) / max(len(held), 1),
            "held_out": len(held),
            "peak_mib": peak_mib(),
        }
    )
)
