"""The description: right figures, every rule, no NaN."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from deconrec.data.dataset import Dataset
from deconrec.data.describe import describe


@pytest.fixture
def data():
    biased = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "b"],
            "item_id": [1, 2, 3, 1],
            "rating": [5, 4, 4, 1],
            "timestamp": [40, 10, 20, 30],
        }
    )
    unbiased = pl.DataFrame({"user_id": ["a", "c"], "item_id": [1, 9], "rating": [1, 2]})
    return Dataset.from_frames(
        biased,
        unbiased=unbiased,
        test=unbiased[:1],
        users=pl.DataFrame({"id": ["a", "z"], "age": [1, 2]}),
        rating_range=(1, 5),
        binarize=4,
        duplicates="last",
        name="[toy]",
    )


def printed(description):
    out = io.StringIO()
    Console(file=out, width=200).print(description)
    return out.getvalue()


def test_the_figures(data):
    d = describe(data)
    assert (d.name, d.n_users, d.n_items, d.density) == ("[toy]", 4, 4, 4 / 16)
    assert (d.fingerprint, d.protocol) == (data.fingerprint, "pairs")
    assert d.outcome == "outcome: rating >= 4 is 1, else 0"
    biased = d.logs["biased"]
    assert (biased.rows, biased.positives, biased.mean) == (4, 0.75, 3.5)
    assert biased.per_user == (1, 1.5, 2, 2.5, 3)
    assert biased.per_item == (1, 1, 1, 1.5, 2)
    assert (biased.silent_users, biased.silent_items) == (2, 1)
    assert biased.timestamps == (10, 40)
    assert d.logs["unbiased"].timestamps is None
    assert d.shared_pairs == {"biased and unbiased": 1, "biased and test": 1, "unbiased and test": 1}
    assert d.features == (("user", 1, 2),)
    assert dict(d.histogram) == {
        "1": {"biased": 0.25, "unbiased": 0.5, "test": 1.0},
        "2": {"biased": 0.0, "unbiased": 0.5, "test": 0.0},
        "4": {"biased": 0.5, "unbiased": 0.0, "test": 0.0},
        "5": {"biased": 0.25, "unbiased": 0.0, "test": 0.0},
    }
    assert d.notes == data.notes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "Repeated (user, item) pairs of one log: an error."),
        ({"duplicates": "last"}, "pairs of one log: the last one counts"),
        ({"duplicates": "mean"}, "pairs of one log: the mean rating counts"),
        ({}, "no range was given"),
        ({"rating_range": (0, 9)}, "a rating outside [0, 9] is an error"),
        ({}, "Null, NaN or infinite ratings"),
        ({}, "Ids seen only in the unbiased log"),
        ({}, "Users or items without features: there are no features"),
        ({"users": pl.DataFrame({"id": ["a"], "x": [1]})}, "without features: the column means"),
        ({}, "Pairs that stand in both logs"),
    ],
)
def test_the_rules_in_force(options, says):
    log = pl.DataFrame({"user_id": ["a"], "item_id": [1], "rating": [2.5]})
    data = Dataset.from_frames(log, **options)
    d = describe(data)
    assert any(says in rule for rule in d.rules)
    assert says in printed(d).replace("\n", " ")


def test_what_counts_without_a_binary_outcome():
    log = pl.DataFrame({"user_id": ["a", "b"], "item_id": [1, 1], "rating": [1.0, 3.0]})
    plain = describe(Dataset.from_frames(log))
    assert plain.outcome == "outcome: the rating, on [1, 3]"
    assert plain.logs["biased"].positives is None
    assert "positives" in printed(plain)
    ranked = describe(Dataset.from_frames(log, relevant=3, protocol="users"))
    assert ranked.outcome.endswith("; rating >= 3 is a positive")
    assert ranked.logs["biased"].positives == 0.5


def test_many_ratings_are_shown_in_bins():
    rng = np.random.default_rng(0)
    n = 1000
    log = pl.DataFrame({"user_id": range(n), "item_id": [0] * n, "rating": rng.normal(size=n)})
    high = log.with_columns(rating=pl.col("rating") + 9)
    bins = describe(Dataset.from_frames(log, unbiased=high)).histogram
    assert len(bins) == 10
    np.testing.assert_allclose([shares["biased"] for _, shares in bins], 0.1, atol=0.002)
    assert bins[-1][1]["unbiased"] == 1.0
    assert sum(shares["unbiased"] for _, shares in bins) == 1.0
    # Ties at a decile leave fewer bins, and every row in one.
    tied = log.with_columns(
        rating=pl.when(pl.col("user_id") < 900).then(0.0).otherwise(pl.col("rating").abs())
    )
    bins = describe(Dataset.from_frames(tied)).histogram
    assert sum(shares["biased"] for _, shares in bins) == pytest.approx(1)


def test_the_dictionary_is_json_without_nan(data):
    raw = describe(data).to_dict()
    again = json.loads(json.dumps(raw, allow_nan=False))
    assert again == raw
    assert raw["logs"]["biased"]["rows_per_user"] == {"min": 1, "q25": 1.5, "median": 2, "q75": 2.5, "max": 3}
    assert raw["ratings"][0] == {"rating": "1", "biased": 0.25, "unbiased": 0.5, "test": 1.0}
    assert raw["features"] == [{"side": "user", "columns": 1, "missing": 2}]
    empty = data.with_logs(data.biased, data.unbiased.take(np.zeros(0, int)))
    facts = describe(empty).to_dict()["logs"]["unbiased"]
    assert (facts["rows"], facts["mean"], facts["positives"], facts["rows_per_user"]) == (0, None, None, None)


def test_it_prints(data):
    text = printed(describe(data))
    for words in (
        "[toy]: 4 users x 4 items",
        "75.0%",
        "10 to 40",
        "user features: 1 columns, 2 users without",
    ):
        assert words in text
    for line in (*data.notes, data.fingerprint, "pairs in biased and unbiased: 1"):
        assert line in text
