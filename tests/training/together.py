"""Fits by processes that train together: `python together.py RANK SIZE PORT FOLDER`; a program, no test.

Every rank fits every case (or those that are named further), as the one process of SIZE 1 does, and leaves what was
learned as FOLDER/CASE.RANK.npz. `dying` is for the tests of launchers.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from torch.distributed import TCPStore

from deconrec.checks import cheap, fixtures
from deconrec.data.dataset import Dataset
from deconrec.data.split import UsersSplit, ValidationPart
from deconrec.methods import METHODS, make
from deconrec.torch_estimator import not_shared
from deconrec.training import distributed
from deconrec.training.checkpoints import Checkpoint
from deconrec.training.program import Mover

MORE = (  # other samplers, losses that are no sums over rows, tables of which rows are exchanged
    "res-dr:agreement=loss+shared=true",
    "res-dr:scheme=dl+epochs=22",
    "res-ips:agreement=loss+split_unbiased=true",
    "cause:tie=1.0",
    "kd-feature:mode=hint+weight=1.0",
    "deep-deconf:variational=true+hidden=8",
    "concat-vae:branch=0.3+hidden=8",
)
LARGE = "mf"  # whose tables count as large
IMPRESSIONS = ("escm2-dr", "snips", "mf")


def cases() -> dict[str, Any]:
    """A method by the name of its case: each one that workers can train together, cheaply, and `MORE`."""
    shared = {name: cheap(cls) for name, cls in METHODS.items() if not not_shared(cls())}
    for text in MORE:
        shared[text] = cheap(type(make(text))).set_text(
            dict(p.split("=") for p in text.split(":")[1].split("+"))
        )
    shared["large"] = cheap(METHODS[LARGE])
    return shared | {f"impressions {name}": cheap(METHODS[name]) for name in IMPRESSIONS}


def data_of(case: str, model: Any) -> tuple[Dataset, ValidationPart | None]:
    """What a case is fitted to, and what it is stopped by."""
    if case.startswith("impressions"):
        return fixtures.impressions(), None
    if model.tags.shape == "rows":
        parts = UsersSplit().apply(fixtures.rows_world())
        return parts.train, parts.validation
    return fixtures.confounded()[0], None


def main(rank: int, size: int, port: int, folder: Path, *only: str) -> None:
    """Fit all, or `only` some."""
    warnings.simplefilter("ignore")
    usual = distributed.LARGE
    store = None if size == 1 else TCPStore("127.0.0.1", port, is_master=rank == 0)
    with distributed.joined(rank, size, store):
        for case, model in cases().items():
            if only and case not in only:
                continue
            distributed.LARGE = 1 if case == "large" else usual
            data, validation = data_of(case, model)
            batch = min(model.get_params()["batch"], 20 if model.tags.shape == "rows" else 60)
            model.set_params(batch=batch, patience=0).fit(
                data, validation=validation, refit=validation is None
            )
            scores = np.array([epoch.get("score", 0.0) for epoch in model.history_])
            np.savez(folder / f"{file_of(case)}.{rank}.npz", scores=scores, **model._state())


def file_of(case: str) -> str:
    """A file's name of a case."""
    return "".join(c if c.isalnum() else "_" for c in case)


def dying(data: Dataset, folder: Path, times: int, rank: int, join: Any) -> dict[str, np.ndarray]:
    """A fit by several processes with a checkpoint after every step, of which rank 1 ends at step 9, so many `times`.

    Each attempt leaves the number of its steps as a line of FOLDER/steps.RANK.
    """
    Checkpoint.due = property(lambda self: self.writes)
    move, told, steps = Mover.move, folder / f"steps.{rank}", 0
    attempts = len(told.read_text().splitlines()) if told.exists() else 0

    def moved(mover: Mover, *given: Any) -> Any:
        nonlocal steps
        if rank == 1 and attempts < times and steps == 9:
            told.open("a").write(f"{steps}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return move(mover, *given)

    Mover.move = moved
    try:
        with join():
            model = make("mf:epochs=3+patience=0+batch=32").fit(data, checkpoint=folder / "kept")
        told.open("a").write(f"{steps}\n")
        return model._state()
    finally:
        Mover.move = move


def diverging(rank: int, join: Any) -> None:
    """A training that diverges, on every rank."""
    with join():
        make("mf:epochs=3+lr=1e30+error=squared").fit(fixtures.confounded()[0])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), *sys.argv[5:])
