"""Coat shopping: self-selected ratings and ratings of randomly shown coats, with features [Schnabel2016].

Files. train.ascii and test.ascii are 290 x 300 matrices of 0..5 where 0 is "no rating"; the features stand
in user_item_features/ with the names of their columns beside them. Raw ids are row and column numbers from 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset
from deconrec.data.sources.locate import Release, expect_counts, locate, reading
from deconrec.errors import DataError

_FEATURES = "user_item_features"
RELEASE = Release(
    name="coat",
    folder="coat",
    files=(
        ("train.ascii",),
        ("test.ascii",),
        (f"{_FEATURES}/user_features.ascii",),
        (f"{_FEATURES}/user_features_map.txt",),
        (f"{_FEATURES}/item_features.ascii",),
        (f"{_FEATURES}/item_features_map.txt",),
    ),
    how="Get coat.zip from its authors (https://www.cs.cornell.edu/~schnabts/mnar/, research use) and unpack "
    "it there.",
)
COUNTS = {"users": 290, "items": 300, "self-selected ratings": 6_960, "random ratings": 4_640}


def load(root: str | Path | None = None, *, check_counts: bool = True) -> Dataset:
    """Coat: biased = train.ascii, unbiased = test.ascii; outcome rating >= 4.

    Parameters
    ----------
    root: folder that holds coat/; default $DECONREC_DATA, then the user's cache.
    check_counts: compare with the published counts.

    Raises
    ------
    MissingData: the files are not there.  DataError: they are not the published ones.
    """
    train, test, users, user_names, items, item_names = locate(RELEASE, root)
    biased, unbiased = _matrix(train), _matrix(test)
    if check_counts:
        expect_counts(
            "coat",
            COUNTS,
            {
                "users": biased.shape[0],
                "items": biased.shape[1],
                "self-selected ratings": int((biased > 0).sum()),
                "random ratings": int((unbiased > 0).sum()),
            },
        )
    if biased.shape != unbiased.shape:
        raise DataError(
            f"coat: train.ascii and test.ascii must have one shape; got {biased.shape} and {unbiased.shape}."
        )
    return Dataset.from_frames(
        _rows(biased),
        unbiased=_rows(unbiased),
        users=_features(users, user_names, "user", biased.shape[0]),
        items=_features(items, item_names, "item", biased.shape[1]),
        rating_range=(1, 5),
        binarize=4,
        protocol="pairs",
        name="coat",
    )


def _matrix(path: Path) -> np.ndarray:
    with reading(path):
        return np.loadtxt(path, dtype=np.int8, ndmin=2)


def _rows(matrix: np.ndarray) -> pl.DataFrame:
    # A 0 of the file is a blank, not a rating; every other entry is one.
    user, item = np.nonzero(matrix)
    return pl.DataFrame({"user_id": user, "item_id": item, "rating": matrix[user, item].astype(np.float32)})


def _features(values: Path, names: Path, kind: str, n: int) -> pl.DataFrame:
    matrix = _matrix(values)
    with reading(names):
        columns = names.read_text(encoding="utf-8").splitlines()
    if matrix.shape != (n, len(columns)):
        raise DataError(
            f"coat: '{values}' must have {n} rows and the {len(columns)} columns of '{names.name}'; got "
            f"{matrix.shape}."
        )
    return pl.DataFrame([pl.Series(f"{kind}_id", np.arange(n)), *map(pl.Series, columns, matrix.T.copy())])
