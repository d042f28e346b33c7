"""Saved models: a folder of JSON and safetensors. Nothing in it can run code, and no pickle is read.

model.json            class, parameters, sizes, task, versions, where it comes from, checksums; its own is its seal
arrays.safetensors    learned arrays, ids in the order of the codes, the seen pairs, the fallback's means

Format 1 (before the checksums) kept the ids in Parquet files of their own; it is read still.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from deconrec.data.context import Schema
from deconrec.data.dataset import OutcomeScale, Task
from deconrec.data.ids import Vocabulary
from deconrec.data.sealed import LARGEST_JSON, OpenFolder, check, checksum, seal
from deconrec.data.tensors import checked_csr, read_tensors, text_arrays, text_of
from deconrec.data.writing import replaced_folder
from deconrec.errors import Error, FileError, MissingExtra

if TYPE_CHECKING:
    from deconrec.base import Estimator

MARKER = "model.json"
ARRAYS = "arrays.safetensors"
FORMAT = 2
# What reading a damaged file, or arrays that do not fit the parameters, comes out as (torch: RuntimeError).
_DAMAGE: tuple[type[BaseException], ...] = (
    *(
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
        ArithmeticError,
    ),
    *(AssertionError, Error),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)
_SPEC = (
    *("n_users", "n_items", "n_user_features", "n_item_features", "n_row_features"),
    *("mean_outcome", "density", "n_impressions", "n_columns", "n_places"),
)
Arrays = dict[str, np.ndarray]


def save_model(model: Estimator, folder: Path) -> Path:
    """Write a fitted model; the work behind `Estimator.save`."""
    from safetensors.numpy import save_file

    from deconrec import __version__

    arrays: Arrays = {f"state.{k}": v for k, v in model._state().items()}
    arrays |= {
        "seen.indptr": model.seen_.indptr.astype(np.int64),
        "seen.indices": model.seen_.indices.astype(np.int32),
        "item_mean": model.item_mean_,
        "covered_users": model.covered_users_.astype(np.uint8),
        "covered_items": model.covered_items_.astype(np.uint8),
    }
    for vocabulary in (model.users_, model.items_):
        arrays |= text_arrays(f"ids.{vocabulary.kind}", vocabulary.values)
    if model.context_ is not None:
        arrays |= _categories(model.context_)
    history = getattr(model, "history_", None)
    about: dict[str, Any] = {
        "format": FORMAT,
        "deconrec": __version__,
        "class": type(model).__name__,
        "module": type(model).__module__,
        "params": model.describe(),
        "spec": {name: getattr(model.spec_, name) for name in _SPEC},
        "context": None if model.context_ is None else model.context_.to_dict(),
        "task": asdict(model.task_),
        "scale": asdict(model.scale_),
        "mean": model.mean_,
        "fingerprint": model.fingerprint_,
        "unbiased_rows": model.unbiased_rows_,
        "seconds": model.seconds_,
        "history": None if history is None else history.to_dict(),
        "about": model.about_,
    }
    with replaced_folder(folder, MARKER) as new:
        save_file({k: np.asarray(v, order="C") for k, v in arrays.items()}, new / ARRAYS)
        about["files"] = {ARRAYS: checksum(new / ARRAYS)}
        about = json.loads(json.dumps(about, allow_nan=False, default=float))
        (new / MARKER).write_text(json.dumps(about | {"seal": seal(about)}, indent=1, allow_nan=False))
        # safetensors writes for its owner alone; a service may run as somebody else, as other outputs allow.
        (new / ARRAYS).chmod((new / MARKER).stat().st_mode)
        for name in (ARRAYS, MARKER):
            with (new / name).open("rb") as file:
                os.fsync(file.fileno())
    return folder


def read_about(path: str | Path) -> dict[str, Any]:
    """What model.json says of a saved model, checked against its seal, no array read.

    Keys: format, deconrec (the version that wrote it), class, params, spec, task, scale, fingerprint (of the rows that
    trained), unbiased_rows, seconds, history, about (data, protocol, features, diagnosis), files (checksums), and seal,
    which stands for the whole model: its arrays are in it by their checksum.

    Raises
    ------
    FileError: see `load_model`.
    """
    with OpenFolder(_existing(Path(path))) as folder:
        return _guarded(folder, lambda: _about(folder))


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
    place = _existing(Path(path))
    for turn in range(3):
        with OpenFolder(place) as folder:
            try:
                return _guarded(folder, lambda: _load(folder, cls, device))
            except FileError:
                # The model may have been replaced between its two files: the new one is then read from the start.
                if turn == 2 or not folder.replaced:
                    raise
                place = _existing(Path(path))
    raise AssertionError("unreachable")


def _existing(folder: Path) -> Path:
    if not (folder / MARKER).is_file():
        raise FileError(f"'{folder}' is no saved model: it has no {MARKER}. Make one with model.save(path).")
    return folder


def _guarded(folder: OpenFolder, read: Callable[[], Any]) -> Any:
    """What `read` gives; whatever a damaged file does comes out as a FileError."""
    try:
        return read()
    except (FileError, MissingExtra):
        raise
    except _DAMAGE as error:
        said = str(error).splitlines()[0] if str(error) else "no reason given"
        raise FileError(
            f"the saved model '{folder.path}' is damaged: {type(error).__name__}: {said}"
        ) from error


# ---------------------------------------------------------------------- reading
def _about(folder: OpenFolder) -> dict[str, Any]:
    about = json.loads(folder.read(MARKER, most=LARGEST_JSON).decode("utf-8"))
    if not isinstance(about, dict):
        raise ValueError(f"{MARKER} must hold a JSON object")
    if type(about["format"]) is not int or about["format"] < 1:
        raise ValueError(f"the format must be a whole number >= 1; got {about['format']!r}")
    if about["format"] > FORMAT:
        raise FileError(
            f"'{folder.path}' was saved by deconrec {about['deconrec']} in format {about['format']}; this version "
            f"reads up to {FORMAT}. Install that version or later."
        )
    if about["format"] >= 2 and about["seal"] != seal(about):
        raise ValueError(f"{MARKER} was changed after it was written: its checksum differs")
    return about


def _load(folder: OpenFolder, cls: type[Estimator] | None, device: str | None) -> Estimator:
    about = _about(folder)
    content = folder.read(ARRAYS)
    if about["format"] >= 2:
        check(ARRAYS, content, about["files"])
    arrays = read_tensors(content)
    while about["format"] < FORMAT:
        about, arrays = _MIGRATIONS[about["format"]](folder, about, arrays)
    model = _class_of(folder, about, cls).rebuild(about["params"] | _placed(about["params"], device))
    _restore(model, about, arrays)
    return model


def _class_of(folder: OpenFolder, about: Mapping[str, Any], cls: type[Estimator] | None) -> type[Estimator]:
    from deconrec.methods import CLASSES, METHODS

    if cls is None:
        module = about["module"].removeprefix("deconrec.methods.")
        keys = [k for k, place in CLASSES.items() if place == (module, about["class"])]
        if not keys:
            raise FileError(
                f"'{folder.path}' holds a '{about['class']}', which is no method of this version; pass its class: "
                "load_model(path, cls=...)."
            )
        return METHODS[keys[0]]
    if cls.__name__ != about["class"]:
        raise FileError(
            f"'{folder.path}' holds a '{about['class']}', not a '{cls.__name__}'; use deconrec.load_model."
        )
    return cls


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


def _restore(model: Estimator, about: Mapping[str, Any], arrays: Arrays) -> None:
    from deconrec.base import Spec

    model.check_params()
    spec = model.spec_ = Spec(**about["spec"])
    model.users_, model.items_ = (
        Vocabulary(text_of(f"ids.{kind}", arrays), kind) for kind in ("user", "item")
    )
    item_mean, users, items = (arrays[k] for k in ("item_mean", "covered_users", "covered_items"))
    found = (len(model.users_), len(model.items_), len(users), len(items), len(item_mean))
    if found != (spec.n_users, spec.n_items, spec.n_users, spec.n_items, spec.n_items):
        raise ValueError(f"sizes of ids and arrays, {found}, are not those of {spec.shape} users and items")
    task = about["task"]
    if task["rating_range"] is not None:
        task["rating_range"] = tuple(task["rating_range"])
    model.task_ = Task(**task | {"unbiased_split": tuple(task["unbiased_split"])})
    model.scale_ = OutcomeScale(**about["scale"])
    context = about["context"]
    model.context_ = None if context is None else _schema(context, arrays)
    model.mean_, model.fingerprint_ = float(about["mean"]), str(about["fingerprint"])
    model.unbiased_rows_, model.seconds_ = int(about["unbiased_rows"]), float(about["seconds"])
    model.about_ = about["about"]
    model.seen_ = checked_csr(arrays["seen.indptr"], arrays["seen.indices"], spec.shape, "seen")
    model.item_mean_ = np.array(item_mean)
    model.covered_users_, model.covered_items_ = users.astype(bool), items.astype(bool)
    if about["history"] is not None:
        from deconrec.training.program import History

        model.history_ = History(**about["history"])  # type: ignore[attr-defined]  # it was trained
    model._restore({k.removeprefix("state."): v for k, v in arrays.items() if k.startswith("state.")})
    _try(model)


def _try(model: Estimator) -> None:
    """Ask for one user's scores: arrays that do not go together are refused now, not at somebody's request."""
    if model.context_ is not None or not model.spec_.n_users:
        return
    with np.errstate(all="ignore"):
        scores = model._block(np.zeros(1, np.int64))
    if scores.shape != (1, model.spec_.n_items) or not np.isfinite(scores).all():
        raise ValueError(f"a user's scores must be {model.spec_.n_items:,} finite numbers")


# ---------------------------------------------------------------------- context of impressions
def _categories(schema: Schema) -> Arrays:
    frame = schema.frame()
    columns = (text_arrays(f"context.{name}", frame[name]) for name in ("column", "value"))
    return {k: v for column in columns for k, v in column.items()} | {
        "context.count": frame["count"].to_numpy()
    }


def _schema(about: Mapping[str, Any], arrays: Arrays) -> Schema:
    columns = {name: text_of(f"context.{name}", arrays) for name in ("column", "value")}
    return Schema.rebuilt(about, pl.DataFrame(columns | {"count": arrays["context.count"]}))


# ---------------------------------------------------------------------- earlier formats
def _from_1(folder: OpenFolder, about: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """Format 1: ids and categories in Parquet files, no checksum, no record of where the model comes from."""
    for kind, size in (("user", about["spec"]["n_users"]), ("item", about["spec"]["n_items"])):
        frame = pl.read_parquet(folder.read(f"{kind}s.parquet"), n_rows=size + 1)
        arrays |= text_arrays(f"ids.{kind}", frame[kind])
    if about.get("context") is not None:
        arrays |= _categories(
            Schema.rebuilt(about["context"], pl.read_parquet(folder.read("categories.parquet")))
        )
    spec = {name: value for name, value in about["spec"].items() if name in _SPEC}
    return {"context": None, **about, "spec": spec, "format": 2, "about": None}, arrays


_MIGRATIONS: dict[int, Callable[[OpenFolder, dict[str, Any], Arrays], tuple[dict[str, Any], Arrays]]] = {
    1: _from_1
}
