"""Text tables in blocks of whole lines: a file of any length is read in the memory of one block."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

SIZE = 1 << 23  # bytes of text in a block
LONGEST_HEADER, LONGEST_LINE = 1 << 22, 1 << 26  # bytes
# A log shrinks by a factor of 3 to 20; what unpacks to 200 times its size was made to fill a memory.
MOST_UNPACKED = 200
FREELY_UNPACKED = 1 << 26  # bytes that any file may unpack to
BOM = b"\xef\xbb\xbf"


class NoTable(ValueError):
    """What a file holds is no table of text; the message is a clause that says why."""


@dataclass(frozen=True)
class Block:
    """Whole lines of a file.

    Attributes
    ----------
    text: the lines; the last one of the file may lack its end.
    line: number of the first one in the file, from 1.
    """

    text: bytes
    line: int


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file's bytes, unpacked where they are gzip, without a byte order mark; and the file as it stands."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        yield file, raw


def _header(file: IO[bytes], quoted: bool) -> bytes:
    lines: list[bytes] = []
    size, open_quote = 0, False
    while line := file.readline(LONGEST_HEADER + 1 - size):
        lines.append(line)
        size += len(line)
        if size > LONGEST_HEADER:
            raise NoTable(
                f"its header is longer than {LONGEST_HEADER:,} bytes. A line of names was expected, and a double quote "
                "in it must close"
            )
        open_quote ^= bool(line.count(b'"') % 2)
        if not (quoted and open_quote):
            break
    return b"".join(lines)


def _check_unpacked(raw: IO[bytes], unpacked: int) -> None:
    """Refuse gzip whose first bytes, as far as they were read, unpack to far more than a table would."""
    if unpacked > FREELY_UNPACKED and unpacked > MOST_UNPACKED * raw.tell():
        raise NoTable(
            f"it unpacks to more than {MOST_UNPACKED} times its bytes, which is no table's way. Unpack it yourself if "
            "it is meant"
        )


def whole(path: Path) -> bytes:
    """All bytes of a text file, unpacked where they are gzip.

    Raises
    ------
    NoTable: it unpacks to far more than a table would.
    """
    parts: list[bytes] = []
    size = 0
    with _opened(path) as (file, raw):
        while chunk := file.read(SIZE):
            size += len(chunk)
            _check_unpacked(raw, size)
            parts.append(chunk)
    return b"".join(parts)


def header(path: Path, *, quoted: bool) -> bytes:
    """The first line of a text file, without its end; `quoted` lets a name in quotes hold a line's end.

    Raises
    ------
    NoTable: it is far longer than a header.
    """
    with _opened(path) as (file, _):
        return _header(file, quoted).rstrip(b"\r\n")


def blocks(path: Path, *, quoted: bool, size: int = SIZE) -> Iterator[Block]:
    """The lines after the first, in blocks of about `size` bytes.

    Parameters
    ----------
    path: a text file, plain or gzip.
    quoted: whether text in double quotes may hold a line's end.

    Raises
    ------
    NoTable: a header or line far longer than a table's, or gzip that unpacks to far more than a table would.
    """
    with _opened(path) as (file, raw):
        line = _header(file, quoted).count(b"\n") + 1
        rest = b""
        unpacked = 0
        while chunk := file.read(size):
            unpacked += len(chunk)
            _check_unpacked(raw, unpacked)
            text = rest + chunk
            if len(rest) > LONGEST_LINE:
                raise NoTable(
                    f"line {line:,} is longer than {LONGEST_LINE:,} bytes. Rows of a table were expected"
                )
            # A quote that never closes must not make a block of the whole file: the parser will refuse it.
            end = _end(text, quoted and len(text) < 8 * size)
            rest = text[end:]
            if end:
                yield Block(text[:end], line)
                line += text.count(b"\n", 0, end)
        if rest:
            yield Block(rest, line)


def _end(text: bytes, quoted: bool) -> int:
    """Where the last whole line ends: a line's end after an even number of quotes."""
    end = text.rfind(b"\n") + 1
    if not quoted:
        return end
    odd = text.count(b'"', 0, end) % 2
    while odd and end:
        before = text.rfind(b"\n", 0, end - 1) + 1
        odd = (odd + text.count(b'"', before, end)) % 2
        end = before
    return end
