"""What is wrong with a table that cannot be read as asked, in words that say what to do."""

from __future__ import annotations

import csv
import difflib
import errno
import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import _csv

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_STARTS = {  # what other files begin with, and what to do
    b"\xff\xfe": "it is UTF-16, and UTF-8 was expected. Save it as UTF-8",
    b"\xfe\xff": "it is UTF-16, and UTF-8 was expected. Save it as UTF-8",
    b"PK\x03\x04": "it is a zip archive or a workbook. Unpack it, or save the sheet as CSV",
    b"PAR1": "it is a Parquet file. Let its name end in .parquet",
    b"BZh": "it is packed with bzip2. Unpack it, or pack it with gzip",
    b"\xfd7zXZ": "it is packed with xz. Unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "it is packed with zstd. Unpack it, or pack it with gzip",
    b"SQLite": "it is a SQLite database. Export the table as CSV",
}
_LINE = 1 << 20  # characters of a line that are looked at in one piece
MOST_SHOWN = 20  # columns that a message names


def shown(value: Any, most: int = 80) -> str:
    """A value as Python writes it, on one line and cut to `most` characters: no message is longer than a screen."""
    plain = value.to_list() if hasattr(value, "to_list") else value
    try:
        text = " ".join(repr(plain if not isinstance(plain, str | bytes) else plain[: most + 1]).split("\n"))
    except ValueError:  # a whole number of more digits than Python writes
        return f"a {type(value).__name__} of thousands of digits"
    return text if len(text) <= most + 2 else f"{text[: most - 3]}..."


def columns_shown(columns: Sequence[str]) -> str:
    """Names of columns as a list, cut where there are many."""
    names = ", ".join(shown(name) for name in columns[:MOST_SHOWN])
    more = f", ... ({len(columns):,} in all)" if len(columns) > MOST_SHOWN else ""
    return f"[{names}{more}]"


def not_among(wanted: Iterable[str], columns: Sequence[str]) -> str:
    """The columns that are missing, each with the closest one that is there, and all that are there."""
    said = []
    # Names of a usual length only: to compare texts of megabytes takes hours.
    plain = {name.strip().lower(): name for name in columns[:1000] if len(name) <= 200}
    for name in wanted:
        close = difflib.get_close_matches(name.strip().lower(), plain, n=1, cutoff=0.75)
        said.append(shown(name) + (f" (did you mean {plain[close[0]]!r}?)" if close else ""))
    return f"{', '.join(said)} not among {columns_shown(columns)}"


def why_no_file(path: str | Path) -> str:
    """Why a path is no file that can be read, as a clause; "" where it is one."""
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # a NUL, which no path can hold
        return "there is no such file"
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return "there is no such file" if missing else f"it cannot be opened ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "it is a folder"
    return "" if stat.S_ISREG(mode) else "it is no regular file, but a pipe, a socket or a device"


def unreadable_parquet(path: Path, reason: str) -> str:
    """Why a file is no Parquet, as far as its two ends tell; else the parser's own reason."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(max(0, path.stat().st_size - 4))
            end = file.read(4)
    except OSError as error:
        return f"{error.strerror}"
    if not start:
        return "the file is empty"
    if start != b"PAR1":
        return "it does not begin as Parquet does (with PAR1): it is another kind of file"
    if end != b"PAR1":
        return "it does not end as Parquet does (with PAR1): it is cut off. Write it again"
    return f"it is damaged ({reason}). Write it again"


def delimiter_hint(columns: Sequence[str], delimiter: str) -> str:
    """A sentence for a text file whose header is one field because another delimiter stands in it; else ""."""
    if len(columns) != 1:
        return ""
    counts = {d: columns[0].count(d) for d in DELIMITERS if d != delimiter}
    found = max(counts, key=lambda d: counts[d])
    if not counts[found]:
        return ""
    shown = found.replace("\t", "\\t")
    shell = f"$'{shown}'" if found == "\t" else f"'{found}'"
    return (
        f"The fields seem to be separated by {DELIMITERS[found]}: say so with --delimiter {shell} where a command has "
        f'that option, [log] delimiter = "{shown}" in a data file, delimiter={found!r} in Python.'
    )


def unreadable_text(path: Path, delimiter: str, reason: str) -> str:
    """Why a text file is no table, as far as a second look can tell; else the parser's own reason.

    Parameters
    ----------
    path: a text file, plain or gzip, that a parser refused.
    delimiter: between its fields.
    reason: what the parser said.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as unpacked:
            start = unpacked.read(8)
        if start in (b"", b"\xef\xbb\xbf"):
            return "the file is empty. A header and at least one row were expected"
        for sign, says in _STARTS.items():
            if start.startswith(sign):
                return says

        def lines() -> Iterator[str]:
            with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as text:
                yield from _pieces(text)

        return _first_odd_row(csv.reader(lines(), delimiter=delimiter)) or _open_quote(lines()) or reason
    except UnicodeDecodeError:
        return "it is not UTF-8 (perhaps Latin-1 or Windows-1252). Save it as UTF-8"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"the gzip file is cut off or damaged ({error}). Pack or fetch it again"
    except OSError as error:
        return f"{error.strerror or error}"


def _pieces(text: IO[str]) -> Iterator[str]:
    """Lines, or pieces of a line that is far too long."""
    while piece := text.readline(_LINE):
        yield piece


def _open_quote(lines: Iterator[str]) -> str:
    """The line whose double quote is never closed, "" for none."""
    opened, number = 0, 1
    for piece in lines:
        if piece.count('"') % 2:
            opened = 0 if opened else number
        number += piece.endswith("\n")
    return (
        f"line {opened:,} holds a double quote that never closes. Close it; one that is part of a text is doubled, and "
        "the text stands in double quotes"
        if opened
        else ""
    )


def _first_odd_row(rows: _csv.Reader) -> str:
    """The first row with more fields than the header, "" for none."""
    try:
        header = next(rows, None)
        if not header:
            return ""
        start = rows.line_num + 1
        for row in rows:
            if len(row) > len(header):
                fields = f"{len(header)} field{'' if len(header) == 1 else 's'}"
                names = columns_shown(header)[1:-1].replace("'", "")
                return (
                    f"line {start} has {len(row)} fields, and the header has {fields} ({names}). A field that "
                    "holds the delimiter or a line's end must stand in double quotes; a wrong delimiter looks like "
                    "this too"
                )
            start = rows.line_num + 1
    except csv.Error:  # a field longer than its reader takes
        pass
    return ""


def repeated_column(columns: Sequence[str]) -> str | None:
    """The first name that stands twice, or None."""
    seen: set[str] = set()
    for name in columns:
        if name in seen:
            return name
        seen.add(name)
    return None
