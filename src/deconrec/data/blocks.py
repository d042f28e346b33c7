"""Text tables in blocks of whole lines: a file of any length is read in the memory of one block."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

SIZE = 1 << 23  # bytes of text in a block
BOM = b"\xef\xbb\xbf"


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
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where they are gzip, without a byte order mark."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        yield file


def _header(file: IO[bytes], quoted: bool) -> bytes:
    line = file.readline()
    while quoted and line.count(b'"') % 2 and (more := file.readline()):
        line += more
    return line


def header(path: Path, *, quoted: bool) -> bytes:
    """The first line of a text file, without its end; `quoted` lets a name in quotes hold a line's end."""
    with _opened(path) as file:
        return _header(file, quoted).rstrip(b"\r\n")


def blocks(path: Path, *, quoted: bool, size: int = SIZE) -> Iterator[Block]:
    """The lines after the first, in blocks of about `size` bytes.

    Parameters
    ----------
    path: a text file, plain or gzip.
    quoted: whether text in double quotes may hold a line's end.
    """
    with _opened(path) as file:
        line = _header(file, quoted).count(b"\n") + 1
        rest = b""
        while chunk := file.read(size):
            text = rest + chunk
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
