"""The floor, its gradient, and what it reports."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import deconrec as dc
from deconrec.errors import DataError, OverlapWarning
from deconrec.propensity.floor import Overlap, automatic, floored, inverse
from deconrec.propensity.logistic_mf import LogisticMF
from deconrec.propensity.naive_bayes import NaiveBayes
from deconrec.propensity.popularity import Popularity


def test_values_are_floored_and_gradients_are_not():
    p = torch.tensor([0.001, 0.04, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    out = floored(p, 0.05)
    np.testing.assert_allclose(out.detach(), [0.05, 0.05, 0.5, 1.0], rtol=1e-12)
    out.sum().backward()
    assert (p.grad == 1).all()  # a clamp would give 0 below the floor, and learning would stop there


def test_the_inverse_of_a_logit():
    logit = torch.tensor([-60.0, -1.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    p = torch.sigmoid(logit.detach()).numpy()
    out = inverse(logit, 0.1)
    np.testing.assert_allclose(out.detach(), 1 / np.maximum(p, 0.1), rtol=1e-12)
    out.sum().backward()
    floored_p = np.maximum(p, 0.1)
    np.testing.assert_allclose(logit.grad, -(p * (1 - p)) / floored_p**2, rtol=1e-9)
    assert (logit.grad[1:] != 0).all()
    assert torch.isfinite(logit.grad).all()


def test_numbers_of_the_overlap_by_hand():
    p = np.array([0.01, 0.1, 0.5, 0.5])
    o = Overlap.of(p, 0.05)
    w = np.array([20.0, 10.0, 2.0, 2.0])
    assert (o.n, o.floored, o.floor) == (4, 1, 0.05)
    assert o.floored_share == 0.25
    assert o.ess == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert o.ess_share == pytest.approx(o.ess / 4)
    assert o.largest == pytest.approx(20 / w.mean())


def test_equal_propensities_lose_nothing():
    o = Overlap.of(np.full(10, 0.2), 0.05)
    assert o.ess == pytest.approx(10)
    assert o.largest == pytest.approx(1)


def test_an_empty_log_has_no_overlap_and_no_warning():
    o = Overlap.of(np.zeros(0), 0.05)
    assert (o.ess, o.ess_share, o.floored_share, o.largest) == (0, 0, 0, 0)
    o.warn("x")


def test_a_warning_where_few_rows_carry_the_weight():
    p = np.r_[np.full(999, 1.0), 1e-4]
    with pytest.warns(OverlapWarning, match=r"\[OVERLAP\] mine: .*effective sample size 1 of 1,000"):
        Overlap.of(p, 1e-6).warn("mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Overlap.of(np.linspace(0.2, 1, 100), 0.05).warn("mine")


def test_the_automatic_floor_follows_a_sparse_log():
    assert automatic(None, 0.5) == 0.1
    assert automatic(None, 0.02) == 0.02
    assert automatic(0.3, 0.02) == 0.3


@pytest.mark.parametrize(
    "model", [LogisticMF(epochs=1, floor=0.95), Popularity(floor=0.95), NaiveBayes(floor=0.95)]
)
def test_propensities_that_change_nothing_are_refused(model):
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.2, unbiased_share=0.2, seed=0)
    with pytest.raises(DataError, match=r"must differ between observed rows.*use 'mf'"):
        model.fit(data)


def test_a_sparse_log_is_weighted_by_default():
    data, _ = dc.simulate.pairs(n_users=300, n_items=100, exposure_rate=0.01, unbiased_share=0.0, seed=0)
    model = dc.IPS(epochs=1).fit(data)
    assert model.propensity_.floor_ == pytest.approx(data.density, rel=0.2)
    assert model.propensity_.overlap_.floored_share < 1.0


@pytest.mark.parametrize("method", ["multi-ips", "escm2-dr", "res-ips:agreement=loss", "ltd"])
def test_a_learned_propensity_that_its_floor_makes_constant_is_refused(method) -> None:
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.1, unbiased_share=0.2, seed=0)
    model = dc.make(f"{method}{'+' if ':' in method else ':'}floor=0.99+epochs=4+dim=3")
    if "warmup" in model.get_params() and method == "ltd":
        model.set_params(warmup=1)
    with pytest.raises(DataError, match="weighting would change nothing"):
        model.fit(data)


def test_overlap_says_how_many_rows_were_floored_and_what_the_tail_holds() -> None:
    p = np.array([0.01] * 2 + [0.5] * 198)
    overlap = Overlap.of(p, 0.02)
    assert (overlap.floored, overlap.floored_share) == (2, 0.01)
    assert overlap.tail == pytest.approx(100 / (100 + 396))  # the largest hundredth: two weights of 50
    assert "2 (1%) at the floor 0.02" in str(overlap)
    record = overlap.to_dict()
    assert (record["n"], record["floored"]) == (200, 2)
    assert {type(record[k]) for k in ("n", "floored")} == {int}, "counts are whole numbers in JSON too"
