"""Distribution, balance, evidence, the look of a randomised log, propensities."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.dataset import Dataset, Features, Log
from deconrec.data.ids import Vocabulary
from deconrec.diagnostics import verdicts
from deconrec.diagnostics.advice import answer
from deconrec.diagnostics.balance import balance
from deconrec.diagnostics.confounding import Confounding, exposure_model
from deconrec.diagnostics.distribution import MOST, distribution
from deconrec.diagnostics.evidence import MATTERS, evidence
from deconrec.diagnostics.propensities import propensities
from deconrec.diagnostics.randomised import randomised


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dc.simulate.pairs(n_users=150, n_items=40, exposure_rate=0.15, unbiased_share=0.1, seed=0)[0]


def of_ratings(biased: np.ndarray, unbiased: np.ndarray | None) -> Dataset:
    def log(rating: np.ndarray) -> Log:
        return Log(np.arange(len(rating)) % 50, np.arange(len(rating)) // 50, rating)

    ids = [Vocabulary(pl.Series(np.arange(50)), kind) for kind in ("user", "item")]
    return Dataset(ids[0], ids[1], log(biased), None if unbiased is None else log(unbiased))


# ---------------------------------------------------------------------- distribution
def test_shares_are_counted() -> None:
    d = distribution(of_ratings(np.array([1, 1, 2, 5.0]), np.array([1, 2.0])))
    assert d.values.tolist() == [1, 2, 5]
    assert d.biased.tolist() == [0.5, 0.25, 0.25]
    assert d.unbiased is not None
    assert d.unbiased.tolist() == [0.5, 0.5, 0]
    assert d.distance == pytest.approx(0.25)
    assert (d.mean_biased, d.mean_unbiased) == (2.25, 1.5)


def test_chance_gives_the_noise() -> None:
    """Two samples of one distribution are on average as far apart as `noise` says."""
    rng = np.random.default_rng(0)
    found = [
        distribution(of_ratings(rng.integers(1, 6, 600) * 1.0, rng.integers(1, 6, 200) * 1.0))
        for _ in range(200)
    ]
    assert np.mean([d.distance for d in found]) == pytest.approx(np.mean([d.noise for d in found]), rel=0.1)


def test_many_values_are_binned_and_no_log_is_none() -> None:
    d = distribution(of_ratings(np.linspace(0, 1, 400), None))
    assert len(d.values) == MOST
    assert d.biased.sum() == pytest.approx(1)
    assert (d.unbiased, d.distance, d.mean_unbiased) == (None, None, None)


# ---------------------------------------------------------------------- balance
def test_differences_are_their_formula() -> None:
    data = of_ratings(np.ones(60), None)
    x = np.random.default_rng(1).standard_normal((50, 1)).astype(np.float32)
    missing = np.arange(50) < 5
    data = data._replace(user_features=Features(("age",), x, missing))
    w = np.random.default_rng(2).uniform(1, 3, 60)
    age = next(c for c in balance(data, {"w": w}) if c.name == "age")
    known = x[~missing, 0].astype(float)
    rows = [(float(x[u, 0]), w[k]) for k, u in enumerate(data.biased.user) if not missing[u]]
    before = (np.mean([v for v, _ in rows]) - known.mean()) / known.std()
    after = (sum(v * k for v, k in rows) / sum(k for _, k in rows) - known.mean()) / known.std()
    assert age.before == pytest.approx(before)
    assert age.after["w"] == pytest.approx(after)


def test_true_weights_balance() -> None:
    data, truth = dc.simulate.pairs(n_users=600, n_items=100, confounding=0.0, exposure_rate=0.2, seed=1)
    assert truth.propensity is not None
    w = 1 / truth.propensity[data.biased.user, data.biased.item]
    columns = [c for c in balance(data, {"true": w}) if c.name != "rows"]
    assert max(abs(c.before) for c in columns) > 0.3
    assert max(abs(c.after["true"]) for c in columns) < 0.12


def test_columns_that_do_not_vary_are_left_out() -> None:
    data = of_ratings(np.ones(50), None)  # every user has one row
    assert [(c.side, c.name) for c in balance(data, {})] == [("item", "rows")]


# ---------------------------------------------------------------------- evidence
def test_rows_needed_follow_the_square_root_law() -> None:
    data = of_ratings(np.r_[np.zeros(70), np.ones(30)], np.r_[np.zeros(50), np.ones(50)])
    c = Confounding(gap=0.0, low=-0.1, high=0.1, p=1.0, error=0.05, df=10**6, rows=100)
    e = evidence(data, c)
    assert e.enough is False
    assert e.needed == pytest.approx(100 * (2.8016 * 0.05 / MATTERS) ** 2, abs=2)
    assert evidence(data, Confounding(gap=0.0, p=1.0, error=0.01, df=500, rows=100)).enough
    without = evidence(of_ratings(np.r_[np.zeros(70), np.ones(30)], None), Confounding(why="none"))
    assert (without.rows, without.enough) == (0, None)
    assert without.needed == pytest.approx(2.8016**2 * 0.21 / MATTERS**2, rel=0.01)


def test_a_gap_of_a_rare_outcome_matters_sooner() -> None:
    """With 4 positives in 100, a gap of .05 is more than all of them: a quarter of the mean is what matters."""
    rare = of_ratings(np.r_[np.zeros(90), np.ones(10)], np.r_[np.zeros(96), np.ones(4)])
    c = Confounding(gap=0.0, low=-0.04, high=0.04, p=1.0, error=0.01, df=500, rows=100)
    e = evidence(rare, c)
    assert e.matters == pytest.approx(0.01)
    assert e.enough is False
    assert verdicts.power(c, e.matters).status == "found"
    assert "too few to find a gap of 0.01 " in verdicts.unbiased_log(e).says


# ---------------------------------------------------------------------- a randomised log
def test_a_random_draw_does_not_lean_and_a_chosen_one_does(data: Dataset) -> None:
    exposure = exposure_model(data)
    drawn = randomised(data, exposure)
    assert drawn is not None
    assert abs(drawn.lean) < 4 * drawn.error
    assert not drawn.doubtful
    biased = data.with_logs(data.biased.take(np.arange(len(data.biased)) % 2 == 0))
    chosen = biased.with_logs(biased.biased, data.biased.take(np.arange(len(data.biased)) % 2 == 1))
    leaning = randomised(chosen, exposure_model(chosen))
    assert leaning is not None
    assert leaning.doubtful
    assert leaning.lean > 0.3
    assert randomised(data.with_logs(data.biased), exposure) is None


# ---------------------------------------------------------------------- propensities
def test_propensities_are_out_of_fold_and_add_up(data: Dataset) -> None:
    p = propensities(data)
    assert p is not None
    assert p.pairs == data.n_users * data.n_items
    assert p.reliability.count.sum() == p.pairs
    assert p.overlap.n == len(data.biased)
    assert 0 < p.overlap.ess_share <= 1
    rows, weight = zip(*p.tail, strict=True)
    assert weight[-1] == pytest.approx(1)
    assert all(w >= r - 1e-9 for r, w in zip(rows, weight, strict=True)), "heaviest first"
    shown = p.calibration_dict()["bins"]
    assert sum(b["observed"] * b["pairs"] for b in shown) == pytest.approx(len(data.biased))


@pytest.mark.parametrize(("p", "first"), [(0.0004, "Yes"), (0.03, "Perhaps"), (0.2, "Not shown")])
def test_words_are_as_strong_as_the_evidence(p: float, first: str, data: Dataset) -> None:
    """Just below .05 nothing is claimed outright, and the interval stands beside every claim."""
    c = Confounding(
        gap=0.12,
        low=0.011,
        high=0.229,
        p=p,
        error=0.055,
        df=90.0,
        naive=0.2,
        naive_low=0.1,
        naive_high=0.3,
        rows=90,
    )
    verdict = verdicts.hidden_confounding(c)
    said = answer(c, evidence(data, c), ())
    assert said[0].startswith(first)
    assert "+0.011 to +0.229" in verdict.says
    assert verdict.status == ("found" if p < 0.05 else "not found")
    assert ("weak evidence" in verdict.says) == (first == "Perhaps")
    assert ("Exposure depends on the outcome" in verdict.says) == (first == "Yes")
    if p < 0.05:
        assert "+0.011 to +0.229" in said[0]
