"""What is saved: a model that answers the same when it is loaded, in files that cannot run code.

Each check takes an unfitted estimator and raises CheckFailed, whose message says the repair.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from deconrec.base import Estimator
from deconrec.checks.bench import bench, equal_numbers, other_random_state, require


def check_save_load(estimator: Estimator) -> None:
    """A saved and loaded model gives the same bits, to known and to folded-in users."""
    from deconrec.saving import load_model

    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who = type(estimator).__name__
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        with other_random_state() as read:
            before = read()
            again = load_model(Path(folder) / "model", cls=type(estimator))
            require(
                read() == before, f"loading {who} moved a global random generator; wrap `nets()` in fork_rng."
            )
    require(repr(again) == repr(model), f"a loaded {who} has other parameters: {again!r}.")
    hint = "`_state` must hold everything that `_restore` needs."
    require(equal_numbers(model, again, data), f"a loaded {who} gives other numbers; {hint}")
    require(
        model.recommend(k=4).equals(again.recommend(k=4)),
        f"a loaded {who} recommends other items (or seen ones).",
    )
    require(
        again.unbiased_rows_ == model.unbiased_rows_,
        f"a loaded {who} forgot how many unbiased rows it consumed.",
    )
    if estimator.tags.fold_in:
        history = pl.DataFrame(
            {"user_id": ["new"] * 2, "item_id": data.items.values[:2], "rating": [1.0, 0.0]}
        )
        require(
            np.array_equal(model.score(history=history), again.score(history=history)),
            f"a loaded {who} folds new users in otherwise; {hint}",
        )


def check_saved_files(estimator: Estimator) -> None:
    """A saved model is JSON and safetensors: nothing that can run code when it is read."""
    magic = {".json": b"{"}
    with tempfile.TemporaryDirectory() as folder:
        bench(estimator).fitted().save(Path(folder) / "model")
        files = [path for path in (Path(folder) / "model").rglob("*") if path.is_file()]
        for path in files:
            ok = path.suffix in (".json", ".safetensors")
            start = path.read_bytes()[: len(magic.get(path.suffix, b""))]
            require(
                ok and start == magic.get(path.suffix, b""),
                f"{type(estimator).__name__} saved '{path.name}'; keep arrays in `_state` and nothing else "
                "on disk.",
            )
        require(files, f"{type(estimator).__name__} saved no file.")


SAVING = (
    check_save_load,
    check_saved_files,
)
