"""The world of impressions: rates, the dial, the truth, and that the log shows no more than it may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deconrec as dc
from deconrec.checks.bench import quiet
from deconrec.errors import ParameterError


def world(**options: Any) -> tuple[Any, Any]:
    return dc.simulate.impressions(**{"n_impressions": 20_000, "n_users": 300, "n_items": 50} | options)


def test_rates_are_those_asked_for() -> None:
    data, truth = world(click_rate=0.1, conversion_rate=0.25)
    assert truth.propensity.mean() == pytest.approx(0.1, abs=1e-4)
    assert truth.outcome.mean() == pytest.approx(0.25, abs=0.01)
    assert data.density == pytest.approx(0.1, abs=0.01)
    assert truth.rating.mean() == pytest.approx(0.25, abs=0.01)
    assert truth.nominal_propensity.mean() == pytest.approx(0.1, abs=0.01)


def test_the_log_shows_conversions_where_clicked() -> None:
    data, truth = world()
    shown = data.impressions
    assert np.array_equal(shown.log.rating, truth.rating * shown.click)
    assert len(data.unbiased) == 400
    assert len(truth.outcome) == len(shown)


@pytest.mark.parametrize("dial", [0.0, 1.0, 2.0])
def test_clicked_rows_are_biased_by_the_dial_alone(dial: float) -> None:
    data, truth = world(confounding=dial)
    click = data.impressions.click
    gap = truth.rating[click].mean() - truth.outcome[click].mean()
    error = np.sqrt(0.25 / click.sum())
    assert (abs(gap) < 4 * error) == (dial == 0.0)
    if dial:
        assert gap > 0


def test_forced_clicks_are_representative() -> None:
    data, truth = world(unbiased_share=0.5)
    rows = data.unbiased
    error = np.sqrt(0.25 / len(rows))
    assert rows.rating.mean() == pytest.approx(truth.outcome.mean(), abs=4 * error)


def test_the_truth_is_the_chance_given_what_is_known() -> None:
    """Conversions have the mean of the truth inside every band of it: it is calibrated over all impressions."""
    _, truth = world(n_impressions=60_000)
    for low in (0.0, 0.1, 0.2, 0.4):
        band = (truth.outcome >= low) & (truth.outcome < low + 0.1)
        error = np.sqrt(0.25 / band.sum())
        assert truth.rating[band].mean() == pytest.approx(truth.outcome[band].mean(), abs=4 * error)


def test_a_seed_is_a_world_and_a_larger_share_only_adds() -> None:
    a, b = world(seed=3)[0], world(seed=3, unbiased_share=0.0)[0]
    assert a.impressions.log.rating.tolist() == b.impressions.log.rating.tolist()
    assert b.unbiased is None
    assert world(seed=4)[0].fingerprint != a.fingerprint


@pytest.mark.parametrize(
    "bad", [{"click_rate": 0.0}, {"n_users": 1}, {"context_overlap": 2.0}, {"missing": 1.0}]
)
def test_ranges(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(bad))):
        world(**bad)


@pytest.mark.slow
def test_calibrated_propensities_have_less_than_two_thirds_of_the_naive_error() -> None:
    """Five worlds with the dial at 1: pCVR over all impressions, clicked or not. The bound was set before running."""
    error: dict[str, list[float]] = {}
    for seed in range(5):
        data, truth = dc.simulate.impressions(
            n_impressions=20_000, n_users=800, unbiased_share=0.02, seed=1000 + seed
        )
        for key in ("mf", "res-ips"):
            with quiet():
                model = dc.make(key).set_params(dim=8, seed=seed).fit(data, refit=True)
            p = model.predict(data.frame(data.impressions.log))
            error.setdefault(key, []).append(float(((p - truth.outcome) ** 2).mean()))
    assert np.mean(error["res-ips"]) < 2 / 3 * np.mean(error["mf"])
