"""What is wrong with a table that cannot be read as asked, in words that say what to do."""

from __future__ import annotations

import csv
import difflib
import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import _csv

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def not_among(wanted: Iterable[str], columns: Sequence[str]) -> str:
    """The columns that are missing, each with the closest one that is there, and all that are there."""
    said = []
    plain = {name.strip().lower(): name for name in columns}
    for name in wanted:
        close = difflib.get_close_matches(name.strip().lower(), plain, n=1, cutoff=0.75)
        said.append(f"{name!r}" + (f" (did you mean {plain[close[0]]!r}?)" if close else ""))
    return f"{', '.join(said)} not among {list(columns)}"


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
            start = unpacked.read(2)
        if not start:
            return "the file is empty. A header and at least one row were expected"
        if start in _ENCODINGS:
            return f"it is {_ENCODINGS[start]}, and UTF-8 was expected. Save it as UTF-8"
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as text:
            return _first_odd_row(csv.reader(text, delimiter=delimiter)) or reason
    except UnicodeDecodeError:
        return "it is not UTF-8 (perhaps Latin-1 or Windows-1252). Save it as UTF-8"
    except (OSError, EOFError, zlib.error, csv.Error):
        return reason


def _first_odd_row(rows: _csv.Reader) -> str:
    """The first row with more fields than the header, "" for none."""
    header = next(rows, None)
    if header is None:
        return ""
    start = rows.line_num + 1
    for row in rows:
        if len(row) > len(header):
            fields = f"{len(header)} field{'' if len(header) == 1 else 's'}"
            return (
                f"line {start} has {len(row)} fields, and the header has {fields} ({', '.join(header)}). A field that "
                "holds the delimiter or a line's end must stand in double quotes; a wrong delimiter looks like this "
                "too"
            )
        start = rows.line_num + 1
    return ""


def repeated_column(columns: Sequence[str]) -> str | None:
    """The first name that stands twice, or None."""
    return next((name for k, name in enumerate(columns) if name in columns[:k]), None)
