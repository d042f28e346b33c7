from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import expit

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth
from deconrec.effects.factors import LogisticFactors
from deconrec.exposure import predictive_check
from deconrec.pairs import NO_TABLES
from deconrec.training.samplers import Source, user_rows


@pytest.fixture(scope="module")
def model(world: tuple[Dataset, Truth]) -> LogisticFactors:
    return LogisticFactors(dim=2, check_draws=0).fit(world[0])


def test_posterior_mean_is_that_of_quadrature(model: LogisticFactors, exposures: np.ndarray) -> None:
    """Against a grid over z: the mean, of which the mode alone falls short."""
    grid = np.array(list(itertools.product(np.linspace(-5, 5, 101), repeat=2)))
    logit = grid @ model.loading_.T + model.intercept_
    some = exposures[:40]
    log_p = some @ logit.T - np.logaddexp(0, logit).sum(1) - 0.5 * (grid**2).sum(1)
    weight = np.exp(log_p - log_p.max(1, keepdims=True))
    exact = (weight / weight.sum(1, keepdims=True)) @ grid
    mean, cov = model.posterior(some)
    # The mode: where the gradient of the log posterior vanishes.
    z = np.zeros_like(mean)
    for _ in range(30):
        p = expit(z @ model.loading_.T + model.intercept_)
        step = (some - p) @ model.loading_ - z
        z = z + np.einsum("ukl,ul->uk", cov, step)
    assert np.abs(mean - exact).max() < 0.02
    assert np.abs(mean - exact).mean() < 0.5 * np.abs(z - exact).mean()


def test_loadings_are_those_of_the_truth(model: LogisticFactors, world: tuple[Dataset, Truth]) -> None:
    """Up to a rotation: products of loadings, which give the correlations of exposures."""
    true = world[1].extra["exposure_weights"]
    assert np.corrcoef((model.loading_ @ model.loading_.T).ravel(), (true.T @ true).ravel())[0, 1] > 0.95


def test_predictive_check_and_protocol(model: LogisticFactors, world: tuple[Dataset, Truth]) -> None:
    data = world[0]
    rows, _ = user_rows(Source.of(data, NO_TABLES), np.arange(5))
    z = model.confounder(rows)
    assert z.shape == (5, 2)
    assert torch.allclose(model.reconstruct(rows), model.decode(z))
    assert predictive_check(model, data, new_users=False, draws=30).satisfactory
    other = LogisticFactors(dim=2)
    other._restore(model._state(), None)  # type: ignore[arg-type]  # sizes stand in the arrays
    assert torch.equal(other.confounder(rows), z)


def test_more_factors_predict_held_out_exposures_better_until_the_truth(world: tuple[Dataset, Truth]) -> None:
    found = dc.effects.estimate(world[0], world[1].rating, dims=(1, 2, 4), bootstrap=0).sweep
    behind = [p.behind for p in found]
    assert behind[0] is not None
    assert behind[0] > 0.3
    assert [p.chosen for p in found] == [False, True, False]


def test_a_start_spares_rounds(model: LogisticFactors, world: tuple[Dataset, Truth]) -> None:
    again = LogisticFactors(dim=2, check_draws=0).fit(world[0], start=model)
    assert again.rounds_ < model.rounds_
    assert np.allclose(again.loading_, model.loading_, atol=0.02)


def test_an_item_that_nobody_saw() -> None:
    data, _ = dc.simulate.effects(n_users=60, n_items=6, n_confounders=1, seed=0)
    data = data.with_logs(data.biased.take(data.biased.item != 2))
    model = LogisticFactors(dim=1, check_draws=0).fit(data)
    assert np.isfinite(model.loading_).all()
    assert model.intercept_[2] < -2
