"""Every list that was served, with its propensities: JSON lines, one a list, flushed before the client has its answer.

    served-20260102T030405-1a2b3c4d-0001.jsonl

A line is whole or, where the machine stopped while it was written, the torn last line of a file, which the reader
counts and leaves out. A file is only ever appended to; once it is `size` bytes long, the next one begins. See `served`.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from deconrec.errors import FileError

SIZE = 64 << 20
PATTERN = "served-*.jsonl"


class ListLog:
    """The log of one server process in a folder that several may share.

    Parameters
    ----------
    folder: made if it is not there.
    size: bytes from which the next file begins.
    now: the time, in UTC.

    Raises
    ------
    FileError: the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, size: int = SIZE, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.folder, self._size, self._now = Path(folder), size, now
        self._lock = threading.Lock()
        self._run, self._part = secrets.token_hex(4), 0
        self._file: IO[bytes] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise FileError(
                f"the log '{folder}' cannot be written: {error.strerror or error}. Give --log a folder that can be."
            ) from error

    def write(self, line: dict[str, Any]) -> None:
        """Append a line; on its return the line is with the operating system.

        Raises
        ------
        OSError: it could not be written; a part of it may stand at the end of a file that is then left.
        """
        text = json.dumps(
            {"time": self._now().isoformat(timespec="milliseconds")} | line, separators=(",", ":")
        )
        with self._lock:
            if self._file is None or self._file.tell() >= self._size:
                self._open()
            assert self._file is not None
            try:
                whole = text.encode() + b"\n"
                if self._file.write(whole) != len(whole):
                    raise OSError(28, "a part of a line was written")
            except OSError:
                self._leave()
                raise

    def close(self) -> None:
        """Close the file; a later `write` begins another."""
        with self._lock:
            self._leave()

    def _open(self) -> None:
        self._leave()
        self._part += 1
        name = f"served-{self._now():%Y%m%dT%H%M%S}-{self._run}-{self._part:04d}.jsonl"
        self._file = (self.folder / name).open("xb", buffering=0)

    def _leave(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
