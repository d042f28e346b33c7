"""The predictive check: its numbers against loops, and that it tells a right model from a wrong one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from deconrec.base import Spec
from deconrec.checks.fixtures import checkerboard, rows_world
from deconrec.data.dataset import Dataset
from deconrec.data.split import UsersSplit
from deconrec.exposure import PoissonExposure, VAEExposure, predictive_check
from deconrec.exposure.check import PredictiveCheck, user_check
from manual import factors

MODELS = [PoissonExposure(dim=2, iterations=10, check_draws=20), VAEExposure(dim=2, epochs=2, check_draws=20)]


def test_the_numbers_equal_the_twin():
    rng = np.random.default_rng(0)
    logits, uniform = rng.normal(size=(25, 4, 5)), rng.random((25, 4, 5))
    a = (rng.random((4, 5)) < 0.4).astype(float)
    p, likelihood = user_check(logits, a, uniform)
    for u in range(4):
        wanted = factors.predictive_p(logits[:, u].tolist(), a[u].tolist(), uniform[:, u].tolist())
        assert p[u] == pytest.approx(wanted[0])
        assert likelihood[u] == pytest.approx(wanted[1])


class Fixed:
    """A model that gives every user the same logits."""

    def __init__(self, logits):
        self.logits = logits
        self.asked = []

    def posterior_logits(self, rows, held, draws, rng):
        self.asked.append((rows, held))
        return np.tile(self.logits[held], (draws, len(rows), 1))


def world(p, n_users=300, seed=0):
    rng = np.random.default_rng(seed)
    u, i = np.nonzero(rng.random((n_users, len(p))) < p)
    return Dataset.from_frames(pl.DataFrame({"user_id": u, "item_id": i, "rating": np.ones(len(u))}))


def test_the_truth_has_a_p_of_a_half_and_the_right_likelihood():
    p = np.random.default_rng(3).uniform(0.25, 0.5, 40)
    check = predictive_check(Fixed(np.log(p / (1 - p))), world(p), new_users=True, draws=200)
    assert check.overall == pytest.approx(0.5, abs=4 * check.standard_error)
    entropy = (p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    assert check.mean_log_likelihood == pytest.approx(entropy, abs=0.02)
    assert check.satisfactory
    assert (check.cells == 8).all()


def test_a_model_of_other_exposures_is_found_out():
    p = np.where(np.arange(40) % 2 == 0, 0.6, 0.02)
    wrong = np.log(p[::-1] / (1 - p[::-1]))
    check = predictive_check(Fixed(wrong), world(p), new_users=True, draws=200)
    assert check.overall < 0.05
    assert not check.satisfactory


def test_held_out_exposures_are_never_given():
    model, data = Fixed(np.zeros(25)), rows_world()
    check = predictive_check(model, data, new_users=False, draws=5)
    assert len(check.p) == 40
    assert model.asked
    for rows, held in model.asked:
        assert len(held) == 5
        assert not np.isin(rows.item.numpy(), held).any()
        assert len(rows.item) > 0


@pytest.mark.parametrize("model", MODELS, ids=["poisson", "vae"])
def test_both_models_keep_it_and_check_on_new_users_where_there_are_some(model):
    parts = UsersSplit(0).apply(rows_world())
    fitted = model.clone().fit(parts.train, parts.holdout.history)
    assert fitted.check_.new_users
    assert len(fitted.check_.p) == parts.holdout.history.n_users
    assert "new users" in str(fitted.check_)
    own = model.clone().fit(parts.train)
    assert not own.check_.new_users
    assert len(own.check_.p) == parts.train.n_users
    again = model.clone()
    again._restore(fitted._state(), Spec.of(parts.train))
    np.testing.assert_array_equal(again.check_.p, fitted.check_.p)
    assert again.check_.overall == fitted.check_.overall
    assert again.check_.new_users
    none = model.clone().set_params(check_draws=0).fit(parts.train)
    assert none.check_ is None
    assert not any(k.startswith("check.") for k in none._state())


@pytest.mark.parametrize("model", MODELS, ids=["poisson", "vae"])
def test_new_users_rows_change_the_check_and_nothing_else(model):
    parts = UsersSplit(0).apply(rows_world())
    with_them = model.clone().fit(parts.train, parts.holdout.history)._state()
    without = model.clone().fit(parts.train)._state()
    for name in without:
        if not name.startswith("check."):
            np.testing.assert_array_equal(with_them[name], without[name])


def test_a_factor_model_that_fits_passes_and_one_without_factors_explains_less():
    data, _ = checkerboard(likes_only=True)
    good = PoissonExposure(dim=2, iterations=100).fit(data).check_
    poor = PoissonExposure(dim=1, iterations=100).fit(data).check_
    assert good.satisfactory
    assert good.mean_log_likelihood > poor.mean_log_likelihood + 0.05


def test_a_catalogue_too_small_to_hold_out_from_has_no_p():
    check = predictive_check(Fixed(np.zeros(2)), world(np.array([0.9, 0.9])), new_users=True)
    assert np.isnan(check.overall)
    assert not check.satisfactory
    assert isinstance(check, PredictiveCheck)
