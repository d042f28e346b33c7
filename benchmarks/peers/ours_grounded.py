"""grounded-gp on the same arrays, and the same lists. Arguments: the folder, latent factors, users to recommend to."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import polars as pl
import torch
from benchmarks.peer import peak_mib

import deconrec as dc

torch.set_num_threads(1)
folder, dim, asked = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
log = pl.DataFrame({f"{name}_id": np.load(f"{folder}/{name}.npy") for name in ("user", "item")}).with_columns(
    rating=pl.Series(np.load(f"{folder}/rating.npy"))
)
data = dc.Dataset.from_frames(log)
del log

started = time.process_time()
model = dc.GroundedGP(dim=dim).fit(data, refit=True)
fitted = time.process_time()
lists = model.recommend(data.users.values.filter(data.users.values < asked), k=20)
ended = time.process_time()
print(
    json.dumps(
        {
            "seconds": ended - started,
            "fit": fitted - started,
            "recommend": ended - fitted,
            "lists": lists["user_id"].n_unique(),
            "peak_mib": peak_mib(),
        }
    )
)
