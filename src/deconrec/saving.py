"""Saved models: a folder of JSON, safetensors and Parquet. Nothing in it can run code, and no pickle is read.

model.json            class, parameters, sizes, task, versions, how it was trained
arrays.safetensors    learned arrays, the seen pairs, the fallback's means
users.parquet, items.parquet   raw ids in the order of the codes
categories.parquet    of a model of impressions: the categories of its context, with their counts
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from scipy.sparse import csr_matrix

from deconrec.data.context import Schema
from deconrec.data.dataset import OutcomeScale, Task
from deconrec.data.files import replaced_folder
from deconrec.data.ids import Vocabulary
from deconrec.errors import FileError

if TYPE_CHECKING:
    from deconrec.base import Estimator

MARKER = "model.json"
CATEGORIES = "categories.parquet"
FORMAT = 1
# What reading a damaged file, or arrays that do not fit the parameters, comes out as (torch: RuntimeError).
_DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError),
    *(SafetensorError, pl.exceptions.PolarsError),
)


def save_model(model: Estimator, folder: Path) -> Path:
    """Write a fitted model; the work behind `Estimator.save`."""
    from safetensors.numpy import save_file

    from deconrec import __version__

    state = {f"state.{k}": v for k, v in model._state().items()}
    state |= {
        "seen.indptr": model.seen_.indptr.astype(np.int64),
        "seen.indices": model.seen_.indices.astype(np.int32),
        "item_mean": model.item_mean_,
        "covered_users": model.covered_users_.astype(np.uint8),
        "covered_items": model.covered_items_.astype(np.uint8),
    }
    spec = model.spec_
    history = getattr(model, "history_", None)
    about: dict[str, Any] = {
        "format": FORMAT,
        "deconrec": __version__,
        "class": type(model).__name__,
        "module": type(model).__module__,
        "params": model.describe(),
        "spec": {
            "n_users": spec.n_users,
            "n_items": spec.n_items,
            "n_user_features": spec.n_user_features,
            "n_item_features": spec.n_item_features,
            "n_row_features": spec.n_row_features,
            "mean_outcome": spec.mean_outcome,
            "density": spec.density,
            "n_impressions": spec.n_impressions,
            "n_columns": spec.n_columns,
            "n_places": spec.n_places,
        },
        "context": None if model.context_ is None else model.context_.to_dict(),
        "task": asdict(model.task_),
        "scale": asdict(model.scale_),
        "mean": model.mean_,
        "fingerprint": model.fingerprint_,
        "unbiased_rows": model.unbiased_rows_,
        "seconds": model.seconds_,
        "history": None if history is None else history.to_dict(),
    }
    with replaced_folder(folder, MARKER) as new:
        save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, new / "arrays.safetensors")
        for vocabulary in (model.users_, model.items_):
            pl.DataFrame({vocabulary.kind: vocabulary.values}).write_parquet(
                new / f"{vocabulary.kind}s.parquet"
            )
        if model.context_ is not None:
            model.context_.frame().write_parquet(new / CATEGORIES)
        (new / MARKER).write_text(json.dumps(about, indent=1, allow_nan=False, default=float))
    return folder


def _placed(params: dict[str, Any], device: str | None) -> dict[str, str]:
    """The device parameter of a model that is loaded here: as asked for, as trained, or else the CPU."""
    if "device" not in params:
        return {}
    if device is not None:
        return {"device": device}
    import torch

    try:
        torch.empty(0, device=params["device"])
    except (RuntimeError, AssertionError, NotImplementedError):  # trained on a device that is not here
        return {"device": "cpu"}
    return {}


def load_model(
    path: str | Path, *, cls: type[Estimator] | None = None, device: str | None = None
) -> Estimator:
    """A model from its folder, ready to answer.

    Parameters
    ----------
    path: the folder.
    device: where the model answers; None = where it was trained, or the CPU if that is not here.
    cls: the class of a method from outside this library; a saved model names only methods that we ship.

    Raises
    ------
    FileError: no saved model, one of a later format, or a damaged file.
    """
    from safetensors.numpy import load_file

    from deconrec.base import Spec
    from deconrec.methods import CLASSES, METHODS

    folder = Path(path)
    if not (folder / MARKER).is_file():
        raise FileError(f"'{folder}' is no saved model: it has no {MARKER}. Make one with model.save(path).")
    try:
        about = json.loads((folder / MARKER).read_text())
        if about["format"] > FORMAT:
            raise FileError(
                f"'{folder}' was saved by deconrec {about['deconrec']} in format {about['format']}; this version reads "
                f"up to {FORMAT}. Install that version or later."
            )
        if cls is None:
            module = about["module"].removeprefix("deconrec.methods.")
            keys = [k for k, place in CLASSES.items() if place == (module, about["class"])]
            if not keys:
                raise FileError(
                    f"'{folder}' holds a '{about['class']}', which is no method of this version; pass its class: "
                    "load_model(path, cls=...)."
                )
            cls = METHODS[keys[0]]
        if cls.__name__ != about["class"]:
            raise FileError(
                f"'{folder}' holds a '{about['class']}', not a '{cls.__name__}'; use deconrec.load_model."
            )
        model = cls.rebuild(about["params"] | _placed(about["params"], device))
        arrays = load_file(folder / "arrays.safetensors")
        model.users_, model.items_ = (
            Vocabulary(pl.read_parquet(folder / f"{kind}s.parquet")[kind], kind) for kind in ("user", "item")
        )
        task = about["task"]
        if task["rating_range"] is not None:
            task["rating_range"] = tuple(task["rating_range"])
        model.task_ = Task(**task | {"unbiased_split": tuple(task["unbiased_split"])})
        model.scale_, model.spec_ = OutcomeScale(**about["scale"]), Spec(**about["spec"])
        context = about.get("context")
        model.context_ = (
            None if context is None else Schema.rebuilt(context, pl.read_parquet(folder / CATEGORIES))
        )
        model.mean_, model.fingerprint_ = about["mean"], about["fingerprint"]
        model.unbiased_rows_, model.seconds_ = about["unbiased_rows"], about["seconds"]
        indices = arrays["seen.indices"]
        model.seen_ = csr_matrix(
            (np.ones(len(indices), np.float32), indices, arrays["seen.indptr"]), shape=model.spec_.shape
        )
        model.item_mean_ = arrays["item_mean"]
        model.covered_users_ = arrays["covered_users"].astype(bool)
        model.covered_items_ = arrays["covered_items"].astype(bool)
        if about["history"] is not None:
            from deconrec.training.program import History

            model.history_ = History(**about["history"])  # type: ignore[attr-defined]  # it was trained
        model._restore({k.removeprefix("state."): v for k, v in arrays.items() if k.startswith("state.")})
    except _DAMAGE as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"the saved model '{folder}' is damaged: {type(error).__name__}: {error}") from error
    return model
