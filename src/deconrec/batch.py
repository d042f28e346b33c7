"""Answers of a saved model for many users or pairs, to a file: in bounded memory, and resumed after a kill.

Work is cut into parts, each written whole beside the output in a folder of its own; the parts are joined and renamed at
the end, so that the output is the earlier one or the new one, never a half. The folder's name follows from the command,
the model's seal and the bytes of the input files: anything else starts from the beginning. With several workers, parts
are computed by them and written here, each as it comes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from deconrec.base import SOURCES, Estimator
from deconrec.data.explain import columns_shown, delimiter_hint, not_among, shown, why_no_file
from deconrec.data.sealed import seal
from deconrec.data.tables import Batches, open_batches, read_table, text_ids
from deconrec.data.writing import followed, replaced_file, write_file
from deconrec.errors import DataError, FileError
from deconrec.experiments.pool import Engine, Job, check_engine, run_jobs
from deconrec.saving import load_model, read_about
from deconrec.threads import one_thread

ROWS = 1 << 18  # rows of a part
ENDINGS = (".parquet", ".csv")
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    rows: of the output.
    parts, resumed: parts of the work, and those that an earlier run had left.
    counts: rows by source (`predict_to`), or {"users": distinct users} (`recommend_to`).
    """

    rows: int
    parts: int
    resumed: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Columns:
    """What the columns of the tables are called, and what stands between the fields of a CSV file."""

    user: str = "user_id"
    item: str = "item_id"
    rating: str = "rating"
    delimiter: str = ","

    def table(self, path: str | Path, what: str) -> pl.DataFrame:
        """A table whole, with our names in place of these."""
        found = read_table(path, what, delimiter=self.delimiter, ids=(self.user, self.item))
        ours = {self.user: "user_id", self.item: "item_id", self.rating: "rating"}
        return found.rename({theirs: name for theirs, name in ours.items() if theirs in found.columns})


def check_output(path: str | Path, *inputs: str | Path | None) -> None:
    """Refuse an ending that is not written, a folder that is not there, or an input, before any work is done.

    Raises
    ------
    FileError.
    """
    target = Path(path)
    if target.suffix not in ENDINGS:
        raise FileError(f"'{path}' must end in .parquet or .csv.")
    if os.path.isdir(target) or not os.path.isdir(target.parent):
        raise FileError(
            f"{shown(str(path))} cannot be written: its folder does not exist, or it is a folder itself."
        )
    if any(given is not None and followed(given) == followed(path) for given in inputs):
        raise FileError(f"'{path}' is read by this command, and must not be written over. Give another name.")


def recommend_to(
    model: str | Path,
    out: str | Path,
    *,
    users: str | Path | None = None,
    k: int = 20,
    exclude_seen: bool = True,
    history: str | Path | None = None,
    features: str | Path | None = None,
    columns: Columns = Columns(),
    explore: str | None = None,
    epsilon: float = 0.1,
    temperature: float = 0.1,
    seed: int = 0,
    part_rows: int = ROWS,
    workers: int = 1,
    engine: Engine = "pool",
    advance: Advance | None = None,
) -> Written:
    """`Estimator.recommend` of a saved model to a .parquet or .csv file; unknown users get the fallback.

    Parameters
    ----------
    model: its folder.
    users: a table with user_id; None = every user of the history and the features, or, without them, of the model.
    k, exclude_seen, explore, epsilon, temperature, seed: see `Estimator.recommend`.
    history, features: tables of users to fold in, see `Estimator.predict`; they are held in memory.
    columns: of the users and the history.
    part_rows: rows of a part, about: what a kill may cost, and what is held at once, by each worker.
    workers: processes.  engine: of what, as of `compare`. Each worker reads the model and these tables itself.
    advance: called with (parts done, parts in all).

    Raises
    ------
    FileError: the model or the output.  DataError, ParameterError: as of `Estimator.recommend`.  MissingExtra: ray is
    not installed.
    """
    check_output(out, users, history, features)
    check_engine(engine, workers, "recommend")
    options: dict[str, Any] = {
        "k": k,
        "exclude_seen": exclude_seen,
        "explore": explore,
        "epsilon": epsilon,
        "temperature": temperature,
        "seed": seed,
    }
    files = {"users": users, "history": history, "features": features}
    read = {"part_rows": part_rows, "columns": asdict(columns)}
    with _work(out, model, "recommend", options | read, files) as work:
        source = _Source(str(model), _text(history), _text(features), columns, *work.seals)
        fitted, given = _opened(source)
        raw = asked_users(fitted, users, given, columns)
        size = max(1, part_rows // max(1, min(k, len(fitted.items_))))
        total = max(1, -(-len(raw) // size))
        missing = (part for part in range(total) if not work.has(part))
        jobs = (
            Job(part, _recommended, (source, raw[part * size : (part + 1) * size], options))
            for part in missing
        )
        work.do(jobs, total, workers, engine, advance)
        rows = work.join(total)
        return Written(rows, total, work.resumed, {"users": raw.n_unique()})


def predict_to(
    model: str | Path,
    pairs: str | Path,
    out: str | Path,
    *,
    history: str | Path | None = None,
    features: str | Path | None = None,
    columns: Columns = Columns(),
    part_rows: int = ROWS,
    workers: int = 1,
    engine: Engine = "pool",
    advance: Advance | None = None,
) -> Written:
    """`Estimator.predict` (with details) of a saved model to a .parquet or .csv file; unknown ids get the fallback.

    Parameters
    ----------
    pairs: a CSV, Parquet or RecBole file with ids of users and items (and the context of impressions), read in batches.
    columns: of the pairs and the history.
    model, history, features, part_rows, workers, engine, advance: see `recommend_to`.

    Raises
    ------
    FileError: the model or the output.  DataError: the pairs, the history or the features.  MissingExtra: ray is not
    installed.
    """
    check_output(out, pairs, history, features)
    check_engine(engine, workers, "predict")
    files = {"pairs": pairs, "history": history, "features": features}
    user, item = columns.user, columns.item
    read = {"part_rows": part_rows, "columns": asdict(columns)}
    with _work(out, model, "predict", read, files) as work:
        source = _Source(str(model), _text(history), _text(features), columns, *work.seals)
        fitted, _ = _opened(source)
        opened = open_batches(pairs, "the pairs", delimiter=columns.delimiter)
        context = () if fitted.context_ is None else fitted.context_.names
        wanted = [user, item, *(c for c in context if c not in (user, item))]
        missing = [c for c in wanted if c not in opened.columns]
        if missing:
            raise DataError(
                f"the pairs need the columns {', '.join(wanted)}; {not_among(missing, opened.columns)}. "
                + (
                    opened.hint
                    or "Say which columns hold the ids (--user, --item), and rename those of the context."
                )
            )
        ids = {user: "user_id", item: "item_id"}
        kinds, rows = _kinds(opened, ids)
        total = max(1, -(-rows // part_rows))
        start = next((part for part in range(total) if not work.has(part)), total)
        jobs = (
            Job(part, _predicted, (source, table, kinds))
            for part, table in _parts(opened, wanted, ids, part_rows, start)
            if not work.has(part)
        )
        work.do(jobs, total, workers, engine, advance)
        written = work.join(total)
        return Written(written, total, work.resumed, work.sources(total))


def given_tables(
    history: str | Path | None, features: str | Path | None, columns: Columns = Columns()
) -> dict[str, Any]:
    """The tables of users to fold in, read once."""
    return {
        "history": None if history is None else columns.table(history, "the history"),
        "features": None
        if features is None
        else read_table(features, "the features", ids=None, delimiter=columns.delimiter),
    }


def asked_users(
    fitted: Estimator, users: str | Path | None, given: Mapping[str, Any], columns: Columns = Columns()
) -> pl.Series:
    """Raw ids of the users of a table, or of every user that is folded in, or else of the model.

    Raises
    ------
    DataError: no column of users.
    """
    wanted = None
    if users is not None:
        table = columns.table(users, "the users")
        if "user_id" not in table.columns:
            raise DataError(
                f"the users need the column {columns.user}; got {columns_shown(table.columns)}. "
                + (delimiter_hint(table.columns, columns.delimiter) or "Say which holds the ids (--user).")
            )
        wanted = table["user_id"]
    return fitted._asked(wanted, given["history"], given["features"])[0]


# ---------------------------------------------------------------------- answering a part
@dataclass(frozen=True)
class _Source:
    """What answers a part, in whatever process.

    Attributes
    ----------
    model, history, features, columns: see `recommend_to`.
    seal, history_seal, features_seal: of the files as they were when the work began.
    """

    model: str
    history: str | None
    features: str | None
    columns: Columns
    seal: str | None
    history_seal: str | None
    features_seal: str | None


@lru_cache(maxsize=1)
def _opened(source: _Source) -> tuple[Estimator, dict[str, Any]]:
    """The model and the tables of users to fold in; read once in a process.

    Raises
    ------
    FileError: they are not what they were when the work began.
    """
    fitted = load_model(source.model)
    given = given_tables(source.history, source.features, source.columns)
    for path, was, now in (
        (source.model, source.seal, _seal(source.model)),
        (source.history, source.history_seal, _digest(source.history)),
        (source.features, source.features_seal, _digest(source.features)),
    ):
        if was != now:
            raise FileError(f"'{path}' changed while its answers were computed; give the same command again.")
    return fitted, given


def _recommended(source: _Source, users: pl.Series, options: Mapping[str, Any]) -> pl.DataFrame:
    fitted, given = _opened(source)
    return fitted.recommend(users, unknown="fallback", **given, **options)


def _predicted(source: _Source, table: pl.DataFrame, kinds: Mapping[str, Any]) -> pl.DataFrame:
    fitted, given = _opened(source)
    table = table.with_columns(table[c].cast(kind, strict=False) for c, kind in kinds.items())
    if fitted.context_ is not None:
        if any(v is not None for v in given.values()):
            raise DataError("a model of impressions folds no one in: an unseen user is answered too.")
        return fitted.predict(table, details=True)
    return fitted.predict(table, **given, unknown="fallback", details=True)


def _in_one_thread(function: Callable[..., pl.DataFrame], *arguments: Any) -> pl.DataFrame:
    with one_thread():
        return function(*arguments)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _seal(model: str | Path) -> str | None:
    """What stands for a saved model; those of format 1 have no seal of their own."""
    return read_about(model).get("seal") or _digest(Path(model) / "arrays.safetensors")


# ---------------------------------------------------------------------- reading pairs
def _kinds(opened: Batches, ids: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """(the types that the ids of a text file have as a whole, rows): what an id means must not depend on its part.

    ids: names of their columns in the file, and ours.
    """
    found: dict[str, set[Any]] = {ours: set() for ours in ids.values()}
    rows = 0
    for raw in opened.read(list(ids), list(ids)):
        batch = raw.rename(dict(ids))
        rows += len(batch)
        for name, kinds in found.items():
            if opened.text and batch[name].null_count() < len(batch):
                kinds.add(text_ids(batch[name]).dtype)
    if not opened.text:
        return {}, rows
    return {
        n: kinds.pop() if len(kinds) == 1 else pl.String if kinds else pl.Int64 for n, kinds in found.items()
    }, rows


def _parts(
    opened: Batches, wanted: list[str], ids: Mapping[str, str], size: int, first: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Parts of `size` rows from number `first` on, ids under our names; what lies before is read past."""
    part, skip = first, first * size
    rest: list[pl.DataFrame] = []
    held = 0
    for raw in opened.read(wanted, list(ids)):
        batch = raw.rename(dict(ids))
        if skip >= len(batch):
            skip -= len(batch)
            continue
        rest.append(batch[skip:])
        held += len(batch) - skip
        skip = 0
        while held >= size:
            whole = _joined(rest)
            yield part, whole[:size]
            rest, part, held = [whole[size:]], part + 1, held - size
    if held or not part:
        nothing = pl.DataFrame(schema=dict.fromkeys(wanted, pl.String)).rename(dict(ids))
        yield part, _joined(rest) if rest else nothing


def _joined(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Rows one after the other; a column that is numbers in one block of a file and text in another is text."""
    try:
        return pl.concat(tables, how="vertical_relaxed")
    except pl.exceptions.PolarsError:
        return pl.concat([t.cast(pl.String) for t in tables])


# ---------------------------------------------------------------------- parts on disk
class _Work:
    """The parts of one piece of work, in a folder beside its output.

    Attributes
    ----------
    seals: of the model, the history and the features.
    """

    def __init__(self, folder: Path, out: Path, seals: tuple[str | None, str | None, str | None]) -> None:
        self.folder, self.out, self.seals = folder, out, seals
        self.resumed = len(list(folder.glob("*.parquet")))

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:08d}.parquet"

    def has(self, part: int) -> bool:
        """Whether the part was written."""
        return self._path(part).is_file()

    def put(self, part: int, frame: pl.DataFrame) -> None:
        """Write a part, whole or not at all."""
        try:
            with replaced_file(self._path(part)) as fresh:
                frame.write_parquet(fresh)
        except FileError as error:
            raise FileError(
                f"{error} The parts before it are kept; the same command goes on from there."
            ) from error

    def do(
        self, jobs: Iterator[Job], total: int, workers: int, engine: Engine, advance: Advance | None
    ) -> None:
        """Have parts computed and write each as it comes; a job is labelled with its part."""
        done = self.resumed

        def then(job: Job, frame: pl.DataFrame) -> list[Job]:
            nonlocal done
            self.put(job.label, frame)
            done += 1
            if advance is not None:
                advance(done, total)
            return []

        if (workers, engine) != (1, "pool"):
            jobs = (Job(job.label, _in_one_thread, (job.function, *job.arguments)) for job in jobs)
        if done and advance is not None:
            advance(done, total)
        run_jobs(jobs, then, workers, engine)

    def join(self, total: int) -> int:
        """Write the output from the parts, a batch of rows at a time, and give its rows."""
        parts = pl.scan_parquet([self._path(part) for part in range(total)])
        try:
            with replaced_file(self.out) as fresh:
                if self.out.suffix == ".parquet":
                    parts.sink_parquet(fresh)
                else:
                    parts.sink_csv(fresh)
        except FileError as error:
            raise FileError(f"{error} Its parts are kept; the same command goes on from there.") from error
        return int(parts.select(pl.len()).collect().item())

    def sources(self, total: int) -> dict[str, int]:
        """Rows by source, in the order of `SOURCES`."""
        parts = pl.scan_parquet([self._path(part) for part in range(total)])
        counts = dict(parts.group_by("source").agg(pl.len()).collect().iter_rows())
        return {source: counts[source] for source in SOURCES if source in counts}


@contextmanager
def _work(
    out: str | Path,
    model: str | Path,
    command: str,
    options: Mapping[str, Any],
    files: Mapping[str, str | Path | None],
) -> Iterator[_Work]:
    """The folder of parts of this command, model and data; removed once the output stands, kept where work stops.

    Raises
    ------
    FileError: another process writes the same output.
    """
    target = followed(out)
    own, digests = _seal(model), {name: _digest(path) for name, path in files.items()}
    about = {
        "command": command,
        # JSON has no infinity, and an option that is none is refused later, by name.
        "options": {
            name: repr(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in options.items()
        },
        "model": own,
        "files": digests,
        "out": target.name,
        "polars": pl.__version__,
    }
    prefix = f".{target.name}.parts-"
    folder = target.with_name(f"{prefix}{seal(about)[:16]}")
    folder.mkdir(exist_ok=True)
    with _alone(folder, target):
        for other in target.parent.glob(
            f"{prefix}*"
        ):  # of a model, data or a command that have changed since
            if other != folder and other.is_dir():
                with suppress(FileError), _alone(other, target):
                    shutil.rmtree(other, ignore_errors=True)
        write_file(folder / "about.json", json.dumps(about, indent=1) + "\n")
        try:
            yield _Work(folder, target, (own, digests["history"], digests["features"]))
        except BaseException:
            if not any(folder.glob("*.parquet")):  # nothing to go on from
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            _opened.cache_clear()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(folder: Path, out: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process whatever ends it."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileError(
                f"'{out}' is being written by another process; wait for it, or give another name."
            ) from error
        yield
    finally:
        os.close(handle)


def _digest(path: str | Path | None) -> str | None:
    """SHA-256 of a file's bytes; None where there is none, which its reader will say better."""
    if path is None or why_no_file(path):
        return None
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
