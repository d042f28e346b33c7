"""`Dataset`: a biased log, perhaps a randomised log, perhaps features; immutable.

Observation is never read off a rating: a pair is observed when it has a row in a log, whatever its rating.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deconrec.data.context import Context
from deconrec.data.ids import Vocabulary
from deconrec.errors import DataError, ParameterError

if TYPE_CHECKING:
    import polars as pl
    from scipy.sparse import csr_matrix

    from deconrec.data.impressions import Impressions

Protocol = Literal["pairs", "users"]
Duplicates = Literal["error", "last", "mean"]
Unrated = Literal["error", "drop"]


def _frozen(array: np.ndarray, dtype: type) -> np.ndarray:
    """A read-only array of that type; never the caller's own memory made read-only."""
    if (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.base is None
        and not array.flags.writeable
    ):
        return array  # nobody else can write to it: a second copy of a long log would be waste
    out: np.ndarray = np.array(array, dtype=dtype, copy=True)
    out.flags.writeable = False
    return out


@dataclass(frozen=True, eq=False)
class Log:
    """Rows (user, item, rating), at most one a pair; rows of impressions, with their context, may repeat a pair.

    Attributes
    ----------
    user, item: (n,) int32 codes, at least 0.
    rating: (n,) float32, finite, as given (not binarised); of an impression 1 where it converted, else 0.
    timestamp: (n,) int64 or None.
    context: what else an impression says, or None: rows are pairs.
    weight: (n,) float32 sample weights > 0, or None: all 1.
    propensity: (n,) float64 in (0, 1], logged P(the pair has a row) of each row, or None.

    Raises
    ------
    DataError: columns of different lengths, a code below 0, a rating that is NaN or infinite, a weight that is not
        a positive number, a propensity outside (0, 1].
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray | None = None
    context: Context | None = None
    weight: np.ndarray | None = None
    propensity: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.context is not None and not isinstance(self.context, Context):
            raise DataError(
                f"a log's context must be a Context of impressions; got {type(self.context).__name__}. Give weights "
                "and propensities by name: Log(user, item, rating, propensity=...)."
            )
        object.__setattr__(self, "user", _frozen(self.user, np.int32))
        object.__setattr__(self, "item", _frozen(self.item, np.int32))
        object.__setattr__(self, "rating", _frozen(self.rating, np.float32))
        if self.timestamp is not None:
            object.__setattr__(self, "timestamp", _frozen(self.timestamp, np.int64))
        if self.weight is not None:
            object.__setattr__(self, "weight", _frozen(self.weight, np.float32))
        if self.propensity is not None:
            object.__setattr__(self, "propensity", _frozen(self.propensity, np.float64))
        extra = [c for c in (self.timestamp, self.context, self.weight, self.propensity) if c is not None]
        columns = [self.user, self.item, self.rating, *extra]
        if len({len(c) for c in columns}) > 1:
            raise DataError(
                "a log needs as many users as items, ratings, timestamps and propensities; got "
                f"{', '.join(str(len(c)) for c in columns)}."
            )
        if self.weight is not None and not (np.isfinite(self.weight) & (self.weight > 0)).all():
            raise DataError("a log's weights must be positive numbers; drop a row that is to weigh nothing.")
        if self.propensity is not None:
            wrong = np.flatnonzero(~((self.propensity > 0) & (self.propensity <= 1)))  # NaN is neither
            if len(wrong):
                raise DataError(
                    f"a log's propensities must lie in (0, 1]; {len(wrong):,} of {len(self):,} do not (first: "
                    f"{self.propensity[wrong[0]]:g} in row {wrong[0]}). A row that stands in the log had a chance "
                    "to: correct the column, or name another in [columns]."
                )
        bad = np.flatnonzero(~np.isfinite(self.rating))
        if len(bad):
            raise DataError(
                f"a log's ratings must be finite numbers; {len(bad):,} of {len(self):,} are NaN or infinite (first: "
                f"row {bad[0]}). Drop these rows: an unrated pair has no row."
            )
        if min(self.user.min(initial=0), self.item.min(initial=0)) < 0:
            raise DataError(
                "a log's codes must be at least 0; got a negative one. An id that a vocabulary does not know has code "
                "-1: drop its rows."
            )

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray | slice) -> Log:
        """The log of these rows (a boolean mask, positions or a slice)."""
        context = None if self.context is None else self.context.take(rows)
        stamp, weight, p = (
            None if c is None else c[rows] for c in (self.timestamp, self.weight, self.propensity)
        )
        return Log(self.user[rows], self.item[rows], self.rating[rows], stamp, context, weight, p)

    def joined(self, other: Log, n_items: int) -> Log:
        """These rows and the other log's rows of other pairs."""
        new = other.take(~np.isin(other.key(n_items), self.key(n_items)))

        def both(name: str) -> np.ndarray | None:
            mine, theirs = getattr(self, name), getattr(new, name)
            return None if mine is None or theirs is None else np.concatenate([mine, theirs])

        user, item, rating = (
            np.concatenate([getattr(self, c), getattr(new, c)]) for c in ("user", "item", "rating")
        )
        return Log(user, item, rating, both("timestamp"), propensity=both("propensity"))

    def key(self, n_items: int) -> np.ndarray:
        """(n,) int64: one number a pair, user * n_items + item."""
        return self.user.astype(np.int64) * n_items + self.item

    def by_user(self, n_users: int) -> tuple[np.ndarray, np.ndarray]:
        """(indptr (n_users + 1,), order (n,)): rows of user u are order[indptr[u]:indptr[u + 1]], by item."""
        order = np.argsort(self.key(int(self.item.max(initial=0)) + 1), kind="stable")
        indptr = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(self.user, minlength=n_users), out=indptr[1:])
        return indptr, order

    def pattern(self, shape: tuple[int, int]) -> csr_matrix:
        """The observation pattern as CSR of ones (n_users, n_items)."""
        from scipy.sparse import csr_matrix

        indptr, order = self.by_user(shape[0])
        return csr_matrix((np.ones(len(self), np.float32), self.item[order], indptr), shape=shape)


@dataclass(frozen=True, eq=False)
class Features:
    """Numeric features of users or of items.

    Attributes
    ----------
    names: the F column names.
    values: (n, F) float32, row = code. Rows without features hold the column means.
    missing: (n,) bool, True where an id had no row in the table.
    """

    names: tuple[str, ...]
    values: np.ndarray
    missing: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _frozen(self.values, np.float32))
        object.__setattr__(self, "missing", _frozen(self.missing, np.bool_))

    def take(self, rows: np.ndarray) -> Features:
        """The features of these codes."""
        return Features(self.names, self.values[rows], self.missing[rows])


@dataclass(frozen=True)
class Task:
    """What is predicted, and how it is evaluated.

    Attributes
    ----------
    binarize: rating >= this is the outcome 1; None keeps the rating as the outcome.
    relevant: rating >= this counts as a positive where ratings stay as they are (users protocol).
    protocol: "pairs" (records are split) or "users" (users are split, strong generalisation).
    unbiased_split: shares of the randomised log: training U, validation V, test.
    rating_range: lowest and highest possible rating; None = what the biased log shows.
    """

    binarize: float | None = None
    relevant: float | None = None
    protocol: Protocol = "pairs"
    unbiased_split: tuple[float, float, float] = (0.05, 0.05, 0.90)
    rating_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("binarize", "relevant"):
            value = getattr(self, name)
            if value is not None:
                if not np.isfinite(value):
                    raise ParameterError(
                        f"'{name}' of the task must be a finite rating or None; got {value}."
                    )
                object.__setattr__(self, name, float(value))
        if self.protocol not in ("pairs", "users"):
            raise ParameterError(f"'protocol' of the task must be 'pairs' or 'users'; got {self.protocol!r}.")
        shares = tuple(float(s) for s in self.unbiased_split)
        if len(shares) != 3 or min(shares) < 0 or not 0 < sum(shares) <= 1 + 1e-9:
            raise ParameterError(
                f"'unbiased_split' must be three shares >= 0 with a sum in (0, 1]; got {self.unbiased_split}."
            )
        object.__setattr__(self, "unbiased_split", shares)
        if self.rating_range is not None:
            low, high = (float(x) for x in self.rating_range)
            if not low < high:
                raise ParameterError(
                    f"'rating_range' must be [low, high] with low < high; got {self.rating_range}."
                )
            object.__setattr__(self, "rating_range", (low, high))
            for name in ("binarize", "relevant"):
                value = getattr(self, name)
                if value is not None and not low < value <= high:
                    raise ParameterError(
                        f"'{name}' of the task must lie above {low:g} and at most at {high:g}, the ends of "
                        f"`rating_range`; got {value:g}, which makes every rating {'1' if value <= low else '0'}."
                    )

    def positive(self, rating: np.ndarray) -> np.ndarray:
        """(n,) bool: which ratings count as a positive."""
        threshold = self.binarize if self.binarize is not None else self.relevant
        if threshold is None:
            raise DataError(
                "ranking and classification metrics need to know which ratings are positives, but the task "
                "has neither `binarize` nor `relevant`; set one ([task] binarize = 4.0)."
            )
        return np.asarray(rating) >= threshold


@dataclass(frozen=True)
class OutcomeScale:
    """The outcome that a model is trained on, inside [0, 1], and the way back.

    Attributes
    ----------
    low, high: the outcome's ends on the user's scale; 0 and 1 for a binary outcome.
    threshold: rating >= threshold is 1 (binary), or None: ratings mapped linearly to [0, 1].
    """

    low: float
    high: float
    threshold: float | None
    binary: bool

    def inward(self, rating: np.ndarray) -> np.ndarray:
        """(n,) float32 in [0, 1] from ratings as given."""
        if self.threshold is not None:
            return (np.asarray(rating) >= self.threshold).astype(np.float32)
        scaled = (np.asarray(rating, np.float32) - self.low) / (self.high - self.low)
        return np.clip(scaled, 0.0, 1.0).astype(np.float32)

    def outward(self, prediction: np.ndarray) -> np.ndarray:
        """Predictions in [0, 1] on the outcome's own scale."""
        if (self.low, self.high) == (0.0, 1.0):
            return np.asarray(prediction)
        return self.low + (self.high - self.low) * np.asarray(prediction)


@dataclass(frozen=True, eq=False)
class Dataset:
    """All that a method may see, and a fixed test log that it may not (`fit` drops it).

    Attributes
    ----------
    users, items: the vocabularies of raw ids.
    biased: the log that users and recommender shaped; of impressions, those that were clicked.
    unbiased: the randomised log, or None.
    test: a fixed unbiased test log, or None.
    user_features, item_features: or None.
    task: what is predicted, and how it is evaluated.
    name: for reports.
    notes: sentences about every rule that was applied while the data was read.
    duplicates: the rule for repeated (user, item) pairs that was in force while the data was read.
    impressions: the table of impressions, which is then the entire space D; None where D is users x items.
    """

    users: Vocabulary
    items: Vocabulary
    biased: Log
    unbiased: Log | None = None
    test: Log | None = None
    user_features: Features | None = None
    item_features: Features | None = None
    task: Task = field(default_factory=Task)
    name: str = "data"
    notes: tuple[str, ...] = ()
    duplicates: Duplicates = "error"
    impressions: Impressions | None = None

    def __post_init__(self) -> None:
        for who, log in (("biased", self.biased), ("unbiased", self.unbiased), ("test", self.test)):
            if log is None:
                continue
            for kind, code, size in (
                ("user", log.user, len(self.users)),
                ("item", log.item, len(self.items)),
            ):
                if code.max(initial=-1) >= size:
                    raise DataError(
                        f"the {who} log's {kind} codes must lie below {size:,}, the number of {kind}s; got "
                        f"{code.max():,}. Logs hold codes: `data.{kind}s.encode(ids)` gives them, "
                        "Dataset.from_frames takes raw ids."
                    )

    # ------------------------------------------------------------------ construction
    @classmethod
    def from_frames(
        cls,
        log: Any,
        *,
        unbiased: Any = None,
        test: Any = None,
        users: Any = None,
        items: Any = None,
        columns: Mapping[str, str] | None = None,
        duplicates: Duplicates = "error",
        rating_range: tuple[float, float] | None = None,
        binarize: float | None = None,
        relevant: float | None = None,
        protocol: Protocol = "pairs",
        unbiased_split: tuple[float, float, float] = (0.05, 0.05, 0.90),
        name: str = "data",
        delimiter: str = ",",
        unrated: Unrated = "error",
    ) -> Dataset:
        """A data set from polars, pandas or Arrow tables (or paths of CSV or Parquet files).

        Parameters
        ----------
        log: the biased log: one row a (user, item) pair with its rating.
        unbiased: the randomised log.
        test: a fixed unbiased test log; without it the test is cut from `unbiased`.
        users, items: feature tables; the first column is the id, the others numbers, booleans or categories.
        columns: which columns are `user`, `item`, `rating`, `timestamp`, `propensity`; default user_id, item_id,
            rating, timestamp, propensity (the last two used only where present).
        duplicates: what a repeated (user, item) pair of one log means: "error", "last" (by timestamp where
            there is one, else by row) or "mean".
        rating_range: (low, high); ratings outside are an error.
        binarize, relevant, protocol, unbiased_split: see `Task`.
        delimiter: between the fields of CSV files.
        unrated: what a row without a rating means: "error", or "drop" (left out, counted).

        Raises
        ------
        DataError: a missing column, a null or NaN, a repeated pair, a rating out of range, an empty log.
        """
        from deconrec.data.validate import build_dataset

        task = Task(binarize, relevant, protocol, unbiased_split, rating_range)
        return build_dataset(
            log,
            unbiased=unbiased,
            test=test,
            users=users,
            items=items,
            columns=columns,
            duplicates=duplicates,
            task=task,
            name=name,
            delimiter=delimiter,
            unrated=unrated,
        )

    @classmethod
    def from_csr(
        cls,
        matrix: Any,
        *,
        user_ids: Any = None,
        item_ids: Any = None,
        unbiased: Any = None,
        **options: Any,
    ) -> Dataset:
        """A data set from a scipy sparse matrix (users x items) and its ids.

        A stored entry is an observation, an explicit zero too; duplicates follow `duplicates`. Rows and
        columns without an entry stay in the vocabulary. Ids default to positions. `unbiased` is a matrix of
        the same shape and ids, or None. Other options as in `from_frames`, but for `columns`.

        Raises
        ------
        DataError: not a sparse matrix, or ids or a second matrix that do not fit its shape.
        """
        from deconrec.data.validate import build_dataset, frames_from_matrices

        frames, ids = frames_from_matrices({"matrix": matrix, "unbiased": unbiased}, user_ids, item_ids)
        task = {name: options.pop(name) for name in Task.__dataclass_fields__ if name in options}
        given = {"test": None, "users": None, "items": None, "duplicates": "error", "name": "data"} | options
        return build_dataset(
            frames[0],
            unbiased=frames[1],
            columns=None,
            task=Task(**task),
            user_ids=ids[0],
            item_ids=ids[1],
            **given,
        )

    @classmethod
    def from_impressions(
        cls,
        log: Any,
        *,
        context: Sequence[str] = (),
        categorical: Sequence[str] = (),
        click: str = "click",
        conversion: str = "conversion",
        weight: str | None = None,
        unbiased: Any = None,
        test: Any = None,
        columns: Mapping[str, str] | None = None,
        unbiased_split: tuple[float, float, float] = (0.05, 0.05, 0.90),
        name: str = "impressions",
        delimiter: str = ",",
    ) -> Dataset:
        """A data set of impressions from polars, pandas or Arrow tables (or paths of CSV or Parquet files).

        The entire space D is the table; an impression is observed (o = 1) where it was clicked, and its outcome is
        the conversion.

        Parameters
        ----------
        log: one row an impression: user, item, click (0 or 1), conversion (0 or 1; of an impression without a click
            empty or 0) and the context.
        context: columns that are features of an impression: text, booleans and whole numbers of at most 50 values are
            categories, other numbers are numbers; empty values are allowed.
        categorical: those of them that are categories whatever they look like.
        click, conversion: names of the columns.
        weight: column of sample weights > 0; a weight of 2 is the row twice. None = all 1.
        unbiased: impressions whose click was forced or drawn at random, not the user's choice; the same columns, the
            click may be left out (all clicked). Rows without a click say nothing and are dropped, counted.
        test: a fixed test log of such impressions; without it the test is cut from `unbiased`.
        columns: which columns are `user` and `item`; default user_id, item_id.
        unbiased_split: see `Task`.
        delimiter: between the fields of CSV files.

        Raises
        ------
        DataError: a missing column, a conversion without a click, a click that is neither 0 nor 1, a log where
            nothing or everything was clicked, a weight that is not positive.

        Warns
        -----
        DataWarning: a context column that alone predicts a label (a leak).
        """
        from deconrec.data.impressions import build_impressions

        return build_impressions(
            log,
            context=context,
            categorical=categorical,
            click=click,
            conversion=conversion,
            weight=weight,
            unbiased=unbiased,
            test=test,
            columns=columns,
            unbiased_split=unbiased_split,
            name=name,
            delimiter=delimiter,
        )

    @classmethod
    def from_file(cls, path: Any) -> Dataset:
        """A data set described by a TOML file (docs: the data file).

        Raises
        ------
        MissingData: the file, or a table that it names, does not exist.
        DataError: an unknown key, or what `from_frames` raises.
        """
        from deconrec.data.files import read_dataset

        return read_dataset(path)

    # ------------------------------------------------------------------ facts
    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        return len(self.users), len(self.items)

    @property
    def n_users(self) -> int:
        """Number of users in the vocabulary."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items in the vocabulary."""
        return len(self.items)

    @property
    def density(self) -> float:
        """|O| / |D|: the share of all pairs, or of all impressions by weight, that the biased log holds."""
        if self.impressions is not None:
            return self.impressions.click_rate
        return len(self.biased) / max(self.n_users * self.n_items, 1)

    @cached_property
    def outcome_scale(self) -> OutcomeScale:
        """The scale of the outcome that models are trained on."""
        task = self.task
        if task.binarize is not None:
            return OutcomeScale(0.0, 1.0, task.binarize, True)
        # Only what every method may see decides the scale.
        seen = [log.rating for log in (self.biased, self.unbiased) if log is not None and len(log)]
        values = np.concatenate(seen) if seen else np.array([0.0, 1.0], np.float32)
        low, high = task.rating_range or (float(values.min()), float(values.max()))
        if low == high:
            low, high = (low - 1.0, high) if low > 0 else (low, low + 1.0)
        binary = (low, high) == (0.0, 1.0) and bool(np.isin(values, (0.0, 1.0)).all())
        return OutcomeScale(low, high, None, binary)

    def outcome(self, log: Log) -> np.ndarray:
        """(n,) float32: the outcome of a log's rows inside [0, 1]."""
        return self.outcome_scale.inward(log.rating)

    def positive(self, rating: np.ndarray) -> np.ndarray:
        """(n,) bool: which ratings count as a positive: by the task's threshold; without one, the 1 of a 0/1 rating.

        Raises
        ------
        DataError: graded ratings and no threshold.
        """
        task = self.task
        if task.binarize is None and task.relevant is None and self.outcome_scale.binary:
            return np.asarray(rating) > 0.5
        return task.positive(rating)

    @cached_property
    def in_biased(self) -> np.ndarray:
        """(n,) bool: which rows of the unbiased log stand in the biased log too."""
        if self.unbiased is None:
            return np.zeros(0, bool)
        if self.impressions is not None:  # another impression of the pair is another row of D
            return np.zeros(len(self.unbiased), bool)
        return np.isin(self.unbiased.key(self.n_items), self.biased.key(self.n_items))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every row, id, feature and the task: the same data gives the same 64 characters."""
        digest = hashlib.sha256()
        for vocabulary in (self.users, self.items):
            digest.update(str(vocabulary.values.dtype).encode())
            text = vocabulary.values.cast(_string()).str.join("\x1f").item() if len(vocabulary) else ""
            digest.update(text.encode())
        whole = self.biased if self.impressions is None else self.impressions.log
        for log in (whole, self.unbiased, self.test):
            digest.update(b"|log|")
            if log is not None:
                order = np.argsort(log.key(self.n_items), kind="stable")
                for column in (log.user, log.item, log.rating, log.timestamp, log.weight, log.propensity):
                    if column is not None:
                        digest.update(column[order].tobytes())
                if log.context is not None:
                    digest.update(log.context.codes[order].tobytes())
                    digest.update(log.context.numbers[order].tobytes())
        if self.impressions is not None:
            schema = self.impressions.schema
            digest.update(repr(schema.to_dict()).encode())
            digest.update("\x1f".join(schema.frame()["value"].to_list()).encode())
            order = np.argsort(whole.key(self.n_items), kind="stable")
            digest.update(self.impressions.click[order].tobytes())
        for features in (self.user_features, self.item_features):
            digest.update(b"|features|")
            if features is not None:
                digest.update("\x1f".join(features.names).encode())
                # What fills the rows without features is derived, not data.
                digest.update(features.missing.tobytes())
                digest.update(features.values[~features.missing].tobytes())
        digest.update(repr(self.task).encode())
        return digest.hexdigest()

    def __repr__(self) -> str:
        parts = [f"{self.n_users:,} users", f"{self.n_items:,} items", f"{len(self.biased):,} biased rows"]
        if self.impressions is not None:
            parts[2:] = [f"{len(self.impressions):,} impressions", f"{len(self.biased):,} of them clicked"]
        if self.unbiased is not None:
            parts.append(f"{len(self.unbiased):,} unbiased rows")
        if self.test is not None:
            parts.append(f"{len(self.test):,} test rows")
        return f"Dataset('{self.name}': {', '.join(parts)})"

    # ------------------------------------------------------------------ derived data sets
    def with_logs(self, biased: Log, unbiased: Log | None = None, test: Log | None = None) -> Dataset:
        """The same users, items, features and task with other logs."""
        return self._replace(biased=biased, unbiased=unbiased, test=test)

    def with_impressions(self, impressions: Impressions, unbiased: Log | None = None) -> Dataset:
        """The same data set with another table of impressions, its clicked rows the biased log, and no test log."""
        return self._replace(
            impressions=impressions, biased=impressions.clicked, unbiased=unbiased, test=None
        )

    def without_test(self) -> Dataset:
        """What a method may see: everything but the fixed test log."""
        return self if self.test is None else self._replace(test=None)

    def with_task(self, **changes: Any) -> Dataset:
        """The same data with a changed task."""
        return self._replace(task=replace(self.task, **changes))

    def _replace(self, **changes: Any) -> Dataset:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        out = Dataset(**(values | changes))
        # The scale is a fact about the whole data set: a sample of its rows must not move it.
        if "task" not in changes and self.task.binarize is None:
            out.__dict__["outcome_scale"] = self.outcome_scale
        return out

    def frame(self, log: Log, click: np.ndarray | None = None) -> pl.DataFrame:
        """A log as a table with raw ids: user_id, item_id, rating (and timestamp and propensity, where logged).

        Of impressions: user_id, item_id, click ((n,) bool; None = all), conversion, context, weight where there is one.
        """
        import polars as pl

        ids = {"user_id": self.users.decode(log.user), "item_id": self.items.decode(log.item)}
        stamp = {} if log.timestamp is None else {"timestamp": pl.Series(log.timestamp)}
        if log.context is None:
            p = {} if log.propensity is None else {"propensity": pl.Series(log.propensity)}
            return pl.DataFrame(ids | {"rating": pl.Series(log.rating)} | stamp | p)
        clicked = np.ones(len(log), bool) if click is None else click
        labels = {
            "click": pl.Series(clicked.astype(np.int8)),
            "conversion": pl.Series(log.rating.astype(np.int8)),
        }
        context = {column.name: column for column in log.context.frame()}
        weight = {} if log.weight is None else {"weight": pl.Series(log.weight)}
        return pl.DataFrame(ids | labels | context | stamp | weight)


def _string() -> Any:
    import polars as pl

    return pl.String


@dataclass(frozen=True, eq=False)
class Truth:
    """What only a simulator knows. No `fit` accepts it; only evaluation and tests may look.

    Of a world of impressions every (n_users, n_items) array is (n,), in the order of the table of impressions.

    Attributes
    ----------
    outcome: (n_users, n_items) expected outcome E[r | u, i] on the outcome's scale (a probability if binary).
    rating: (n_users, n_items) the drawn potential rating of every pair.
    propensity: (n_users, n_items) true P(o = 1 | everything), or None where exposure is deterministic.
    nominal_propensity: (n_users, n_items) P(o = 1 | measured features), or None.
    confounder: (n_users, k) hidden confounder.
    extra: other named arrays of the generating process.
    """

    outcome: np.ndarray
    rating: np.ndarray
    propensity: np.ndarray | None = None
    nominal_propensity: np.ndarray | None = None
    confounder: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
