"""Steps of pair methods on a simulated log. Arguments: users, items, ratings, factors, steps that are timed."""

from __future__ import annotations

import json
import sys
import time
from itertools import islice

import numpy as np
import polars as pl
import torch
from benchmarks.peer import peak_mib

import deconrec as dc
from deconrec.pairs import NO_TABLES
from deconrec.random import numpy_generator
from deconrec.training.program import Adam, Mover
from deconrec.training.samplers import Source

METHODS = ("ips", "dr-jl", "escm2-dr", "res-dr")

torch.set_num_threads(1)
n_users, n_items, n_rows, dim, steps = map(int, sys.argv[1:6])
rng = np.random.default_rng(0)


def drawn(n: int, power: float) -> pl.DataFrame:
    """About n distinct pairs, the popularity of items a power of their rank."""
    share = np.cumsum((1.0 + np.arange(n_items)) ** -power)
    item = np.searchsorted(share, rng.random(n) * share[-1])
    cell = np.unique(rng.integers(0, n_users, n) * n_items + item)
    rating = (rng.random(len(cell)) < 0.3).astype(np.int8)
    return pl.DataFrame({"user_id": cell // n_items, "item_id": cell % n_items, "rating": rating})


started = time.process_time()
data = dc.Dataset.from_frames(drawn(n_rows, 0.6), unbiased=drawn(20_000, 0.0))
source = Source.of(data, NO_TABLES)
read = time.process_time() - started
n = len(data.biased)

per_million, each = 0.0, {}
for name in METHODS:
    model = dc.make(name).set_params(dim=dim, epochs=0)
    if name == "res-dr":
        model.set_params(agreement="loss")
    model.fit(data)
    sampler = model.sampler(data)
    programs = [phase for phase in model.program() if phase.start == 0 or phase.stop is None]
    movers = [Mover.of(s, model.nets_, Adam(model.lr, model.l2_)) for phase in programs for s in phase.steps]
    batches = sampler.batches(source, numpy_generator(0, "batches"), 0)
    rows = 0
    for k, batch in enumerate(islice(batches, steps + 1)):
        if k == 1:  # the first allocates
            started, rows = time.process_time(), 0
        for mover in movers:
            mover.move(model.nets_, batch)
        rows += len(batch.observed)
    each[name] = (time.process_time() - started) / rows * 1e6
    del model, movers, batches
print(
    json.dumps(
        {
            "seconds": sum(each.values()),
            "each": each,
            "read": read,
            "ratings": n,
            "peak_mib": peak_mib(),
        }
    )
)
