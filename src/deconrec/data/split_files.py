"""A split as folders: the rows that `compare` would train, stop and test on with this seed, for other tools.

train/ is what a model is fitted on, holdout/ and validation/ are rows to be predicted (as the biased log), test/ is all
that a model may know and, apart from it, the test log: fitting on it by mistake does not train on test rows. In the
users protocol validation/ and test/ hold new users: their history as the log, what is to be found as the test log.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.data.files import write_tables
from deconrec.data.sinks import write_log
from deconrec.data.split import PairsSplit, PairsTest, Parts, UsersSplit, UsersTest
from deconrec.data.writing import replaced_folder, write_file
from deconrec.errors import ParameterError


def write_split(
    data: Dataset,
    folder: str | Path,
    *,
    truth: Truth | None = None,
    protocol: Literal["pairs", "users"] | None = None,
    seed: int = 0,
    by: Literal["record", "time"] = "record",
) -> dict[str, Any]:
    """Cut a data set as `compare` does, write the parts and split.json; an earlier split there is replaced whole.

    Parameters
    ----------
    truth: what a simulator knows; test users' positives come from it (users protocol).
    protocol: "pairs" or "users"; None = the data's.
    by: "record" or "time" (pairs protocol only).

    Returns
    -------
    What split.json holds: name, fingerprint, protocol, seed, by, and the rows of every part.

    Raises
    ------
    ParameterError: no such protocol or rule.  DataError: too few rows or users, no timestamps.
    FileError: the folder holds something else, or cannot be written.
    """
    chosen = protocol or data.task.protocol
    if chosen not in ("pairs", "users"):
        raise ParameterError(f"'protocol' of a split must be 'pairs' or 'users'; got {chosen!r}.")
    if by not in ("record", "time") or (by == "time" and chosen == "users"):
        raise ParameterError(
            f"a split goes by 'record' or, in the pairs protocol, by 'time'; got {by!r} in the {chosen} protocol."
        )
    parts: Parts[Any] = (
        UsersSplit(seed).apply(data, truth) if chosen == "users" else PairsSplit(seed, by=by).apply(data)
    )
    record = {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "protocol": chosen,
        "seed": seed,
        "by": "user" if chosen == "users" else by,
        "rows": dict(parts.counts),
    }
    test = parts.test.open()
    out = _users_parts(parts, test, data, truth) if chosen == "users" else _pairs_parts(parts, test)
    with replaced_folder(folder) as fresh:
        for name, part in out.items():
            (fresh / name).mkdir()
            write_tables(_pinned(part, data), fresh / name)
        if chosen == "pairs" and len(test.leaked) > len(test.log):
            write_log(data, test.leaked, fresh / "test" / "test_leaked.parquet")
        write_file(fresh / "split.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record


def _pairs_parts(parts: Parts[PairsTest], test: PairsTest) -> dict[str, Dataset]:
    train, n_items = parts.train, parts.train.n_items
    out = {"train": train.without_test(), "holdout": parts.holdout.data.without_test()}
    known = train.unbiased
    if parts.validation is not None:
        out["validation"] = parts.validation.data.without_test()
        v = parts.validation.data.biased
        known = v if known is None else known.joined(v, n_items)
    biased = train.biased.joined(parts.holdout.data.biased, n_items)
    return out | {"test": train.with_logs(biased, known, test.log)}


def _users_parts(
    parts: Parts[UsersTest], test: UsersTest, data: Dataset, truth: Truth | None
) -> dict[str, Dataset]:
    assert parts.holdout.history is not None
    history = parts.holdout.history
    found = _positives(test, data, truth)
    return {
        "train": parts.train.without_test(),
        "validation": history.with_logs(history.biased, history.unbiased, parts.holdout.data.biased),
        "test": test.history.with_logs(test.history.biased, test.history.unbiased, found),
    }


def _positives(test: UsersTest, data: Dataset, truth: Truth | None) -> Log:
    """The pairs to be found, with the ratings that they were found by."""
    user, item = (codes.astype(np.int64) for codes in test.relevant.nonzero())
    whole = data.users.encode(test.history.users.values)[user].astype(np.int64)
    if truth is not None:
        return Log(user, item, truth.rating[whole, item])
    source = data.biased if data.test is None else data.test
    key = source.key(data.n_items)
    order = np.argsort(key)
    rows = order[np.searchsorted(key, whole * data.n_items + item, sorter=order)]
    return Log(user, item, source.rating[rows])


def _pinned(part: Dataset, data: Dataset) -> Dataset:
    """The range of ratings of the whole data set, which a part's own rows would not show."""
    if data.task.binarize is not None or data.task.rating_range is not None:
        return part
    low, high = data.outcome_scale.low, data.outcome_scale.high
    logs = [log.rating for log in (part.biased, part.unbiased, part.test) if log is not None and len(log)]
    inside = all(low <= float(rating.min()) and float(rating.max()) <= high for rating in logs)
    return part.with_task(rating_range=(low, high)) if inside else part
