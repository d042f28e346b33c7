"""MovieLens 1M and 100K: ratings on a five-star scale with demographics and genres [Harper2015].

There is no randomised log: the protocol is "users" (paper 1), with rating 5 as the positive. Ages are one-hot
in the seven groups of the 1M release in both data sets, so that their features mean the same.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset
from deconrec.data.sources.locate import Release, expect_counts, locate, reading

RELEASE_1M = Release(
    name="movielens-1m",
    folder="ml-1m",
    files=(("ratings.dat", "ratings_notime.csv.gz"), ("users.dat",), ("movies.dat",)),
    how="Run `deconrec data fetch movielens-1m`, or unpack https://files.grouplens.org/datasets/movielens/"
    "ml-1m.zip there (research use).",
)
RELEASE_100K = Release(
    name="movielens-100k",
    folder="ml-100k",
    files=(("u.data",), ("u.user",), ("u.item",)),
    how="Run `deconrec data fetch movielens-100k`, or unpack https://files.grouplens.org/datasets/movielens/"
    "ml-100k.zip there (research use).",
)
COUNTS_1M = {"ratings": 1_000_209, "users": 6_040, "rated items": 3_706}
COUNTS_100K = {"ratings": 100_000, "users": 943, "rated items": 1_682}

_AGES = ("under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+")
_AGE_EDGES = (18, 25, 35, 45, 50, 56)
_OCCUPATIONS_1M = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
_GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_STAMPED = {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}


def load_1m(root: str | Path | None = None, *, check_counts: bool = True) -> Dataset:
    """MovieLens 1M from ratings.dat (or ratings_notime.csv.gz), users.dat and movies.dat.

    Parameters
    ----------
    root: folder that holds ml-1m/; default $DECONREC_DATA, then the user's cache.
    check_counts: compare with the published counts.

    Raises
    ------
    MissingData: the files are not there.  DataError: they are not the published ones.
    """
    ratings, users, movies = locate(RELEASE_1M, root)
    with reading(ratings):
        if ratings.suffix == ".gz":
            log = pl.read_csv(ratings).rename({"user": "user_id", "item": "item_id"})
        else:
            # Ids and ratings are digits, so a tab can stand for the two-sign separator.
            log = pl.read_csv(
                BytesIO(ratings.read_bytes().replace(b"::", b"\t")),
                separator="\t",
                has_header=False,
                schema=_STAMPED,
            )
    with reading(users):
        rows = [line.split("::") for line in _lines(users)]
        people = _people(
            ids=[int(row[0]) for row in rows],
            gender=[row[1] for row in rows],
            age=[int(row[2]) for row in rows],
            occupation=[_OCCUPATIONS_1M[int(row[3])] for row in rows],
        )
    with reading(movies):
        titles = [line.split("::") for line in _lines(movies)]
        kinds = [set(row[-1].split("|")) for row in titles]
        genres = {name: [name in kind for kind in kinds] for name in sorted(set().union(*kinds))}
        films = _films([int(row[0]) for row in titles], genres)
    return _dataset("movielens-1m", log, people, films, COUNTS_1M if check_counts else {})


def load_100k(root: str | Path | None = None, *, check_counts: bool = True) -> Dataset:
    """MovieLens 100K from u.data, u.user and u.item.

    Parameters
    ----------
    root: folder that holds ml-100k/; default $DECONREC_DATA, then the user's cache.
    check_counts: compare with the published counts.

    Raises
    ------
    MissingData: the files are not there.  DataError: they are not the published ones.
    """
    ratings, users, movies = locate(RELEASE_100K, root)
    with reading(ratings):
        log = pl.read_csv(ratings, separator="\t", has_header=False, schema=_STAMPED)
    with reading(users):
        rows = [line.split("|") for line in _lines(users)]
        people = _people(
            ids=[int(row[0]) for row in rows],
            gender=[row[2] for row in rows],
            age=[int(row[1]) for row in rows],
            occupation=[row[3] for row in rows],
        )
    with reading(movies):
        titles = [line.split("|") for line in _lines(movies)]
        flags = np.array([row[-len(_GENRES_100K) :] for row in titles]).astype(int).astype(bool)
        films = _films(
            [int(row[0]) for row in titles], dict(zip(_GENRES_100K, flags.T.tolist(), strict=True))
        )
    return _dataset("movielens-100k", log, people, films, COUNTS_100K if check_counts else {})


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="latin-1").split("\n") if line.strip()]


def _people(ids: list[int], gender: list[str], age: list[int], occupation: list[str]) -> pl.DataFrame:
    group = [_AGES[k] for k in np.searchsorted(_AGE_EDGES, age, side="right")]
    return pl.DataFrame({"user_id": ids, "gender": gender, "age": group, "occupation": occupation})


def _films(ids: list[int], genres: dict[str, list[bool]]) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ids} | {f"genre={name}": flags for name, flags in genres.items()})


def _dataset(
    name: str, log: pl.DataFrame, people: pl.DataFrame, films: pl.DataFrame, expected: dict[str, int]
) -> Dataset:
    found = {
        "ratings": len(log),
        "users": log["user_id"].n_unique(),
        "rated items": log["item_id"].n_unique(),
    }
    expect_counts(name, expected, found)
    rated = films.join(log.select("item_id").unique(), on="item_id", how="semi")
    data = Dataset.from_frames(
        log, users=people, items=rated, rating_range=(1, 5), relevant=5, protocol="users", name=name
    )
    if unrated := len(films) - len(rated):
        data = replace(data, notes=(*data.notes, f"{unrated:,} movies without a rating were left out."))
    return data
