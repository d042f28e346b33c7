"""The model in use, and its replacement: loaded beside the old one, tried, and put in its place by one assignment.

A request takes the model once and keeps it, so that no answer is of two models.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from deconrec.errors import FileError
from deconrec.saving import MARKER, load_model
from deconrec.serving.ranker import Policy, Ranker

ATTEMPTS = 5


class Busy(Exception):
    """A reload is going on already."""


class Holder:
    """What serves now.

    Parameters
    ----------
    folder: of a saved model.
    policy: the server's, which every model must be able to follow.

    Raises
    ------
    FileError, DataError, ParameterError: the folder holds no model that can be served.
    """

    def __init__(self, folder: str | Path, policy: Policy) -> None:
        self.folder, self.policy = Path(folder), policy
        self._loading = threading.Lock()
        self.ranker = ranker_of(self.folder, policy)

    def reload(self) -> Ranker:
        """Load the folder anew and serve it; on an error the old model goes on serving.

        Raises
        ------
        Busy.  FileError, DataError, ParameterError: as above.
        """
        if not self._loading.acquire(blocking=False):
            raise Busy("a reload is going on already; ask again when it is done.")
        try:
            self.ranker = ranker_of(self.folder, self.policy)
            return self.ranker
        finally:
            self._loading.release()


def ranker_of(folder: Path, policy: Policy) -> Ranker:
    """The model of a folder, tried once.

    A folder may be replaced while it is read: what was read is taken only where the folder was the same before and
    after.

    Raises
    ------
    FileError, DataError, ParameterError.
    """
    for attempt in range(ATTEMPTS):
        before = _state(folder)
        try:
            model = load_model(folder)
        except FileError:
            if _state(folder) == before or attempt == ATTEMPTS - 1:
                raise
            continue
        if _state(folder) == before:
            ranker = Ranker(model, name=_name(folder))
            ranker.check(policy)
            if _state(folder) == before:
                return ranker
    raise FileError(f"'{folder}' was written to while it was read, {ATTEMPTS} times; try again later.")


def _state(folder: Path) -> list[tuple[str, int, int, int]]:
    """What changes when any file of the folder does."""
    try:
        found = [(p.name, p.stat()) for p in sorted(folder.iterdir())]
    except OSError:
        return []
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found]


def _name(folder: Path) -> str:
    """Twelve hexadecimal digits that tell saved models apart."""
    digest = hashlib.sha256()
    for path in (folder / MARKER, *sorted(folder.glob("*.safetensors"))):
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()[:12]
