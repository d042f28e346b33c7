"""Files of a folder that was written whole: opened without following links, held against their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deconrec.errors import FileError

LARGEST_JSON = 64 << 20  # bytes


class OpenFolder:
    """A folder whose files are read from the folder that was opened, also where another takes its name meanwhile.

    Raises
    ------
    FileError: no such folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        try:
            if os.open in os.supports_dir_fd:
                self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except OSError as error:
            raise FileError(f"'{path}' cannot be opened as a folder: {error.strerror or error}.") from error

    def __enter__(self) -> OpenFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)

    def read(self, name: str, *, most: int | None = None) -> bytes:
        """The bytes of a file of the folder; `name` is a plain name, and the file no link, pipe or folder.

        Raises
        ------
        FileError: not such a file, or longer than `most` bytes.  FileNotFoundError.
        """
        if os.sep in name or name in ("", ".", ".."):
            raise FileError(f"'{name}' must be a file's name, not a path.")
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        if self._handle is None and (self.path / name).is_symlink():
            raise FileError(f"'{self.path / name}' must be a file of its own, not a link.")
        try:
            if self._handle is None:
                file = os.open(self.path / name, flags | getattr(os, "O_BINARY", 0))
            else:
                file = os.open(name, flags, dir_fd=self._handle)
        except FileNotFoundError:
            raise
        except OSError as error:  # ELOOP: a symbolic link
            raise FileError(
                f"'{self.path / name}' must be a readable file of its own, not a link: {error.strerror or error}."
            ) from error
        with os.fdopen(file, "rb") as opened:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                raise FileError(f"'{self.path / name}' must be a regular file.")
            if most is not None and about.st_size > most:
                raise FileError(
                    f"'{self.path / name}' must have at most {most:,} bytes; it has {about.st_size:,}."
                )
            return opened.read()

    @property
    def replaced(self) -> bool:
        """Whether another folder, or none, has the name by now."""
        try:
            return self._handle is not None and not os.path.samestat(
                os.stat(self.path), os.fstat(self._handle)
            )
        except OSError:
            return True


def checksum(path: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check(name: str, content: bytes, manifest: Mapping[str, Any]) -> None:
    """Hold a file against the manifest.

    Raises
    ------
    ValueError: cut off, or changed.
    """
    expected = manifest[name]
    if len(content) != expected["bytes"]:
        raise ValueError(f"'{name}' must have {expected['bytes']:,} bytes; it has {len(content):,}")
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise ValueError(f"'{name}' was changed after it was written: its checksum differs")


def seal(record: Mapping[str, Any]) -> str:
    """64 characters that follow from a JSON record's content, whatever the order of its keys; "seal" is no part."""
    content = {key: value for key, value in record.items() if key != "seal"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
