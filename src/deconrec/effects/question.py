"""What is asked of an estimate of effects, the table that it reads, and what of both is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Log
from deconrec.data.ids import Vocabulary, as_series
from deconrec.data.impressions import need_pairs
from deconrec.data.tables import read_table
from deconrec.effects.network import At, Kind
from deconrec.errors import DataError, ParameterError

CELLS = 100_000_000  # users x items held as a dense matrix
PAIRS = 25_000_000  # causes x items in one result
Treatments = Literal["one", "all"]


@dataclass(frozen=True, eq=False)
class Table:
    """What a regression reads: exposures a and outcomes r (n, n_items), which were seen, features x (n, F)."""

    data: Dataset
    a: np.ndarray
    r: np.ndarray
    seen: np.ndarray | None
    x: np.ndarray


@dataclass(frozen=True)
class Plan:
    """How effects are computed."""

    causes: np.ndarray
    items: np.ndarray
    users: np.ndarray
    treatments: Treatments
    outcome: Literal["linear", "net"]
    kind: Kind
    at: At
    hidden: tuple[int, ...]
    epochs: int
    seed: int


def own_cells(plan: Plan, effect: np.ndarray) -> np.ndarray:
    """Effects of items on themselves, of the causes that are among the items, from (causes, items)."""
    at = {int(i): k for k, i in enumerate(plan.items)}
    return np.array([effect[j, at[int(c)]] for j, c in enumerate(plan.causes) if int(c) in at])


def sample_users(table: Table, chosen: np.ndarray) -> Table:
    """The table of these users, some of them several times, as users of their own."""
    indptr, order = table.data.biased.by_user(table.data.n_users)
    counts = np.diff(indptr)[chosen]
    rows = np.concatenate([order[indptr[u] : indptr[u + 1]] for u in chosen])
    log = table.data.biased
    sampled = Log(np.repeat(np.arange(len(chosen)), counts), log.item[rows], log.rating[rows])
    data = Dataset(
        users=Vocabulary(pl.Series(np.arange(len(chosen))), "user"),
        items=table.data.items,
        biased=sampled,
        task=table.data.task,
        user_features=None if table.data.user_features is None else table.data.user_features.take(chosen),
    )
    seen = None if table.seen is None else table.seen[chosen]
    return Table(data, table.a[chosen], table.r[chosen], seen, table.x[chosen])


def table_of(data: Dataset, outcomes: Any, features: bool) -> Table:
    """The table of a data set and of outcomes: an array (n_users, n_items), a table of user_id, item_id and rating, or
    None for the ratings of the log.

    Raises
    ------
    DataError: too many cells, no rows, no outcomes, or outcomes of another shape or of other ids.
    """
    need_pairs(data, "effects")
    if data.n_users * data.n_items > CELLS:
        raise DataError(
            f"effects holds users x items as a dense matrix of at most {CELLS:,} cells; got "
            f"{data.n_users * data.n_items:,}. Take a sample of users, or fewer items."
        )
    if not len(data.biased):
        raise DataError("effects needs a biased log with at least one row: its rows are the exposures.")
    a = data.biased.pattern(data.shape).toarray().astype(np.float64)
    r = np.full(data.shape, np.nan)
    if outcomes is None:
        r[data.biased.user, data.biased.item] = data.biased.rating
    elif isinstance(outcomes, np.ndarray):
        if outcomes.shape != data.shape:
            raise DataError(
                f"outcomes of effects must have the data's shape {data.shape} (users, items, in code order); got "
                f"{outcomes.shape}."
            )
        r = outcomes.astype(np.float64)
    else:
        read = read_table(outcomes, "the outcomes")
        if not {"user_id", "item_id", "rating"} <= set(read.columns):
            raise DataError(f"the outcomes need the columns user_id, item_id and rating; got {read.columns}.")
        user, item = data.users.encode(read["user_id"]), data.items.encode(read["item_id"])
        known = (user >= 0) & (item >= 0)
        if not known.any():
            raise DataError("no row of the outcomes is of a user and an item of the data; check their ids.")
        r[user[known], item[known]] = read["rating"].cast(pl.Float64).to_numpy()[known]
    seen = np.isfinite(r)
    if not seen.any():
        raise DataError("effects needs outcomes; every one of them is missing.")
    given = np.zeros((data.n_users, 0))
    if features and data.user_features is not None:
        x = data.user_features.values.astype(np.float64)
        spread = x.std(0)
        given = ((x - x.mean(0)) / np.where(spread > 0, spread, 1.0))[:, spread > 0]
    return Table(data, a, np.where(seen, r, 0.0), None if seen.all() else seen, given)


def codes_of(ids: Vocabulary, raw: Any, error: type[DataError]) -> np.ndarray:
    """Sorted codes of raw ids, each once; of all, where `raw` is None.

    Raises
    ------
    DataError: no id.  `error`: ids that are not in the data.
    """
    if raw is None:
        return np.arange(len(ids))
    series = as_series(raw)
    code = ids.encode(series).astype(np.int64)
    if not len(code):
        raise DataError(f"effects needs at least one {ids.kind}; got an empty list.")
    if (code < 0).any():
        first = ", ".join(repr(v) for v in series.filter(pl.Series(code < 0)).head(3))
        raise error(f"{int((code < 0).sum())} of {len(code)} {ids.kind} ids are not in the data: {first}.")
    return np.asarray(np.unique(code))


def check_arguments(outcome: str, treatments: str, kind: str, at: str, bootstrap: int, seed: int) -> None:
    """Refuse what no estimate understands.

    Raises
    ------
    ParameterError.
    """
    for name, value, allowed in (
        ("outcome", outcome, ("linear", "net")),
        ("treatments", treatments, ("one", "all")),
        ("kind", kind, ("jacobian", "difference")),
        ("at", at, ("mean", "zero")),
    ):
        if value not in allowed:
            raise ParameterError(
                f"'{name}' of effects must be {' or '.join(map(repr, allowed))}; got {value!r}."
            )
    for name, number in (("bootstrap", bootstrap), ("seed", seed)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise ParameterError(f"'{name}' of effects must be a whole number >= 0; got {number!r}.")
    if bootstrap == 1:
        raise ParameterError("'bootstrap' of effects must be 0 (no intervals) or at least 2; got 1.")


def check_sizes(plan: Plan, table: Table) -> None:
    """Refuse what is too large to hold, or to regress on with outcomes that are missing.

    Raises
    ------
    DataError.
    """
    if len(plan.causes) * len(plan.items) > PAIRS:
        raise DataError(
            f"effects of {len(plan.causes):,} causes on {len(plan.items):,} items are "
            f"{len(plan.causes) * len(plan.items):,} pairs; at most {PAIRS:,} are held. Name causes and items."
        )
    if plan.treatments == "all" and table.seen is not None:
        raise DataError(
            "effects of all exposures at once (treatments='all', or a net) needs the outcome of every pair; "
            f"{int((~table.seen).sum()):,} are missing. Use treatments='one' with outcome='linear'."
        )
