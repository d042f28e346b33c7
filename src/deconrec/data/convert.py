"""A data set from one form on disk to another."""

from __future__ import annotations

from pathlib import Path

from deconrec.data.dataset import Dataset
from deconrec.data.files import DATA_FILE, Form, write_dataset
from deconrec.data.sinks import LOG_ENDINGS, write_log
from deconrec.data.writing import MARKER, check_replaceable, followed, replaced_file
from deconrec.errors import FileError, ParameterError

FORMS = ("parquet", "inter")


def check_output(source: str | Path | None, out: str | Path, form: str, *, overwrite: bool = False) -> None:
    """Refuse, before any work is done, an output that must not be written.

    Parameters
    ----------
    source: the path of what is converted; None = it has none.
    overwrite: whether a file that exists may be replaced. A folder may where it is an earlier output.

    Raises
    ------
    ParameterError: no such form.
    FileError: a file that exists, a folder with something else in it, or the data that is to be converted.
    """
    if form not in FORMS:
        raise ParameterError(f"'to' must be one of {', '.join(FORMS)}; got '{form}'.")
    target = followed(out)
    if source is not None:
        given = followed(source)
        if target in (given, given.parent if given.name == DATA_FILE else given):
            raise FileError(f"'{out}' is what is converted, and must not be written over. Give another name.")
    if target.suffix not in LOG_ENDINGS:
        check_replaceable(out, MARKER)
    elif target.is_file() and not overwrite:
        raise FileError(
            f"'{out}' exists and must not be overwritten. Give another name, or allow it: --overwrite."
        )


def convert(data: Dataset, out: str | Path, form: Form = "parquet") -> Path:
    """Write a data set as a folder that reads back with the same fingerprint, or its biased log as one file.

    Parameters
    ----------
    out: a folder (an earlier output there is replaced whole), or the name of a file that ends in .parquet, .csv or
        .inter: the biased log alone.
    form: "parquet" or "inter" (RecBole's atomic files), for a folder. The text of whole numbers becomes numbers on the
        way through .inter or .csv, which have no types of ids.

    Returns
    -------
    The data file, or the file of the log.

    Raises
    ------
    FileError: the folder holds something else, or cannot be written.
    DataError: an id that an .inter file cannot hold.
    """
    target = Path(out)
    if target.suffix not in LOG_ENDINGS:
        return write_dataset(data, target, form=form)
    with replaced_file(target) as fresh:
        write_log(data, data.biased, fresh)
    return target


def left_out(data: Dataset) -> list[str]:
    """What a file of the biased log alone does not hold."""
    parts = {
        "the randomised log": data.unbiased,
        "the test log": data.test,
        "the features of users": data.user_features,
        "the features of items": data.item_features,
    }
    return [name for name, part in parts.items() if part is not None]
