"""Checks that a method learns: on a board whose right answer is known, and on a simulator with its truth."""

from __future__ import annotations

import numpy as np

from deconrec.base import Estimator
from deconrec.checks import fixtures
from deconrec.checks.bench import NotApplicable, quiet, require
from deconrec.checks.settings import LEARN
from deconrec.data.dataset import Dataset, Truth
from deconrec.evaluation.rating import auc, soft_auc
from deconrec.methods import key_of

BOARD_AUC = 0.9  # NOTE 0.5 is chance, 1.0 the board itself; every method here reaches 0.97 or more
MNAR_AUC = 0.55  # NOTE 0.5 is a constant; the simulator's own probabilities reach about 0.85


def check_checkerboard(estimator: Estimator) -> None:
    """On a checkerboard, withheld liked cells rank above withheld disliked ones: AUC of at least 0.9.

    Methods over rows see likes alone: which items a user was exposed to is what they read.
    """
    data, truth = fixtures.checkerboard(likes_only=estimator.tags.shape == "rows")
    got = _withheld_auc(_learned(estimator, data), data, truth)
    require(
        got >= BOARD_AUC,
        f"{type(estimator).__name__} ranks withheld cells of a checkerboard with AUC {got:.3f} (at least "
        f"{BOARD_AUC} "
        "wanted): check signs and codes of users and items, then learning rate and epochs.",
    )


def check_beats_a_constant(estimator: Estimator) -> None:
    """On ratings missing not at random, predictions of unseen pairs beat a constant against the truth."""
    data, truth = fixtures.mnar()
    got = _withheld_auc(_learned(estimator, data), data, truth)
    require(
        got > MNAR_AUC,
        f"{type(estimator).__name__} predicts unseen pairs of a simulator with AUC {got:.3f} against the "
        "truth "
        f"(above {MNAR_AUC} wanted; a constant has 0.5).",
    )


def _learned(estimator: Estimator, data: Dataset) -> Estimator:
    """The estimator fitted, with learning settings where it is a method of this library."""
    if estimator.tags.yardstick:
        raise NotApplicable("tags.yardstick is True")
    model = estimator.clone().set_params(**LEARN.get(key_of(estimator), {}))
    with quiet():
        return model.fit(data)


def _withheld_auc(model: Estimator, data: Dataset, truth: Truth) -> float:
    """AUC of scores against true outcome probabilities, over pairs of neither log."""
    withheld = np.ones(data.shape, bool)
    for log in (data.biased, data.unbiased):
        if log is not None:
            withheld[log.user, log.item] = False
    score, outcome = model.score()[withheld], truth.outcome[withheld]
    if np.isin(outcome, (0.0, 1.0)).all():
        return auc(score, outcome)
    return soft_auc(score, outcome)


LEARNING = (check_checkerboard, check_beats_a_constant)
