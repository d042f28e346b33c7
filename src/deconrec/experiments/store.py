"""Results as JSON lines, one a run or a trial, written as they come: work may stop anywhere and go on.

A line is written whole and synced; a last line that was torn is ignored and cut off. Of two lines with one key the
later counts. Per-user values, which the paired bootstrap needs, are rounded, packed and in base64: in steps of 1/4095
for few users and of 1/255 for more than 500, which moves a mean over users by less than 0.0001. A metric takes about
0.3 kB for 290 users and 1.5 kB for 1,411.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deconrec.data.writing import disk_errors, write_file
from deconrec.errors import FileError
from deconrec.records import finite

FINE, COARSE, FEW = 4095, 255, 500  # steps between 0 and 1: of so few users, and of more
PerUser = dict[str, tuple[np.ndarray, np.ndarray]]


def key_of(**parts: Any) -> str:
    """16 characters that follow from the parts' values, whatever their order."""
    text = json.dumps(finite(parts), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """The lines of one experiment, by key; and, to read, those of the experiments whose files lie beside it.

    Tables of one paper share methods, searches and splits: what one of them has done the others need not do.

    Attributes
    ----------
    lines: of this experiment.
    beside: of the others, where they are readable; nothing is written to their files.

    Parameters
    ----------
    path: the file.  say: is told what cannot be read.
    beside: False = the files that lie beside it are none of its business.

    Raises
    ------
    FileError: a line in the middle of the file is no record.
    """

    def __init__(
        self, path: str | Path, say: Callable[[str], None] = lambda text: None, *, beside: bool = True
    ) -> None:
        self.path = Path(path)
        self.lines: dict[str, dict[str, Any]] = {}
        self.beside: dict[str, dict[str, Any]] = {}
        for other in sorted(self.path.parent.glob("*.jsonl")) if beside else ():
            if other != self.path:
                try:
                    self.beside |= _read(other)[0]
                except FileError as error:
                    say(f"{other}: left aside, it cannot be read ({error})")
        if self.path.is_file():
            self.lines, torn = _read(self.path)
            if torn:
                say(
                    f"{self.path}: the last line was torn off in the middle; it is ignored and its work done again"
                )
                os.truncate(self.path, self.path.stat().st_size - torn)

    def get(self, key: str) -> dict[str, Any] | None:
        """The line of a key: this experiment's own before another's; None where there is none."""
        return self.lines.get(key, self.beside.get(key))

    def add(self, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Append a record, whole and synced; gives it as it will be read back.

        Raises
        ------
        FileError: it cannot be written; a part of it may stand at the end, and counts as nothing.
        """
        text = _line({"key": key} | finite(dict(record)))
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                content = text.encode()
                while content:  # a full disk writes less than asked for, then raises
                    content = content[os.write(handle, content) :]
                os.fsync(handle)
            finally:
                os.close(handle)
        self.lines[key] = json.loads(text)
        return self.lines[key]

    def rewrite(self) -> None:
        """Write the file anew, whole, with one line a key."""
        write_file(self.path, "".join(_line(record) for record in self.lines.values()))


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """(lines by key, bytes of a last line that was torn off) of a file.

    Raises
    ------
    FileError: a line in the middle is no record.
    """
    lines: dict[str, dict[str, Any]] = {}
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            lines[record["key"]] = record
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"line {number} of '{path}' must be a result of this program; mend or remove it."
            ) from error
    return lines, len(content) - whole


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"


def packed(per_user: PerUser, n_users: int) -> dict[str, dict[str, Any]]:
    """Per-user values by metric as text: which users (a bit each), and their values in [0, 1] by rising code."""
    out = {}
    for metric, (users, values) in per_user.items():
        order = np.argsort(users)
        present = np.zeros(n_users, bool)
        present[users] = True
        steps = FINE if len(users) <= FEW else COARSE
        number = np.rint(np.clip(np.asarray(values, float)[order], 0, 1) * steps).astype(np.int64)
        # Low and high bytes apart pack better: the high ones take 16 values.
        bytes_ = [number & 255, number >> 8] if steps > 255 else [number]
        content = np.concatenate(bytes_).astype(np.uint8)
        out[metric] = {"steps": steps, "users": _text(np.packbits(present)), "values": _text(content)}
    return out


def unpacked(text: Mapping[str, Mapping[str, Any]], n_users: int) -> PerUser:
    """The inverse of `packed`."""
    out = {}
    for metric, parts in text.items():
        present = np.unpackbits(_bytes(parts["users"]), count=n_users).astype(bool)
        number = _bytes(parts["values"]).astype(np.int64)
        if parts["steps"] > 255:
            low, high = np.split(number, 2)
            number = low + 256 * high
        out[metric] = np.flatnonzero(present), number / parts["steps"]
    return out


def _text(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
