"""The log of a server read back: as lists, and as the table that `deconrec evaluate` and a weighted fit read.

What stands in the column `propensity` is P(the item is in the user's list), for any place of it (`evaluation.policy`).
That is the P(the pair stands in the log) that `evaluate` divides by, if every user stands in the log with one list.
Where a user was served several, a pair had several chances:

    lists="first"   the first list of each user is kept, and the propensity is the logged one
    lists="all"     of each user the lists like the first are kept (same model, policy, k, filters: one `context`), n of
                    them, and the propensity is P(in at least one) = 1 - (1 - p)^n, because draws are independent

"all" uses more rows, but how often a user comes back must not depend on what was shown. Lists that explore nothing
show the same items again, whose propensity is 1 and that of all others 0: they say nothing of the others, and are left
out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from deconrec.data.tables import read_table
from deconrec.errors import DataError, MissingData, ParameterError
from deconrec.serving.log import PATTERN


@dataclass(frozen=True, eq=False)
class Served:
    """A log for evaluation.

    Attributes
    ----------
    table: user_id, item_id, rating, propensity.
    lists, kept_lists, torn: lists of the log, those kept, and lines that the end of a process cut off.
    unexplored, later, other: lists left out: without exploration, after the first ("first"), unlike the first ("all").
    unrated: rows without an outcome: left out, or filled.
    """

    table: pl.DataFrame
    lists: int
    kept_lists: int
    torn: int
    unexplored: int
    later: int
    other: int
    unrated: int


def read_lists(folder: str | Path) -> tuple[pl.DataFrame, int]:
    """(one row a served item, lines torn): list_id, time, user_id, item_id, rank (from 1), score, propensity, source,
    explore, model, context; in the order of time.

    Raises
    ------
    MissingData: no log there.  DataError: a line in the middle of a file that is no list.
    """
    paths = sorted(Path(folder).glob(PATTERN))
    if not paths:
        raise MissingData(
            f"'{folder}' holds no log of served lists ({PATTERN}); give the folder of `deconrec serve --log`."
        )
    lines, torn = [], 0
    for path in paths:
        text = path.read_bytes().split(b"\n")
        last = text.pop()  # empty where the last line is whole
        torn += bool(last)
        for number, line in enumerate(text, 1):
            try:
                lines.append(_columns(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path} line {number} is no served list ({type(error).__name__}: {error}); remove it to go on."
                ) from error
    lines.sort(key=lambda line: line["time"])
    names = ("list_id", "time", "source", "explore", "model", "context")
    sizes = [len(line["item_id"]) for line in lines]

    def spread(values: list[Any]) -> list[Any]:
        return [value for value, n in zip(values, sizes, strict=True) for _ in range(n)]

    def flat(name: str) -> list[Any]:
        return [value for line in lines for value in line[name]]

    frame = pl.DataFrame(
        {
            "user_id": _ids(spread([line["user_id"] for line in lines])),
            "item_id": _ids(flat("item_id")),
            "rank": pl.Series([rank for n in sizes for rank in range(1, n + 1)], dtype=pl.Int32),
            "score": pl.Series(flat("score"), dtype=pl.Float64),
            "propensity": pl.Series(flat("propensity"), dtype=pl.Float64),
        }
        | {name: pl.Series(spread([line[name] for line in lines]), dtype=pl.String) for name in names}
    )
    return frame, torn


def served_log(
    folder: str | Path,
    outcomes: Any,
    *,
    unrated: float | None = None,
    lists: Literal["first", "all"] = "first",
) -> Served:
    """A log of served lists and what came of them, as `deconrec evaluate` reads it.

    Parameters
    ----------
    folder: of `deconrec serve --log`.
    outcomes: a table user_id, item_id, rating, or its path; of a pair that stands there twice the last row counts.
    unrated: rating of a shown pair that has no outcome (0 where outcomes are clicks); None leaves such rows out,
        which is right only if whether a pair is rated has nothing to do with its rating.
    lists: "first" or "all"; see the module.

    Raises
    ------
    MissingData, DataError: no log, or no such table.  ParameterError: another word for `lists`.
    """
    if lists not in ("first", "all"):
        raise ParameterError(f"'lists' of served_log must be 'first' or 'all'; got {lists!r}.")
    frame, torn = read_lists(folder)
    given = read_table(outcomes, "the outcomes")
    if missing := {"user_id", "item_id", "rating"} - set(given.columns):
        raise DataError(f"the outcomes need the columns user_id, item_id, rating; {sorted(missing)} missing.")
    total = frame["list_id"].n_unique()
    explored = frame.filter(pl.col("explore") != "none")
    n_explored = explored["list_id"].n_unique()
    first = explored.group_by("user_id", maintain_order=True).agg(
        pl.col("list_id").first().alias("first"), pl.col("context").first().alias("like")
    )
    kept = explored.join(first, on="user_id", how="left", maintain_order="left")
    if lists == "first":
        kept = kept.filter(pl.col("list_id") == pl.col("first"))
    else:
        kept = kept.filter(pl.col("context") == pl.col("like"))
    n_kept = kept["list_id"].n_unique()
    n = kept.group_by("user_id").agg(pl.col("list_id").n_unique().alias("n"))
    p = (1 - (1 - pl.col("propensity")) ** pl.col("n")).clip(0, 1)
    pairs = (
        kept.join(n, on="user_id", maintain_order="left")
        .unique(["user_id", "item_id"], keep="first", maintain_order=True)
        .with_columns(propensity=pl.when(pl.col("n") == 1).then("propensity").otherwise(p))
        .select("user_id", "item_id", "propensity")
    )
    ids = ("user_id", "item_id")
    rated = given.select(*ids, pl.col("rating").cast(pl.Float64)).with_columns(
        _ids(given[name].to_list()).cast(pairs[name].dtype, strict=False).alias(name) for name in ids
    )
    table = pairs.join(
        rated.unique(list(ids), keep="last"), on=list(ids), how="left", maintain_order="left"
    ).select(*ids, "rating", "propensity")
    blank = table["rating"].null_count()
    table = table.drop_nulls("rating") if unrated is None else table.fill_null(float(unrated))
    left = n_explored - n_kept
    return Served(
        table,
        total,
        n_kept,
        torn,
        total - n_explored,
        left if lists == "first" else 0,
        left if lists == "all" else 0,
        blank,
    )


def _columns(line: dict[str, Any]) -> dict[str, Any]:
    """A line with columns of one length."""
    if not len(line["item_id"]) == len(line["score"]) == len(line["propensity"]):
        raise ValueError("columns of different lengths")
    for name in ("list_id", "time", "user_id", "source", "explore", "model", "context"):
        line[name]  # a KeyError tells which is not there
    return line


def _ids(values: list[Any]) -> pl.Series:
    """Ids as one kind: strings where any is one, because 17 and "17" are one id."""
    if any(isinstance(value, str) for value in values):
        return pl.Series([str(value) for value in values], dtype=pl.String)
    return pl.Series(values, dtype=pl.Int64)
