from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deconrec as dc
from deconrec.errors import ParameterError


def world(**options: Any) -> tuple[Any, Any]:
    return dc.simulate.effects(**{"n_users": 1500, "n_items": 30, "seed": 0} | options)


def test_outcomes_are_the_equation() -> None:
    data, truth = world(single_cause=0.5, feature_effect=2.0)
    a = data.biased.pattern(data.shape).toarray()
    affinity = np.asarray(truth.confounder, np.float64) @ truth.extra["exposure_weights"]
    x = data.user_features.values
    expected = 10 + a @ truth.extra["effects"] + 0.3 * affinity + 0.5 * truth.extra["single"] + 2 * x
    assert np.allclose(truth.outcome, expected, atol=1e-4)
    assert np.std(truth.rating - truth.outcome) == pytest.approx(1, rel=0.02)
    assert np.allclose(data.biased.rating, truth.rating[data.biased.user, data.biased.item])


def test_exposures_follow_their_propensity() -> None:
    data, truth = world(exposure_rate=0.2)
    a = data.biased.pattern(data.shape).toarray()
    assert truth.propensity.mean() == pytest.approx(0.2, abs=1e-6)
    assert a.mean() == pytest.approx(0.2, abs=0.01)
    z = (a - truth.propensity).sum(0) / np.sqrt((truth.propensity * (1 - truth.propensity)).sum(0))
    assert np.abs(z).max() < 4.5


def test_a_confounder_of_a_single_item_moves_its_items_alone() -> None:
    (_, plain), (_, with_it) = world(), world(single_cause=1.0, single_items=4)
    single = with_it.extra["single"]
    assert np.abs(single[:, :4]).min(0).max() > 0
    assert (single[:, 4:] == 0).all()
    correlation = [np.corrcoef(single[:, i], with_it.propensity[:, i])[0, 1] for i in range(4)]
    assert min(correlation) > 0.3
    assert np.array_equal(plain.extra["effects"], with_it.extra["effects"])  # the same draws


def test_the_same_seed_gives_the_same_world() -> None:
    one, other, third = world()[1], world()[1], world(seed=1)[1]
    assert np.array_equal(one.rating, other.rating)
    assert not np.array_equal(one.rating, third.rating)
    assert world()[0].user_features is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_users", 1),
        ("exposure_rate", 1.0),
        ("noise", 0.0),
        ("co_share", 2),
        ("confounding", -1),
        ("seed", -1),
    ],
)
def test_ranges(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' of simulate.effects"):
        world(**{name: value})
