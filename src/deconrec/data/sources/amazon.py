"""Amazon video games, the 2014 crawl: ratings by reviewers who chose what to review [McAuley2015].

There is no randomised log: the protocol is "users" (paper 1), with rating 5 as the positive. Users and items
with few ratings are removed until none is left (the k-core): `core=5` gives the published 5-core; paper 1's released
code starts from `core=10`, which in this crawl has fewer items than its Table 1 (see `simulate.vg_causal`).
`pairs=True` reads who reviewed what alone, for which a file without ratings does too.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import polars as pl

from deconrec.data.dataset import Dataset
from deconrec.data.sources.locate import Release, expect_counts, locate, reading
from deconrec.errors import DataError, ParameterError

_REVIEWS, _RATINGS = "reviews_Video_Games_5.json.gz", "ratings_Video_Games.csv"
_PAIRS = "video_games_2014_5core_pairs.csv.gz"
RELEASE = Release(
    name="amazon-video-games",
    folder="amazon_vg",
    files=((_REVIEWS, _RATINGS),),
    how="Get one of them from its author (https://jmcauley.ucsd.edu/data/amazon/, research use) and put it "
    "there; a file of (user, item) pairs alone, such as video_games_2014_5core_pairs.csv.gz, has no ratings "
    "and cannot stand in.",
)
RELEASE_PAIRS = replace(
    RELEASE,
    files=((_REVIEWS, _RATINGS, _PAIRS),),
    how="Get one of the first two from their author (https://jmcauley.ucsd.edu/data/amazon/, research use) and put "
    f"it there, or {_PAIRS} with the columns u and i.",
)
COUNTS_5CORE = {"ratings": 231_780, "users": 24_303, "items": 10_672}  # of the files of reviews and of pairs


def load(
    root: str | Path | None = None, *, core: int = 5, pairs: bool = False, check_counts: bool = True
) -> Dataset:
    """Amazon video games from reviews_Video_Games_5.json.gz, or from ratings_Video_Games.csv.

    Parameters
    ----------
    root: folder that holds amazon_vg/; default $DECONREC_DATA, then the user's cache.
    core: least number of ratings of every user and item, >= 1; the files of reviews and of pairs are 5-cores
        themselves.
    pairs: leave the ratings aside, so that video_games_2014_5core_pairs.csv.gz does too: every rating is 1.
    check_counts: compare the file of reviews, or of pairs, with the published counts.

    Raises
    ------
    MissingData: no such file is there.  DataError: it is not the published one, or nothing is left.
    """
    if core < 1:
        raise ParameterError(f"'core' of amazon-video-games must be a whole number >= 1; got {core}.")
    (path,) = locate(RELEASE_PAIRS if pairs else RELEASE, root)
    log = {_REVIEWS: _reviews, _RATINGS: _ratings, _PAIRS: _pairs}[path.name](path)
    if pairs:
        log = log.with_columns(rating=pl.lit(1.0, pl.Float32))
    if check_counts and path.name != _RATINGS:
        found = {
            "ratings": len(log),
            "users": log["user_id"].n_unique(),
            "items": log["item_id"].n_unique(),
        }
        expect_counts("amazon-video-games", COUNTS_5CORE, found)
    kept = k_core(log, core)
    if not len(kept):
        raise DataError(f"amazon-video-games has no {core}-core: nothing is left of {len(log):,} ratings.")
    data = Dataset.from_frames(
        kept,
        duplicates="last",
        rating_range=(0, 1) if pairs else (1, 5),
        relevant=1 if pairs else 5,
        protocol="users",
        name="amazon-video-games",
    )
    notes = ["Ratings were left aside: every pair that is there has rating 1."] if pairs else []
    if len(kept) < len(log):
        notes.append(f"{len(log) - len(kept):,} of {len(log):,} ratings were left out by the {core}-core.")
    return replace(data, notes=(*data.notes, *notes))


def k_core(log: pl.DataFrame, least: int) -> pl.DataFrame:
    """The rows left when users and items with fewer than `least` ratings are removed until none is left.

    A pair that stands in several rows is one rating.
    """
    user, item = pl.col("user_id"), pl.col("item_id")
    while True:
        kept = log.filter(item.n_unique().over(user) >= least).filter(user.n_unique().over(item) >= least)
        if len(kept) == len(log):
            return log
        log = kept


def _reviews(path: Path) -> pl.DataFrame:
    rows = []
    with reading(path), gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            rows.append((row["reviewerID"], row["asin"], row["overall"], row["unixReviewTime"]))
    schema = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
    with reading(path):
        return pl.DataFrame(rows, schema=schema, orient="row")


def _ratings(path: Path) -> pl.DataFrame:
    with reading(path):
        return pl.read_csv(
            path,
            has_header=False,
            schema={"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64},
        )


def _pairs(path: Path) -> pl.DataFrame:
    with reading(path):
        return pl.read_csv(path).select(user_id="u", item_id="i")
