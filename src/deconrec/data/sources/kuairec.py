"""KuaiRec: a log of short videos as a recommender showed them, and a matrix where nearly all pairs were
watched [Gao2022].

Files of the release: big_matrix.csv (the biased log, 7,176 x 10,728) and small_matrix.csv (1,411 users x
3,327 videos, 99.6 % of all pairs). Research on debiasing also uses random.txt (uid,iid,watch_ratio without a
header, the release's ids): 83 pairs of the small matrix for each of its users, not uniform over videos.

Repeated pairs. big_matrix.csv holds a pair once for each time it was watched. No published protocol says what
a repeated pair means (research code adds the labels up in a sparse matrix, a slip); here it is the mean watch
ratio, the expectation for one viewing, which is what the small matrix holds one draw of. `duplicates="last"`
takes the last viewing instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Duplicates
from deconrec.data.sources.locate import Release, expect_counts, locate, reading
from deconrec.errors import DataError, ParameterError

_BIG, _SMALL, _RANDOM = "big_matrix.csv", "small_matrix.csv", "random.txt"
_LABELS, _COUNTS = "small_matrix_label_gt2.npz", "item_cnt_train.json"
_HOW = (
    "Run `deconrec data fetch kuairec`, or put big_matrix.csv and small_matrix.csv of KuaiRec.zip "
    "(https://kuairec.com, CC BY-SA 4.0) there; the labels and counts of the partial copies serve the data "
    "set 'kuairec-semi' only."
)
RELEASE = Release("kuairec", "kuairec", ((_BIG,), (_SMALL,)), _HOW)
WITH_RANDOM = Release("kuairec", "kuairec", ((_BIG,), (_RANDOM,)), _HOW)
FULL_MATRIX = Release("kuairec", "kuairec", ((_LABELS, _SMALL),), _HOW)
EXPOSURE = Release("kuairec", "kuairec", ((_COUNTS, _BIG),), _HOW)
LIKED = 2.0  # watch_ratio > 2 is the "like" that the release's page proposes; paper 2 takes >= 2

COUNTS = {"big_matrix.csv rows": 12_530_806, "users": 7_176, "items": 10_728}
UNBIASED_COUNTS = {_SMALL: {"small_matrix.csv rows": 4_676_570}, _RANDOM: {"random.txt rows": 117_113}}
FULL_COUNTS = {"users of the full matrix": 1_411, "items of the full matrix": 3_327}
EXPOSURE_COUNTS = {"items": 10_728, "exposures": 12_530_806}


@dataclass(frozen=True, eq=False)
class FullMatrix:
    """The fully observed matrix as labels watch_ratio > 2.

    Attributes
    ----------
    labels: (n_users, n_items) bool. The 0.4 % of pairs that nobody observed are False: the packed file cannot
        tell them apart.
    user_ids, item_ids: (n_users,) and (n_items,) int64, the release's ids.
    """

    labels: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray


def load(
    root: str | Path | None = None,
    *,
    unbiased: Literal["full", "random"] = "full",
    duplicates: Duplicates = "mean",
    check_counts: bool = True,
) -> Dataset:
    """KuaiRec: biased = big_matrix.csv; outcome watch_ratio >= 2.

    Parameters
    ----------
    root: folder that holds kuairec/; default $DECONREC_DATA, then the user's cache.
    unbiased: "full" = small_matrix.csv, or "random" = random.txt.
    duplicates: what a repeated pair means, see above.
    check_counts: compare with the published counts.

    Raises
    ------
    MissingData: the files are not there.  DataError: they are not the published ones.
    """
    if unbiased not in ("full", "random"):
        raise ParameterError(f"'unbiased' of kuairec must be 'full' or 'random'; got {unbiased!r}.")
    big, fair = locate(RELEASE if unbiased == "full" else WITH_RANDOM, root)
    log, test = _watched(big, stamped=True), _watched(fair)
    if check_counts:
        found = {
            "big_matrix.csv rows": len(log),
            "users": log["user_id"].n_unique(),
            "items": log["item_id"].n_unique(),
            f"{fair.name} rows": len(test),
        }
        expect_counts("kuairec", COUNTS | UNBIASED_COUNTS[fair.name], found)
    data = Dataset.from_frames(
        log, unbiased=test, duplicates=duplicates, binarize=2.0, protocol="pairs", name="kuairec"
    )
    if unbiased == "full":
        return data
    return replace(data, notes=(*data.notes, "The pairs of random.txt are not uniform over videos."))


def full_matrix(root: str | Path | None = None, *, check_counts: bool = True) -> FullMatrix:
    """The labels of small_matrix_label_gt2.npz, or made from small_matrix.csv of the release.

    Raises
    ------
    MissingData: neither file is there.  DataError: it is not the published one.
    """
    (path,) = locate(FULL_MATRIX, root)
    out = _packed(path) if path.name == _LABELS else _from_rows(_watched(path))
    if check_counts:
        found = dict(zip(FULL_COUNTS, out.labels.shape, strict=True))
        expect_counts("kuairec", FULL_COUNTS, found)
    for array in (out.labels, out.user_ids, out.item_ids):
        array.flags.writeable = False
    return out


def exposure_counts(
    root: str | Path | None = None, *, check_counts: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(item ids, exposures), both (10,728,) int64: how often the biased log shows each video.

    From item_cnt_train.json, or counted in big_matrix.csv of the release.

    Raises
    ------
    MissingData: neither file is there.  DataError: it is not the published one.
    """
    (path,) = locate(EXPOSURE, root)
    if path.name == _COUNTS:
        with reading(path):
            raw = {int(item): int(count) for item, count in json.loads(path.read_text()).items()}
        items = np.array(sorted(raw), np.int64)
        counts = np.array([raw[item] for item in items.tolist()], np.int64)
    else:
        items, counts = np.unique(_watched(path)["item_id"].to_numpy(), return_counts=True)
    if check_counts:
        expect_counts("kuairec", EXPOSURE_COUNTS, {"items": len(items), "exposures": int(counts.sum())})
    return items, counts


def _watched(path: Path, stamped: bool = False) -> pl.DataFrame:
    """user_id, item_id, rating = watch ratio; and the timestamp, where no row lacks it."""
    types = {"user_id": pl.Int64, "video_id": pl.Int64, "watch_ratio": pl.Float32}
    with reading(path):
        if path.name == _RANDOM:
            return pl.read_csv(path, has_header=False, schema=dict(zip(_ROLES, types.values(), strict=True)))
        columns = [*types, "timestamp"] if stamped else [*types]
        table = pl.read_csv(path, columns=columns, schema_overrides=types)
    table = table.rename(dict(zip(types, _ROLES, strict=True)))
    return table.drop("timestamp") if stamped and table["timestamp"].null_count() else table


_ROLES = ("user_id", "item_id", "rating")


def _packed(path: Path) -> FullMatrix:
    with reading(path), np.load(path, allow_pickle=False) as file:
        n_users, n_items = (int(n) for n in file["shape"])
        labels = np.unpackbits(file["label_packed"], axis=1, count=n_items).astype(bool)
        users, items = file["user_ids"].astype(np.int64), file["item_ids"].astype(np.int64)
    if labels.shape != (n_users, n_items) or (len(users), len(items)) != (n_users, n_items):
        raise DataError(
            f"'{path}' must hold labels, ids and shape that fit; got {labels.shape}. Get it again."
        )
    return FullMatrix(labels, users, items)


def _from_rows(rows: pl.DataFrame) -> FullMatrix:
    users, u = np.unique(rows["user_id"].to_numpy(), return_inverse=True)
    items, i = np.unique(rows["item_id"].to_numpy(), return_inverse=True)
    labels = np.zeros((len(users), len(items)), bool)
    liked = (rows["rating"] > LIKED).to_numpy()
    labels[u[liked], i[liked]] = True
    return FullMatrix(labels, users, items)
