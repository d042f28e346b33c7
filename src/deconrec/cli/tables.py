"""Tables that commands write: Parquet or CSV by the file's ending, whole at the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from deconrec.errors import FileError

if TYPE_CHECKING:
    import polars as pl

ENDINGS = (".parquet", ".csv")


def check_table_name(path: str) -> None:
    """Refuse an ending that we do not write, or a folder that is not there, before any work is done.

    Raises
    ------
    FileError.
    """
    target = Path(path)
    if target.suffix not in ENDINGS:
        raise FileError(f"'{path}' must end in .parquet or .csv.")
    if target.is_dir() or not target.resolve().parent.is_dir():
        raise FileError(f"'{path}' cannot be written: its folder does not exist, or it is a folder itself.")


def write_table(frame: pl.DataFrame, path: str) -> None:
    """Write a table under a temporary name and rename it."""
    from deconrec.data.files import write_file

    check_table_name(path)
    buffer = io.BytesIO()
    frame.write_parquet(buffer) if path.endswith(".parquet") else frame.write_csv(buffer)
    write_file(path, buffer.getvalue())
