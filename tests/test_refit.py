"""Learning again from all rows, for as many epochs as the hold-out chose."""

from __future__ import annotations

import numpy as np
import pytest

import deconrec as dc
from deconrec.checks.fixtures import confounded
from deconrec.data.split import PairsSplit, ValidationPart
from deconrec.methods.mf import MF

SMALL = {"dim": 3, "epochs": 12, "patience": 3, "l2": 1e-3}


@pytest.fixture(scope="module")
def parts():
    data, _ = confounded()
    return PairsSplit(0, (0.4, 0.2, 0.4)).apply(data)


def test_it_is_a_fit_on_all_rows_for_the_chosen_epochs(parts) -> None:
    model = MF(**SMALL).fit(parts.train, validation=parts.holdout, refit=True)
    whole = parts.train.with_logs(
        parts.train.biased.joined(parts.holdout.data.biased, parts.train.n_items), parts.train.unbiased
    )
    assert len(whole.biased) == len(parts.train.biased) + len(parts.holdout.data.biased)
    assert model.spec_.rows == len(whole.biased)
    nothing = ValidationPart(whole.with_logs(whole.biased.take(np.zeros(0, np.int64))))
    twin = MF(**SMALL | {"epochs": model.history_.best_epoch + 1, "patience": 0}).fit(
        whole, validation=nothing
    )
    assert np.array_equal(model.score(), twin.score())
    assert len(model.history_) > len(twin.history_)  # what is kept is how the epochs were chosen
    stopped = MF(**SMALL).fit(parts.train, validation=parts.holdout)
    assert not np.array_equal(model.score(), stopped.score())


def test_the_same_rows_twice_are_joined_once(parts) -> None:
    log = parts.train.biased
    assert len(log.joined(log, parts.train.n_items)) == len(log)


def test_randomised_rows_that_stop_training_are_not_learned_from(parts) -> None:
    model = MF(**SMALL).fit(parts.train, validation=parts.validation, refit=True)
    assert model.spec_.rows == len(parts.train.biased)
    assert np.array_equal(model.score(), MF(**SMALL).fit(parts.train, validation=parts.validation).score())


@pytest.mark.parametrize("method", ["res-ips", "res-dr", "kd-label", "brd-ips", "ips", "ease"])
def test_methods_with_parts_of_their_own_learn_again(method, parts) -> None:
    model = dc.checks.cheap(dc.METHODS[method]).fit(parts.train, validation=parts.holdout, refit=True)
    assert model.spec_.rows > len(parts.train.biased)
    assert np.isfinite(model.score()).all()
    teacher = getattr(model, "teacher_", None) or getattr(model, "benchmark_", None)
    if teacher is not None:
        assert teacher.spec_.rows == model.spec_.rows
        assert len(teacher.history_)
