"""An epoch of Concat-VAE without features, which is a MultiVAE, against RecBole's MultiVAE of the same layers.

RecBole trains in a process of its own with its own data loader and trainer; timed is its training epoch alone.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peer

SAYS = "an epoch of Concat-VAE as a MultiVAE, against RecBole's MultiVAE"
OURS = "deconrec"
PEER_NAME = "RecBole MultiVAE"
PEER = "recbole"
TARGETS: dict[str, float] = {OURS: 5.0}
FULL = {"n_users": 6000, "n_items": 3706, "dim": 100, "exposure_rate": 0.045, "epochs": 3}
TINY = {"n_users": 60, "n_items": 30, "dim": 4, "exposure_rate": 0.2, "epochs": 1}
REPETITIONS = 3
MEMORY = False  # the peer's process tells it itself
WARM = False
BATCH = 500


def sides(
    n_users: int, n_items: int, dim: int, exposure_rate: float, epochs: int
) -> dict[str, Callable[[], Any]]:
    """Ours trains in this process."""
    import polars as pl

    import deconrec as dc
    from deconrec.pairs import NO_TABLES
    from deconrec.training.program import Adam
    from deconrec.training.samplers import Blocks, Source
    from deconrec.training.trainer import Trainer

    user, item = pairs(n_users, n_items, exposure_rate)
    log = pl.DataFrame({"user_id": user, "item_id": item, "rating": np.ones(len(user), np.int8)})
    data = dc.Dataset.from_frames(log)
    source, blocks = Source.of(data, NO_TABLES), Blocks(min(BATCH, n_users))
    model = dc.ConcatVAE(hidden=(dim,), variational=True, epochs=0).fit(data)
    trainer, program = Trainer(epochs, Adam(1e-3)), model.program()
    script = Path(__file__).parent / "peers" / "recbole_multivae.py"
    told = (str(folder(n_users, n_items, exposure_rate)), str(dim), str(epochs), str(BATCH))
    return {
        OURS: lambda: trainer.run(model.nets_, program, blocks, source),
        PEER_NAME: partial(peer.ask, peer.python(PEER), script, *told),
    }


@cache
def pairs(n_users: int, n_items: int, exposure_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (user, item): popularity falls as a power."""
    rng = np.random.default_rng(0)
    rate = (1 + np.arange(n_items)) ** -0.5
    rate = np.minimum(rate / rate.mean() * exposure_rate, 0.9)
    return np.nonzero(rng.random((n_users, n_items)) < rate)


@cache
def folder(n_users: int, n_items: int, exposure_rate: float) -> Path:
    """The same pairs as RecBole reads them."""
    out = Path(tempfile.mkdtemp(prefix="deconrec-bench-"))
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    user, item = pairs(n_users, n_items, exposure_rate)
    (out / "bench").mkdir()
    rows = "\n".join(f"{u}\t{i}" for u, i in zip(user, item, strict=True))
    (out / "bench" / "bench.inter").write_text(f"user_id:token\titem_id:token\n{rows}\n")
    return out
