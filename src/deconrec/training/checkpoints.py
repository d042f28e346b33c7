"""Checkpoints: a fit that was killed goes on, and ends with the arrays of an undisturbed one.

A fit is a row of trainings (nuisance models, the method's own, again on all rows), and everything in between follows
from the data and the seed. So it is enough to keep each training: those that ended with what they gave, the one under
way with all that its next step depends on (`progress`). A folder holds

checkpoint.json       whose fit it is: versions, method, parameters, data
run-K.safetensors     training K (from 0): arrays, and JSON as the bytes of "about"

Each file is written beside its place and renamed, so that there is always a whole one; nothing in it can run code.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deconrec.data.tensors import read_tensors
from deconrec.data.writing import check_replaceable, replaced_file, write_file
from deconrec.errors import FitWarning

if TYPE_CHECKING:
    from deconrec.data.split import ValidationPart
    from deconrec.training.distributed import Ranks
    from deconrec.training.program import Program
    from deconrec.training.progress import Progress

MARKER = "checkpoint.json"
EVERY = 30.0  # seconds
VERSIONS = ("deconrec", "torch", "numpy")  # of which bits may depend
WORTH = 1.0  # NOTE seconds of a training that are worth a file when it ends
SHARE = 0.05  # NOTE of the time that writing may take, at most: large networks are written less often

_CURRENT: ContextVar[Checkpoint | None] = ContextVar("checkpoint", default=None)


@dataclass
class Checkpoint:
    """The checkpoint of a fit.

    Attributes
    ----------
    folder: made when there is something to keep.
    identity: JSON: whose fit it is. A folder of another fit is not used, and replaced.
    every: seconds between writes, > 0.
    resumed: whether a training went on from what an earlier process kept.
    ranks: the processes that train together; the first of them reads and writes for all.
    """

    folder: Path
    identity: Mapping[str, Any]
    every: float = EVERY
    resumed: bool = False
    ranks: Ranks | None = None
    _runs: int = 0
    _wrote: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    def __post_init__(self) -> None:
        if not self.writes:
            return
        check_replaceable(self.folder, MARKER)
        if not (self.folder / MARKER).is_file():
            return
        try:
            found = json.loads((self.folder / MARKER).read_text())
            other = [name for name, value in self.identity.items() if found.get(name) != value]
        except (ValueError, AttributeError):
            other = ["file, which is damaged"]
        if other:
            warnings.warn(
                f"[CHECKPOINT] '{self.folder}' is of another fit (other {', '.join(other)}); training starts from "
                "the beginning, and the checkpoint will be replaced.",
                FitWarning,
                stacklevel=2,
            )
            self.remove()

    @property
    def writes(self) -> bool:
        """Whether this process reads and writes."""
        return self.ranks is None or self.ranks.rank == 0

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def next_run(self) -> Run:
        """The place of the fit's next training."""
        self._runs += 1
        return Run(self, self.folder / f"run-{self._runs - 1}.safetensors")

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return self.writes and time.monotonic() - self._wrote >= max(self.every, self._took / SHARE)

    def write(self, path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Write a training's file."""
        from safetensors.numpy import save_file

        started = time.monotonic()
        if not (self.folder / MARKER).is_file():
            write_file(self.folder / MARKER, json.dumps(self.identity, indent=1))
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with replaced_file(path) as fresh:
            save_file({k: np.asarray(v, order="C") for k, v in arrays.items()} | {"about": text}, fresh)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
        self._wrote = time.monotonic()
        self._took = self._wrote - started


@dataclass
class Run:
    """One training of a fit, with its place in the checkpoint; without one, nothing is kept."""

    checkpoint: Checkpoint | None = None
    path: Path = Path()
    _began: float = field(default_factory=time.monotonic)

    def restore(self, progress: Progress, program: Program) -> None:
        """Go on from what an earlier process kept of this training, where it kept any."""
        if self.checkpoint is None:
            return
        content = self.path.read_bytes() if self.checkpoint.writes and self.path.is_file() else b""
        if self.checkpoint.ranks is not None:
            content = self.checkpoint.ranks.same_bytes(content)
        if not content:
            return
        try:
            arrays = read_tensors(content)
            about = json.loads(arrays.pop("about").tobytes())
        except (ValueError, KeyError) as error:
            warnings.warn(
                f"[CHECKPOINT] '{self.path}' is damaged ({error}); this training starts from the beginning.",
                FitWarning,
                stacklevel=2,
            )
            return
        progress.restore(arrays, about, program)
        self.checkpoint.resumed = True

    def keep(self, progress: Progress) -> None:
        """Called after every step: writes where it is time to."""
        if self.checkpoint is not None and self.checkpoint.due:
            self.checkpoint.write(self.path, *progress.kept(ended=False))

    def end(self, progress: Progress) -> None:
        """Keep what the training gave, unless it was quick."""
        if self.checkpoint is None or not self.checkpoint.writes:
            return
        if time.monotonic() - self._began >= min(WORTH, self.checkpoint.every):
            self.checkpoint.write(self.path, *progress.kept(ended=True))


def checkpoint_of(folder: Path, identity: Mapping[str, Any], every: float) -> Checkpoint:
    """The checkpoint of a fit, which processes that train together share."""
    try:
        from deconrec.training.distributed import current
    except ImportError:  # torch is not there, and nothing is trained by gradient
        return Checkpoint(folder, identity, every)
    return Checkpoint(folder, identity, every, ranks=current())


def fit_identity(model: Any, validation: ValidationPart, refit: bool) -> dict[str, Any]:
    """What a fit follows from; `model` knows the fingerprint of its training data already."""
    history = validation.history
    return {
        "versions": {name: found for name in VERSIONS if (found := _version(name))},
        "method": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": json.loads(json.dumps(model.describe(), default=float)),
        "data": [
            model.fingerprint_,
            validation.data.fingerprint,
            None if history is None else history.fingerprint,
            [validation.unbiased, validation.within_exposure],
        ],
        "refit": refit,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def keeping(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Let the trainings inside keep and resume by a checkpoint; with None, by the one that is in force, if any."""
    if checkpoint is None:
        yield
        return
    token = _CURRENT.set(checkpoint)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def next_run() -> Run:
    """The place of the training that begins now."""
    checkpoint = _CURRENT.get()
    return Run() if checkpoint is None else checkpoint.next_run()
