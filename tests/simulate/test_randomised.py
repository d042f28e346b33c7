from __future__ import annotations

import itertools

import numpy as np
import pytest

from deconrec.errors import DataError, ParameterError
from deconrec.simulate import deep_deconf, pairs, randomise

SMALL = {"n_users": 120, "n_items": 80}


def test_a_simulators_own_log_is_what_randomise_adds_for_the_same_seed():
    with_log, _ = pairs(unbiased_share=0.05, seed=3, **SMALL)
    without, truth = pairs(unbiased_share=0.0, seed=3, **SMALL)
    assert without.unbiased is None
    added = randomise(without, truth, share=0.05, seed=3)
    assert added.fingerprint == with_log.fingerprint
    assert without.unbiased is None  # the input is untouched


def test_rows_are_distinct_pairs_with_the_true_rating_and_of_the_asked_number():
    data, truth = deep_deconf(n_factors=10, seed=1, **SMALL)
    out = randomise(data, truth, share=0.0333, seed=8)
    log = out.unbiased
    assert len(log) == round(0.0333 * 120 * 80) == len(np.unique(log.key(80)))
    np.testing.assert_array_equal(log.rating, truth.rating[log.user, log.item])
    assert (out.biased, out.user_features, out.task) == (data.biased, data.user_features, data.task)


def test_a_smaller_share_is_part_of_a_larger_and_share_one_is_everything():
    data, truth = pairs(seed=0, **SMALL)
    keys = [set(randomise(data, truth, s, seed=4).unbiased.key(80).tolist()) for s in (1e-9, 0.01, 0.5, 1.0)]
    assert [len(k) for k in keys] == [1, 96, 4800, 9600]
    assert all(a < b for a, b in itertools.pairwise(keys))


def test_the_sample_does_not_look_at_ratings_or_exposure():
    """Over 200 samples the mean rating and the mean propensity are those of all pairs (|z| < 3.5, fixed)."""
    data, truth = pairs(confounding=2.0, seed=0, **SMALL)
    logs = [randomise(data, truth, 0.02, seed=s).unbiased for s in range(200)]
    for column in (truth.rating.astype(float), truth.propensity.astype(float)):
        means = np.array([column[g.user, g.item].mean() for g in logs])
        assert abs(means.mean() - column.mean()) < 3.5 * means.std(ddof=1) / np.sqrt(len(means))


def test_every_pair_is_as_likely_as_another():
    """1,000 samples of a tenth of 48 pairs: chi-square with 47 degrees below 85 (its .999 point is 82.7)."""
    data, truth = pairs(n_users=6, n_items=8, exposure_rate=0.3, seed=0)
    counts = np.zeros(48)
    for seed in range(1000):
        counts[randomise(data, truth, 0.1, seed=seed).unbiased.key(8)] += 1
    expected = counts.sum() / 48
    assert ((counts - expected) ** 2 / expected).sum() < 85


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan"), "much", True])
def test_share_out_of_range(share):
    data, truth = pairs(n_users=6, n_items=8, exposure_rate=0.3, seed=0)
    with pytest.raises(ParameterError, match="'share' of randomise must be a number in"):
        randomise(data, truth, share)


def test_truth_of_other_data():
    data, _ = pairs(seed=0, **SMALL)
    _, other = pairs(seed=0, n_users=120, n_items=81)
    with pytest.raises(DataError, match=r"\(120, 80\), truth has \(120, 81\)"):
        randomise(data, other, 0.1)
