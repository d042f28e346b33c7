from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import calibration_curve

from deconrec.errors import DataError, ParameterError, UnknownName
from deconrec.evaluation.calibration import ece, platt, reliability


def ece_by_loops(p, label, bins):
    total = 0.0
    for b in range(bins):
        rows = [i for i in range(len(p)) if min(int(p[i] * bins), bins - 1) == b]
        if rows:
            gap = abs(sum(p[i] for i in rows) - sum(label[i] for i in rows)) / len(rows)
            total += len(rows) / len(p) * gap
    return total


def test_by_hand():
    p, label = [0.1, 0.2, 0.8, 1.0], [0, 1, 1, 1]
    result = reliability(p, label, bins=2)
    np.testing.assert_allclose(result.edges, [0, 0.5, 1])
    np.testing.assert_allclose(result.prediction, [0.15, 0.9])
    np.testing.assert_allclose(result.outcome, [0.5, 1.0])
    np.testing.assert_array_equal(result.count, [2, 2])
    assert result.ece == pytest.approx(0.5 * 0.35 + 0.5 * 0.1)
    assert ece(p, label, bins=2) == result.ece


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_ece_equals_the_loops(bins):
    rng = np.random.default_rng(bins)
    p, label = rng.random(300), rng.random(300) < 0.5
    assert ece(p, label, bins) == pytest.approx(ece_by_loops(p, label, bins), abs=1e-12)


@pytest.mark.parametrize(("binning", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_bins_agree_with_scikit_learn(binning, strategy):
    rng = np.random.default_rng(0)
    p = rng.beta(1, 4, 1000)
    label = rng.random(1000) < p
    outcome, prediction = calibration_curve(label, p, n_bins=8, strategy=strategy)
    ours = reliability(p, label, 8, binning)
    filled = ours.count > 0
    np.testing.assert_allclose(ours.prediction[filled], prediction, atol=2e-3)
    np.testing.assert_allclose(ours.outcome[filled], outcome, atol=1e-2)


def test_equal_mass_fills_the_bins_evenly_and_keeps_equal_predictions_together():
    p = np.random.default_rng(1).random(1000)
    assert reliability(p, p < 0.5, 10, "mass").count.tolist() == [100] * 10
    assert reliability([0.0, 0.5, 0.5, 1.0], [0, 0, 1, 1], 2, "mass").count.tolist() == [1, 3]
    tied = reliability([0.0] * 90 + [0.5] * 10, [0] * 90 + [1] * 10, 10, "mass")
    assert tied.count.sum() == 100
    assert len(tied.count) <= 2
    constant = reliability([0.3] * 5, [0, 0, 1, 1, 1], 10, "mass")
    assert (constant.count.tolist(), constant.ece) == ([5], pytest.approx(0.3))


def test_empty_bins_have_no_means_and_do_not_count():
    result = reliability([0.05, 0.95], [0, 1], 10)
    assert result.count.tolist() == [1] + [0] * 8 + [1]
    assert np.isnan(result.prediction[1:9]).all()
    assert result.ece == pytest.approx(0.05)


def test_calibrated_predictions_score_near_0_and_shifted_ones_do_not():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.1, 0.7, 20_000)
    label = rng.random(20_000) < p
    assert ece(p, label) < 0.02
    assert ece(p + 0.2, label) == pytest.approx(0.2, abs=0.02)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 15),
    st.sampled_from(["width", "mass"]),
)
def test_properties(rows, bins, binning):
    p, label = np.array([p for p, _ in rows]), np.array([y for _, y in rows])
    result = reliability(p, label, bins, binning)
    assert 0 <= result.ece <= 1
    assert result.count.sum() == len(p)
    assert len(result.count) <= bins
    assert ece(p[::-1], label[::-1], bins, binning) == pytest.approx(result.ece, abs=1e-9)
    assert ece(label, label, bins, binning) == 0.0


def test_no_rows():
    for binning in ("width", "mass"):
        assert np.isnan(ece([], [], binning=binning))


def test_errors():
    with pytest.raises(ParameterError, match="'bins' must be a whole number of at least 1; got 0"):
        ece([0.5], [1], bins=0)
    with pytest.raises(UnknownName, match="did you mean 'mass'"):
        ece([0.5], [1], binning="mas")
    with pytest.raises(DataError, match="numbers from 0 to 1"):
        ece([1.5], [1])
    with pytest.raises(DataError, match="`label` has 2 rows"):
        ece([0.5], [1, 0])


@pytest.mark.parametrize(
    ("score", "r"),
    [([], []), ([1.0], [1.0]), ([2.0, 2.0], [0.0, 1.0]), ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])],
    ids=["nothing", "one row", "one score", "one outcome"],
)
def test_scores_that_tell_nothing_keep_a_small_slope_and_the_mean(score: list[float], r: list[float]) -> None:
    slope, shift = platt(np.array(score), np.array(r))
    mean = np.clip(np.mean(r) if r else 0.5, 0.01, 0.99)
    assert slope == 0.1
    centre = float(np.mean(score)) if score else 0.0
    assert expit(slope * centre + shift) == pytest.approx(mean)


def test_a_falling_curve_hardly_rises() -> None:
    score = np.linspace(-2, 2, 200)
    r = (score < 0).astype(float)
    slope, shift = platt(score, r)
    assert slope == 1e-3
    assert expit(shift) == pytest.approx(0.5)
