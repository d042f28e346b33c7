"""Yahoo! R3: ratings of songs that users chose, and of songs drawn at random [Marlin2009].

Given out only under a signed agreement, so this reads the user's own copy. Files: user TAB song TAB rating,
ids from 1. The random ratings are those of users 1 to 5,400, ten songs each.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from deconrec.data.dataset import Dataset
from deconrec.data.sources.locate import Release, expect_counts, locate, reading

RELEASE = Release(
    name="yahoo-r3",
    folder="yahoo-r3",
    files=(("ydata-ymusic-rating-study-v1_0-train.txt",), ("ydata-ymusic-rating-study-v1_0-test.txt",)),
    how="It is given out only under an agreement: ask for 'R3 - Yahoo! Music ratings for User Selected and "
    "Randomly Selected songs' at https://webscope.sandbox.yahoo.com and put your copy there.",
)
COUNTS = {"users": 15_400, "items": 1_000, "self-selected ratings": 311_704, "random ratings": 54_000}


def load(root: str | Path | None = None, *, check_counts: bool = True) -> Dataset:
    """Yahoo! R3: biased = train.txt, unbiased = test.txt; outcome rating >= 4.

    Parameters
    ----------
    root: folder that holds yahoo-r3/; default $DECONREC_DATA, then the user's cache.
    check_counts: compare with the published counts.

    Raises
    ------
    MissingData: the files are not there.  DataError: they are not the published ones.
    """
    biased, unbiased = map(_rows, locate(RELEASE, root))
    data = Dataset.from_frames(
        biased, unbiased=unbiased, rating_range=(1, 5), binarize=4, protocol="pairs", name="yahoo-r3"
    )
    if check_counts:
        found = {
            "users": data.n_users,
            "items": data.n_items,
            "self-selected ratings": len(biased),
            "random ratings": len(unbiased),
        }
        expect_counts("yahoo-r3", COUNTS, found)
    return data


def _rows(path: Path) -> pl.DataFrame:
    with reading(path):
        return pl.read_csv(
            path,
            separator="\t",
            has_header=False,
            schema={"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32},
        )
