"""Expected gains against the mean over all orders, and against the placements of `ranking`."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.evaluation import ranking
from deconrec.evaluation.gains import cumulative, expected_gains
from manual.offpolicy import gain_of


@pytest.mark.parametrize("kind", ["hit", "dcg"])
@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_gains_are_means_over_orders(kind: str, k: int) -> None:
    scores = np.array([[0.3, 0.9, 0.3, 0.9, 0.1, 0.3], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    excluded = np.array([[0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 1, 0]], bool)
    found = expected_gains(scores, excluded, {"g": (kind, k)})["g"]
    for row in range(2):
        candidates = np.flatnonzero(~excluded[row])
        for place, item in enumerate(candidates):
            expected = gain_of(scores[row, candidates].tolist(), place, kind, k)
            assert found[row, item] == pytest.approx(expected)
        assert (found[row, excluded[row]] == 0).all()


def test_sums_over_positives_are_those_of_ranking() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (40, 25)) / 5
    excluded, relevant = rng.random((40, 25)) < 0.2, rng.random((40, 25)) < 0.3
    found = expected_gains(scores, excluded, {"dcg": ("dcg", 5), "hit": ("hit", 5)})
    placed = ranking.place_block(scores, relevant & ~excluded, excluded, depth=5)
    for metric, gain in (("ndcg", "dcg"), ("recall_capped", "hit")):
        values = placed.values(metric, 5)
        ideal = cumulative(gain, 5, 25)[placed.n_positive]
        mine = (found[gain] * (relevant & ~excluded)).sum(1)[values.user]
        assert mine / ideal == pytest.approx(values.values)
