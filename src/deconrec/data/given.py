"""A data set from a path, whatever it names: a data file, a folder, or one log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deconrec.data.dataset import Dataset, Task
from deconrec.data.explain import shown
from deconrec.data.files import DATA_FILE, read_dataset
from deconrec.data.recbole import is_atomic
from deconrec.errors import DataError, MissingData, ParameterError

LOGS = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".inter")
EXPECTED = (
    f"a data file (TOML), a folder with {DATA_FILE} or RecBole's files, or a log (.csv, .parquet, .inter)"
)


def read_data(path: str | Path, *, delimiter: str | None = None, **options: Any) -> Dataset:
    """The data set that a path names.

    Parameters
    ----------
    path: a TOML data file; a folder with data.toml; a folder with one .inter file (and a .user and an .item file of
        the same name); or one log, which is then the biased one.
    delimiter: of a CSV log; None = a comma, a tab for .tsv.
    options: of a log or a RecBole folder, as in `Dataset.from_frames`; a data file says all that itself.

    Raises
    ------
    MissingData: there is nothing at the path, or nothing that can be read.
    ParameterError: options beside a data file.
    DataError: what `read_dataset` and `Dataset.from_frames` raise.
    """
    place = Path(path)
    given = {name: value for name, value in options.items() if value is not None}
    if os.path.isfile(place / DATA_FILE):
        place = place / DATA_FILE
    if place.suffix == ".toml":
        if given or delimiter is not None:
            names = ", ".join([*given, *(["delimiter"] if delimiter is not None else [])])
            raise ParameterError(
                f"'{place}' is a data file and says this itself: leave out {names}, or edit it."
            )
        return read_dataset(place)
    if os.path.isdir(place):
        log, features = recbole_files(place)
        return _from_log(log, place.resolve().name, None, features | given)
    plain = place.with_suffix("") if place.suffix == ".gz" else place
    if plain.suffix not in LOGS:
        what = f"its ending is {shown(plain.suffix)}" if os.path.exists(place) else "nothing is there"
        raise MissingData(f"{shown(str(path))} must be {EXPECTED}; {what}.")
    if delimiter is None and plain.suffix == ".tsv":
        delimiter = "\t"
    return _from_log(place, plain.stem, delimiter, given)


def recbole_files(folder: Path) -> tuple[Path, dict[str, Path]]:
    """The .inter file of a folder, and the tables of users and items beside it.

    Raises
    ------
    MissingData: no .inter file, or several.
    """
    logs = sorted(p for p in folder.iterdir() if is_atomic(p) and ".inter" in p.suffixes[-2:])
    if len(logs) != 1:
        found = ", ".join(p.name for p in logs[:5]) or "none"
        hint = f" Name one of them: '{logs[0]}'." if logs else ""
        raise MissingData(
            f"the folder '{folder}' must hold {DATA_FILE} or one .inter file; found {found}.{hint}"
        )
    name = logs[0].name.partition(".inter")[0]
    beside = {side: [folder / f"{name}.{side[:-1]}{gz}" for gz in ("", ".gz")] for side in ("users", "items")}
    return logs[0], {side: p for side, paths in beside.items() for p in paths if p.is_file()}


def _from_log(path: Path, name: str, delimiter: str | None, options: Mapping[str, Any]) -> Dataset:
    from deconrec.data.validate import build_dataset

    usual: dict[str, Any] = dict.fromkeys(("unbiased", "test", "users", "items", "columns"))
    usual |= {"duplicates": "error", "name": name, "delimiter": "," if delimiter is None else delimiter}
    task = Task(**{key: value for key, value in options.items() if key in Task.__dataclass_fields__})
    rest = {key: value for key, value in options.items() if key not in Task.__dataclass_fields__}
    try:
        return build_dataset(path, task=task, **(usual | rest))
    except MissingData:
        raise
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
