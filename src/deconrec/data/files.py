"""Data sets on disk: the TOML data file and its writer."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deconrec.data.dataset import Dataset, Duplicates, Protocol, Task, Unrated
from deconrec.data.explain import columns_shown, shown, why_no_file
from deconrec.data.writing import MARKER, replaced_folder, write_file
from deconrec.errors import DataError, MissingData, ParameterError

DATA_FILE = "data.toml"
LARGEST = 1 << 20  # bytes of a data file
Form = Literal["parquet", "inter"]


# ---------------------------------------------------------------------- the data file
class _Section(BaseModel):
    """A table of the data file: no other keys; `description` is what the error message says was expected."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_Path = Annotated[str, Field(min_length=1, description="the path of a CSV, Parquet or RecBole file")]
_Column = Annotated[str, Field(min_length=1, description="the name of a column")]
_Rating = Annotated[float, Field(description="a rating (a number)")]
_Range = Annotated[list[float], Field(min_length=2, max_length=2, description="[low, high], two numbers")]
_Shares = Annotated[list[float], Field(min_length=3, max_length=3, description="[U, V, test], three shares")]


class _Table(_Section):
    path: _Path


class _Impressions(_Section):
    path: _Path
    click: _Column = "click"
    conversion: _Column = "conversion"
    context: Annotated[list[str], Field(description="a list of columns")] = []
    categorical: Annotated[list[str], Field(description="a list of columns of `context`")] = []
    weight: _Column | None = None


class _Columns(_Section):
    user: _Column = "user_id"
    item: _Column = "item_id"
    rating: _Column = "rating"
    timestamp: _Column = "timestamp"
    propensity: _Column = "propensity"


class _FeatureTables(_Section):
    users: _Path | None = None
    items: _Path | None = None


class _Log(_Section):
    duplicates: Annotated[Duplicates, Field(description="'error', 'last' or 'mean'")] = "error"
    unrated: Annotated[Unrated, Field(description="'error' or 'drop'")] = "error"
    rating_range: _Range | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1, description="one character")] = ","


class _Task(_Section):
    binarize: _Rating | None = None
    relevant: _Rating | None = None
    protocol: Annotated[Protocol, Field(description="'pairs' or 'users'")] = "pairs"
    unbiased_split: _Shares = [0.05, 0.05, 0.90]


class _DataFile(_Section):
    name: Annotated[str, Field(min_length=1, description="a name for reports")] | None = None
    biased: _Table | None = None
    impressions: _Impressions | None = None
    unbiased: _Table | None = None
    test: _Table | None = None
    columns: _Columns = _Columns()
    features: _FeatureTables = _FeatureTables()
    log: _Log = _Log()
    task: _Task = _Task()


def read_dataset(path: str | Path) -> Dataset:
    """The data set that a TOML file describes; paths in it are relative to the file.

    Raises
    ------
    MissingData: the file, or a table that it names, does not exist.
    DataError: no TOML, an unknown key, a value of the wrong kind, or what `Dataset.from_frames` raises.
    """
    from deconrec.data.impressions import build_impressions
    from deconrec.data.validate import build_dataset

    file = Path(path)
    spec = _read_spec(file)
    folder = file.parent

    def place(table: _Table | None) -> Path | None:
        return None if table is None else folder / table.path

    features = {side: getattr(spec.features, side) for side in ("users", "items")}
    name = spec.name or (file.stem if file.name != DATA_FILE else file.resolve().parent.name or "data")
    try:
        log = spec.log
        if spec.impressions is not None:
            given = spec.impressions
            return build_impressions(
                folder / given.path,
                context=given.context,
                categorical=given.categorical,
                click=given.click,
                conversion=given.conversion,
                weight=given.weight,
                unbiased=place(spec.unbiased),
                test=place(spec.test),
                columns=spec.columns.model_dump(exclude_unset=True),
                unbiased_split=tuple(spec.task.unbiased_split),  # type: ignore[arg-type]  # three, the model says so
                name=name,
                delimiter=log.delimiter,
            )
        return build_dataset(
            place(spec.biased),
            unbiased=place(spec.unbiased),
            test=place(spec.test),
            users=features["users"] and folder / features["users"],
            items=features["items"] and folder / features["items"],
            columns=spec.columns.model_dump(exclude_unset=True),
            duplicates=log.duplicates,
            task=Task(
                spec.task.binarize,
                spec.task.relevant,
                spec.task.protocol,
                tuple(spec.task.unbiased_split),  # type: ignore[arg-type]  # three, the model says so
                None if log.rating_range is None else (log.rating_range[0], log.rating_range[1]),
            ),
            name=name,
            delimiter=log.delimiter,
            unrated=log.unrated,
        )
    except MissingData as error:
        raise MissingData(f"{file}: {error}") from error
    except (DataError, ParameterError) as error:
        raise DataError(f"{file}: {error}") from error


def _read_spec(file: Path) -> _DataFile:
    if hint := why_no_file(file):
        if hint == "it is a folder":
            hint += f"; name the file in it ('{file / DATA_FILE}')"
        raise MissingData(f"a data file (TOML) was expected at {shown(str(file))}: {hint}.")
    raw = _parsed(file)
    if "biased" not in raw and "impressions" not in raw:
        given = columns_shown(list(raw))[1:-1] or "nothing"
        raise DataError(
            f'{file}: a [biased] table with its path is required ([biased] path = "log.csv"), or a table of '
            f"[impressions]; got {given}."
        )
    try:
        spec = _DataFile.model_validate(raw)
    except ValidationError as error:
        # A key with a slip of the pen explains the key that is missed: it comes first.
        problems = sorted(error.errors(include_url=False), key=lambda p: p["type"] != "extra_forbidden")
        more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
        raise DataError(f"{file}: {_sentence(problems[0])}{more}") from error
    if spec.impressions is not None:
        _refuse_beside_impressions(file, raw)
    return spec


def _parsed(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise DataError(f"{file}: a data file must be TOML of at most {LARGEST:,} bytes; it is longer.")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise MissingData(f"{file}: a data file (TOML) cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}: a data file must be TOML in UTF-8; line {line} is not UTF-8 (perhaps Latin-1 or Windows-1252). "
            "Save it as UTF-8."
        ) from error
    except RecursionError as error:
        raise DataError(
            f"{file}: a data file must be TOML in UTF-8; its brackets nest too deeply."
        ) from error
    except ValueError as error:  # no TOML, or a number of thousands of digits
        why = "a number in it has thousands of digits" if "digits" in str(error) else error
        raise DataError(f"{file}: a data file must be TOML in UTF-8; {why}.") from error


def _refuse_beside_impressions(file: Path, raw: Mapping[str, Any]) -> None:
    """Refuse tables and keys that mean nothing beside a table of impressions."""
    if "biased" in raw:
        raise DataError(f"{file}: give [biased] or [impressions], not both: the clicks are the biased log.")
    if "features" in raw:
        raise DataError(
            f"{file}: [features] are of (user, item) pairs; of impressions join them as columns and name them in "
            "[impressions] context."
        )
    log, task = (raw.get(key, {}) for key in ("log", "task"))
    odd = [f"[log] {k}" for k in log if k in ("duplicates", "unrated", "rating_range")]
    odd += [f"[task] {k}" for k in task if k in ("binarize", "relevant", "protocol")]
    if odd:
        raise DataError(
            f"{file}: {odd[0]} means nothing for impressions, whose outcome is the conversion and where a pair may "
            "stand in several rows; leave it out."
        )


def _sentence(problem: Mapping[str, Any]) -> str:
    """One pydantic error as: the key, what was expected, what was got."""
    names = [part for part in problem["loc"][:2] if isinstance(part, str)]  # deeper: positions in a list
    key = ".".join(names)
    if problem["type"] == "extra_forbidden":
        return _unknown_key(names)
    section, field = _field(names)
    if problem["type"] == "missing":
        return f"'{key}' is required: {_described(field)}."
    expected = f"a table, [{key}]" if section is not None else _described(field)
    return f"'{key}' must be {expected}; got {shown(problem['input'])}."


def _sections() -> dict[str, type[_Section]]:
    return {
        "biased": _Table,
        "impressions": _Impressions,
        "unbiased": _Table,
        "test": _Table,
        "columns": _Columns,
        "features": _FeatureTables,
        "log": _Log,
        "task": _Task,
    }


def _field(names: list[str]) -> tuple[type[_Section] | None, Any]:
    """The section that a key names, or None and the field of a key inside one."""
    if len(names) == 1:
        return _sections().get(names[0]), _DataFile.model_fields[names[0]]
    return None, _sections()[names[0]].model_fields[names[1]]


def _described(field: Any) -> str:
    """What a field expects; for an optional one the description stands on the inner type."""
    if field.description:
        return str(field.description)
    for member in getattr(field.annotation, "__args__", ()):
        for note in getattr(member, "__metadata__", ()):
            if getattr(note, "description", None):
                return str(note.description)
    return "a value of another kind"


def _unknown_key(names: list[str]) -> str:
    *tables, key = names
    where = f"[{tables[0]}]" if tables else "the data file"
    known = list(_sections()[tables[0]].model_fields if tables else _DataFile.model_fields)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6) if len(key) < 100 else []
    if close:
        return f"there is no key '{key}' in {where}; did you mean '{close[0]}'?"
    homes = [name for name, section in _sections().items() if key in section.model_fields]
    if homes:
        return f"there is no key '{key}' in {where}; it belongs to [{homes[0]}]."
    return f"there is no key {shown(key)} in {where}; known: {', '.join(known)}."


# ---------------------------------------------------------------------- writing
def write_dataset(data: Dataset, folder: str | Path, *, form: Form = "parquet") -> Path:
    """The data set as a folder that `read_dataset` reads back; returns the path of its data.toml.

    An earlier folder of this function is replaced, whole, at the end. Repeated pairs were merged when the
    data was read, so the file says duplicates = "error".

    Raises
    ------
    FileError: the folder holds something else, or cannot be written.
    """
    with replaced_folder(folder, MARKER) as fresh:
        write_tables(data, fresh, form=form)
    return Path(folder) / DATA_FILE


def write_tables(data: Dataset, folder: Path, *, form: Form = "parquet") -> None:
    """The logs, the tables of users and items and data.toml in a folder.

    Parameters
    ----------
    form: "parquet" (log.parquet, randomised.parquet, test.parquet, users.parquet, items.parquet) or "inter", RecBole's
        files (log.inter, randomised.inter, test.inter, log.user, log.item).

    The tables of users and items hold every id, those without a row in a log too. Of impressions: impressions.parquet,
    randomised.parquet, test.parquet and data.toml.
    """
    from deconrec.data.sinks import write_features, write_log

    if data.impressions is not None:
        if form != "parquet":
            raise DataError(
                "impressions cannot be written as RecBole's files, which have no place for rows without a click; write "
                "Parquet."
            )
        _write_impressions(data, folder)
        return
    lines = [f"name = {_toml(data.name)}"] if data.name else []
    for section, log, stem in (
        ("biased", data.biased, "log"),
        ("unbiased", data.unbiased, "randomised"),
        ("test", data.test, "test"),
    ):
        if log is not None:
            write_log(data, log, folder / f"{stem}.{form}")
            lines += ["", f"[{section}]", f"path = {_toml(f'{stem}.{form}')}"]
    lines += ["", "[features]"]
    for vocabulary, features in ((data.users, data.user_features), (data.items, data.item_features)):
        kind = vocabulary.kind
        name = f"{kind}s.parquet" if form == "parquet" else f"log.{kind}"
        write_features(vocabulary, features, folder / name)
        lines.append(f"{kind}s = {_toml(name)}")
    task = data.task
    lines += ["", "[log]", 'duplicates = "error"']
    if task.rating_range is not None:
        lines.append(f"rating_range = {_toml(task.rating_range)}")
    lines += ["", "[task]"]
    for key in ("binarize", "relevant", "protocol", "unbiased_split"):
        if getattr(task, key) is not None:
            lines.append(f"{key} = {_toml(getattr(task, key))}")
    write_file(folder / DATA_FILE, "\n".join(lines) + "\n")


def _write_impressions(data: Dataset, folder: Path) -> None:
    shown = data.impressions
    assert shown is not None
    lines = [f"name = {_toml(data.name)}"] if data.name else []
    for section, log, name in (
        ("impressions", shown.log, "impressions.parquet"),
        ("unbiased", data.unbiased, "randomised.parquet"),
        ("test", data.test, "test.parquet"),
    ):
        if log is None:
            continue
        click = shown.click if section == "impressions" else None
        data.frame(log, click).write_parquet(folder / name)
        lines += ["", f"[{section}]", f"path = {_toml(name)}"]
        if section == "impressions":
            schema = shown.schema
            lines.append(f"context = {_toml(schema.names)}")
            lines.append(f"categorical = {_toml(tuple(c.name for c in schema.categories))}")
            lines += [] if log.weight is None else ['weight = "weight"']
    if shown.log.timestamp is not None:
        lines += ["", "[columns]", 'timestamp = "timestamp"']
    lines += ["", "[task]", f"unbiased_split = {_toml(data.task.unbiased_split)}"]
    write_file(folder / DATA_FILE, "\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
