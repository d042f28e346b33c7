"""Tuning: what a trial is judged by, and methods without epochs."""

from __future__ import annotations

import pytest

import deconrec as dc
from deconrec.data.split import PairsSplit
from deconrec.errors import ParameterError
from deconrec.experiments.tune import judged, search_space, tune

optuna = pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def parts():
    data, _ = dc.simulate.pairs(n_users=80, n_items=40, exposure_rate=0.2, unbiased_share=0.2, seed=0)
    return PairsSplit(seed=0).apply(data)


@pytest.mark.parametrize("method", ["mf:epochs=2", "mf:epochs=0", "ease", "ips:epochs=2+propensity.epochs=2"])
def test_every_kind_of_method_can_be_tuned(method, parts) -> None:
    model = tune(dc.make(method), parts.train, parts.holdout, 2)
    assert model.seen_.nnz


def test_a_trial_is_judged_by_its_best_epoch(parts) -> None:
    model = dc.MF(dim=2, epochs=4).fit(parts.train, validation=parts.holdout)
    assert judged(model, parts.holdout) == max(model.history_.curve("score"))
    assert judged(model, parts.holdout) == pytest.approx(model.validation_score(parts.holdout))


def test_nuisances_are_searched_too_and_zero_trials_refused(parts) -> None:
    assert "propensity.floor" in search_space(dc.IPS())
    with pytest.raises(ParameterError, match="at least 1"):
        tune(dc.MF(), parts.train, parts.holdout, 0)
