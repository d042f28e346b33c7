"""Data on which no comparison can say anything are refused before anything is fitted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.errors import DataError, ParameterError
from deconrec.experiments.readiness import check_comparable, crowded


def frame(n_users: int, n_items: int, rating: list[int]) -> pl.DataFrame:
    user, item = (c.ravel() for c in np.indices((n_users, n_items)))
    return pl.DataFrame({"user_id": user, "item_id": item, "rating": np.resize(rating, len(user))})


@pytest.mark.parametrize(("shape", "says"), [((1, 9), "has 1 and 9"), ((9, 1), "has 9 and 1")])
def test_one_user_or_one_item(shape: tuple[int, int], says: str) -> None:
    data = dc.Dataset.from_frames(frame(*shape, [1, 2, 3]))
    with pytest.raises(DataError, match=f"at least 2 users and 2 items.*{says}"):
        dc.compare(data, ["mf", "popularity"], seeds=2)


def test_clicks_alone_cannot_be_compared_over_pairs_but_over_users():
    data = dc.Dataset.from_frames(frame(6, 5, [1]), name="clicks")
    with pytest.raises(
        DataError, match=r"every outcome of 'clicks' is the same \(rows: 30\).*--protocol users"
    ):
        dc.compare(data, ["mf", "popularity"], seeds=2)
    check_comparable(data, "users", None)


def test_a_randomised_log_with_both_outcomes_is_enough():
    unbiased = frame(6, 5, [1, 2])
    check_comparable(dc.Dataset.from_frames(frame(6, 5, [1]), unbiased=unbiased), "pairs", None)


def test_methods_are_a_list():
    data = dc.Dataset.from_frames(frame(6, 5, [1, 2]))
    with pytest.raises(ParameterError, match="must be a list of names; got the text 'mf'"):
        dc.compare(data, "mf")


def test_lists_that_hold_every_test_row_are_noted():
    data = dc.Dataset.from_frames(frame(10, 8, [0, 1]))  # ten users
    metrics = ["auc", "ndcg@5/shown/biased", "recall@2/shown/biased", "recall@5/full"]
    (note,) = crowded(data, metrics, {"test": 30})
    assert note.startswith("A user has 3.0 test rows in the mean")
    assert "ndcg@5/shown/biased can hardly" in note
    assert not crowded(data, metrics, {"test": 60})
    assert not crowded(data, ["auc"], {"test": 10})


def test_a_log_of_ones_is_ranked_by_users_without_a_threshold():
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((60, 30)) < 0.4)
    clicks = pl.DataFrame({"user_id": user, "item_id": item, "rating": np.ones(len(user))})
    data = dc.Dataset.from_frames(clicks)
    assert data.positive(np.array([0.0, 1.0])).tolist() == [False, True]
    result = dc.compare(data, ["random", "popularity"], seeds=2, protocol="users")
    assert all(m.endswith("/biased") for m in result.metrics)
    assert result.mean("popularity", result.metrics[0]) > 0
    graded = dc.Dataset.from_frames(clicks.with_columns(rating=pl.Series(rng.integers(1, 6, len(user)))))
    with pytest.raises(DataError, match="set one"):
        graded.positive(np.array([1.0]))


def test_a_result_prints_in_a_few_lines():
    data = dc.Dataset.from_frames(frame(20, 10, [0, 1, 1]))
    shown = str(dc.compare(data, ["random", "popularity"], seeds=2, metrics=["auc"]))
    first, second, third = shown.splitlines()
    assert first == "Result('data': 2 methods, 2 seeds, 1 tests)"
    assert second.startswith("  random: auc/biased 0.")
    assert third.startswith("  popularity: auc/biased 0.")
