"""The doctor of impression logs: its model against a slow twin, its parts by their formulas, what it says and
cannot."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth
from deconrec.data.impressions import Impressions
from deconrec.diagnostics import Diagnosis
from deconrec.diagnostics.additive import MAIN
from deconrec.diagnostics.confounding import Confounding, gap
from deconrec.diagnostics.impressions import contextual, doctor, verdicts
from deconrec.diagnostics.impressions.balance import balance
from deconrec.diagnostics.impressions.clicks import click_propensities
from deconrec.diagnostics.impressions.columns import Columns, columns
from deconrec.diagnostics.impressions.confounding import LEAST, ClickModel, confounding
from deconrec.diagnostics.impressions.contextual import Contextual
from deconrec.diagnostics.impressions.randomised import randomised
from deconrec.diagnostics.impressions.rates import auc_reach, rate, rates
from deconrec.errors import DataError, DataWarning
from deconrec.methods import ALIASES, METHODS
from deconrec.report.diagnose import render_diagnosis

CODES = {
    "HIDDEN_CONFOUNDING",
    "POWER",
    "UNBIASED_LOG",
    "RANDOMISED_LOG",
    "RATES",
    "CONVERSIONS",
    "LABEL_LEAK",
    "WEIGHTS",
    "CALIBRATION",
    "BALANCE",
}
SMALL = {
    "n_impressions": 3000,
    "n_users": 80,
    "n_items": 30,
    "click_rate": 0.3,
    "unbiased_share": 0.2,
    "seed": 0,
}


def world(dial: float, **settings: Any) -> tuple[Dataset, Truth]:
    return dc.simulate.impressions(confounding=dial, **(SMALL | settings))


@pytest.fixture(scope="module")
def confounded() -> Diagnosis:
    return dc.diagnose(world(2.0)[0], name="a world")


@pytest.fixture(scope="module")
def alone() -> Diagnosis:
    return dc.diagnose(world(2.0, unbiased_share=0.0)[0])


def of(d: Diagnosis, code: str) -> Any:
    return next(v for v in d.verdicts if v.code == code)


# ---------------------------------------------------------------------- the model of clicks
def test_columns_are_what_they_are_called() -> None:
    data, _ = world(1.0)
    assert data.impressions is not None
    assert data.unbiased is not None
    x = columns((data.impressions.log, data.unbiased), data.shape)
    assert len(x) == len(data.impressions) + len(data.unbiased)
    assert x.sizes == data.shape
    assert np.allclose(x.x.mean(0), 0, atol=1e-4)
    assert np.allclose(x.x.std(0), 1, atol=1e-3)
    depth = data.impressions.context.numbers[:, 1]
    assert max(abs(np.corrcoef(depth, x.x[: len(depth), k])[0, 1]) for k in range(3)) > 0.95
    device = data.impressions.context.codes[:, 0]
    price = data.impressions.context.inputs()[:, 0]
    product = (device == 1) * (price - price.mean())
    found = [abs(np.corrcoef(product, x.x[: len(product), k])[0, 1]) for k in np.flatnonzero(x.group)]
    assert max(found) > 0.95, "device by price"


def test_large_categories_are_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of 24 levels says of clicks what 24 columns, less their products, say."""
    data, _ = world(1.0, n_impressions=10_000)
    as_columns = ClickModel(data).logit()
    monkeypatch.setattr("deconrec.diagnostics.impressions.columns.FEW", 5)
    assert data.impressions is not None
    x = columns((data.impressions.log,), data.shape)
    assert len(x.sizes) == 3, "the hour beside users and items"
    assert x.codes[2].max() < x.sizes[2]
    assert np.corrcoef(ClickModel(data).logit(), as_columns)[0, 1] > 0.97


def test_the_fit_is_the_mode() -> None:
    """Its slow twin: the penalised likelihood from its formula, maximised by a general optimiser."""
    rng = np.random.default_rng(0)
    n, sizes = 400, (12, 6)
    x = Columns(
        rng.standard_normal((n, 5)).astype(np.float32),
        np.array([0, 0, 1, 1, 2]),
        tuple(rng.integers(0, s, n) for s in sizes),
        sizes,
    )
    y, w, offset = (rng.random(n) < 0.3) * 1.0, rng.uniform(0.5, 2, n), rng.normal(0, 0.5, n)
    start = replace(Contextual.empty(x), variances=(0.5, 0.2, 0.3, 0.05))
    got = contextual.fit(x, y, start, offset=offset, weight=w, learn=False, rounds=200, tolerance=1e-7)

    def loss(theta: np.ndarray) -> float:
        c, g, a, b = theta[0], theta[1:6], theta[6:18], theta[18:]
        l = offset + c + x.x.astype(float) @ g + a[x.codes[0]] + b[x.codes[1]]
        fit = float(w @ (np.logaddexp(0, l) - y * l))
        spread = np.array([MAIN, MAIN, 0.3, 0.3, 0.05])
        return fit + ((g**2 / spread).sum() + (a**2).sum() / 0.5 + (b**2).sum() / 0.2 + 1e-6 * c * c) / 2

    best = minimize(loss, np.zeros(24), method="BFGS", options={"gtol": 1e-6}).x
    assert np.allclose([got.constant, *got.g, *got.levels[0], *got.levels[1]], best, atol=2e-3)
    assert got.at(x, without=0) == pytest.approx(got.at(x) - got.levels[0][x.codes[0]], abs=1e-5)


def test_the_model_finds_the_chance_of_a_click() -> None:
    data, truth = world(0.0, n_impressions=20_000)
    p = expit(ClickModel(data).logit()[:20_000])
    assert np.corrcoef(p, truth.nominal_propensity)[0, 1] > 0.96
    assert p.mean() == pytest.approx(truth.nominal_propensity.mean(), rel=0.03)


# ---------------------------------------------------------------------- the test
def test_a_weight_of_two_is_the_row_twice() -> None:
    rng = np.random.default_rng(1)
    n = 200
    user, item, s = rng.integers(0, 20, n), rng.integers(0, 9, n), (np.arange(n) < 120) * 1.0
    r, e, m, twice = (
        (rng.random(n) < 0.3) * 1.0,
        rng.uniform(0.2, 0.9, n),
        rng.uniform(0, 1, n),
        rng.integers(1, 3, n),
    )
    weighted = gap(user, item, s, r, e, m, weight=twice.astype(float))
    repeated = gap(*(np.repeat(v, twice) for v in (user, item, s, r, e, m)))
    assert weighted is not None
    assert repeated is not None
    assert weighted["gap"] == pytest.approx(repeated["gap"])
    assert weighted["matched"] == pytest.approx(repeated["matched"])


def test_the_gap_is_found_where_it_is_and_only_there() -> None:
    found = {}
    for dial in (0.0, 2.0):
        data, _ = world(dial, context_overlap=0.8, seed=5)
        found[dial] = confounding(data, ClickModel(data))
    assert found[2.0].found
    assert found[2.0].gap is not None
    assert found[2.0].gap > 0.05
    assert found[0.0].found is False
    assert found[0.0].gap is not None
    assert found[0.0].naive is not None
    assert abs(found[0.0].gap) < abs(found[0.0].naive)
    assert found[2.0].measured == ("the user", "the item", "4 context columns", "their products")


@pytest.mark.slow
def test_the_test_keeps_its_size() -> None:
    """60 worlds without hidden confounding, in which the context moves clicks and conversions alike."""
    p, naive = [], []
    for seed in range(60):
        data, _ = world(0.0, context_overlap=0.8, n_users=150, n_items=50, seed=1000 + seed)
        found = confounding(data, ClickModel(data), seed)
        p.append(found.p)
        naive.append(found.naive_low * found.naive_high > 0)
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert np.mean(naive) > 0.4


def test_too_little_gives_no_gap_and_says_why() -> None:
    data, _ = world(1.0)
    model = ClickModel(data)
    assert data.unbiased is not None
    few = data.with_impressions(data.impressions, data.unbiased.take(np.arange(15)))
    assert "fewer than 20" in confounding(few, ClickModel(few)).why
    kept = np.sort(
        np.r_[np.flatnonzero(data.unbiased.rating == 0), np.flatnonzero(data.unbiased.rating > 0)[:4]]
    )
    rare = data.with_impressions(data.impressions, data.unbiased.take(kept))
    c = confounding(rare, ClickModel(rare))
    assert c.p is None
    assert f"fewer than {LEAST}" in c.why
    assert c.naive is not None
    assert confounding(data, model).p is not None


# ---------------------------------------------------------------------- weights and balance
def test_weights_restore_balance() -> None:
    """By the simulator's own P(click), by the fitted one, and by the weighted methods' default, floored."""
    data, truth = world(1.0, n_impressions=10_000)
    shown, p = data.impressions, click_propensities(data)
    assert shown is not None
    assert p is not None
    own = expit(ClickModel(data).logit()[: len(shown)])[shown.click]
    weights = {"true": 1 / truth.propensity[shown.click], "fitted": 1 / own, "default": p.weight}
    found = balance(shown, weights)
    assert max(abs(c.before) for c in found) > 0.2
    assert max(abs(c.after["fitted"]) for c in found) < 0.1
    assert np.mean([abs(c.after["true"]) for c in found]) < np.mean([abs(c.before) for c in found])
    away = [c for c in found if abs(c.before) > 0.2]
    assert all(abs(c.after["true"]) < 0.1 for c in away)
    assert all(abs(c.after["default"]) < 0.7 * abs(c.before) for c in away)


def test_differences_are_their_formula() -> None:
    data, _ = world(1.0)
    assert data.impressions is not None
    shown = data.impressions
    w = np.random.default_rng(0).uniform(1, 3, len(shown.clicked))
    price = next(c for c in balance(shown, {"w": w}) if c.name == "price")
    x, click = shown.context.numbers[:, 0].astype(float), shown.click
    known = ~np.isnan(x)
    mean, spread = x[known].mean(), x[known].std()
    rows = [(v, k) for v, k in zip(x[click], w, strict=True) if not np.isnan(v)]
    assert price.before == pytest.approx((np.mean([v for v, _ in rows]) - mean) / spread)
    assert price.after["w"] == pytest.approx(
        (sum(v * k for v, k in rows) / sum(k for _, k in rows) - mean) / spread
    )


def test_propensities_are_out_of_fold() -> None:
    data, _ = world(1.0)
    assert data.impressions is not None
    p = click_propensities(data)
    assert p is not None
    assert p.pairs == p.reliability.count.sum() == len(data.impressions)
    assert p.overlap.n == len(data.biased) == len(p.weight)
    assert p.weight == pytest.approx(1 / np.maximum(p.observed, p.overlap.floor))
    assert p.reliability.ece < 0.03


# ---------------------------------------------------------------------- rates
def test_rates_are_counted() -> None:
    data, truth = world(2.0)
    shown = data.impressions
    assert shown is not None
    r = rates(data)
    assert r.click.value == pytest.approx(shown.click.mean())
    assert r.conversion.value == pytest.approx(data.biased.rating.mean())
    assert (r.both.events, r.click.rows) == (int(shown.log.rating.sum()), len(shown))
    assert r.least == pytest.approx(r.click.value * r.conversion.value)
    assert r.most == pytest.approx(r.least + 1 - r.click.value)
    assert r.least < truth.outcome.mean() < r.most
    assert r.forced is not None
    assert r.forced.low < truth.outcome.mean() < r.forced.high < r.conversion.value
    assert r.weighted is None
    never = set(np.unique(shown.log.user)) - set(np.unique(data.biased.user))
    assert r.silent_users == pytest.approx(len(never) / len(np.unique(shown.log.user)))


def test_no_conversion_has_an_interval_too() -> None:
    data, _ = world(1.0)
    none = rate(data.biased, np.zeros(len(data.biased)), np.ones(len(data.biased)))
    assert (none.value, none.low, none.high) == (0, 0, pytest.approx(3 / len(data.biased)))


def test_the_reach_of_an_auc_is_that_of_samples() -> None:
    """Hanley and McNeil's error against the spread over samples of exponential scores, of which it is exact."""
    rng, found = np.random.default_rng(0), []
    for _ in range(4000):
        place = rankdata(np.r_[rng.exponential(7 / 3, 40), rng.exponential(1.0, 160)])
        found.append((place[:40].sum() - 40 * 41 / 2) / (40 * 160))
    assert np.mean(found) == pytest.approx(0.7, abs=0.005)
    assert auc_reach(40, 160) == pytest.approx(1.96 * np.std(found), rel=0.05)
    assert math.isnan(auc_reach(0, 10))


# ---------------------------------------------------------------------- forced clicks
def test_chosen_clicks_do_not_pass_for_forced_ones() -> None:
    data, _ = world(1.0)
    found = randomised(ClickModel(data))
    assert found is not None
    assert not found.doubtful
    odd = np.arange(len(data.biased)) % 2 == 1
    assert data.impressions is not None
    place = np.flatnonzero(data.impressions.click)[odd]
    shown = data.impressions.take(np.setdiff1d(np.arange(len(data.impressions)), place))
    chosen = randomised(ClickModel(data.with_impressions(shown, data.biased.take(odd))))
    assert chosen is not None
    assert chosen.doubtful
    assert chosen.lean > 0.2


# ---------------------------------------------------------------------- long logs
def test_a_draw_of_a_long_log_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LARGEST", 1000)
    data, _ = world(1.0, click_rate=0.1)
    part = doctor.drawn(data, 0)
    assert data.impressions is not None
    assert part.impressions is not None
    assert len(part.impressions) == 1000
    assert part.impressions.click.sum() == data.impressions.click.sum(), "every click is kept"
    assert part.density == pytest.approx(data.density, rel=1e-4)
    p = [expit(ClickModel(d).logit()[: len(d.impressions)]) for d in (data, part)]
    assert np.average(p[1], weights=part.impressions.weight) == pytest.approx(p[0].mean(), rel=0.05)
    monkeypatch.setattr(doctor, "LARGEST", 400)
    assert len(doctor.drawn(data, 0).impressions) == 400
    assert doctor.drawn(data, 0).density == pytest.approx(data.density, rel=1e-4)


# ---------------------------------------------------------------------- what it says
def test_hidden_confounding_is_found_and_said(confounded: Diagnosis) -> None:
    assert confounded.confounding.found
    weak = confounded.confounding.weak
    assert confounded.answer[0].startswith(
        "Perhaps, on weak evidence" if weak else "Yes, hidden confounding of click and conversion"
    )
    helps = {m: a.help for a in confounded.methods for m in a.methods}
    assert helps["res-dr"] == "can"
    assert "'a world'" in confounded.command
    assert "forced clicks" in of(confounded, "HIDDEN_CONFOUNDING").says


def test_without_forced_clicks_nothing_is_claimed(alone: Diagnosis) -> None:
    c = alone.confounding
    assert (c.gap, c.low, c.high, c.p) == (None, None, None, None)
    verdict = of(alone, "HIDDEN_CONFOUNDING")
    assert verdict.status == "unknown"
    assert "cannot be tested from this log" in verdict.says
    assert "forced or drawn at random" in verdict.says
    assert alone.answer[0].startswith("Whether to debias cannot be said")
    assert f"{alone.evidence.needed:,}" in alone.answer[1]
    rate_ = rates(world(2.0, unbiased_share=0.0)[0]).conversion.value
    assert alone.evidence.needed == pytest.approx(2.8016**2 * (1 - rate_) / rate_ * 16, rel=0.01)
    for a in alone.methods:
        for m in a.methods:
            if dc.make(ALIASES.get(m, m)).tags.needs_unbiased:
                assert a.help == "cannot", m


def test_the_record_has_its_form(confounded: Diagnosis, alone: Diagnosis) -> None:
    for d in (confounded, alone):
        record = json.loads(d.to_json())
        assert {"gap", "low", "high", "p"} <= set(record["confounding"])
        assert {"ess", "ess_share", "floored_share"} <= set(record["overlap"])
        assert record["predictive_check"]["p"] is None
        assert record["predictive_check"]["why"]
        assert all(v["code"] and v["says"] and v["cannot_see"] for v in record["verdicts"])
        assert {v["code"] for v in record["verdicts"]} == CODES
        assert record["clicks"]["conversion"]["events"] > 0
        assert record["data"]["impressions"] == SMALL["n_impressions"]


def test_advice_is_of_the_methods_that_take_impressions(confounded: Diagnosis) -> None:
    names = [m for a in confounded.methods for m in a.methods]
    assert len(names) == len(set(names))
    assert set(names) - {"mf-combined"} == {k for k in METHODS if dc.make(k).tags.impressions}


def test_every_verdict_has_a_heading() -> None:
    page = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text()
    assert set(re.findall(r"^### ([A-Z_]+)$", page, re.M)) >= CODES


def test_few_conversions_are_said() -> None:
    d = dc.diagnose(world(0.0, conversion_rate=0.03)[0])
    assert of(d, "CONVERSIONS").status == "found"
    assert "Too few for an answer" in of(d, "CONVERSIONS").says
    assert any("too few conversions" in sentence for sentence in d.answer)
    reach = [auc_reach(k, 20 * k) for k in (10, 20, 40, 80)]
    assert all(a > b for a, b in pairwise(reach))


def test_a_leak_comes_first() -> None:
    data, _ = world(0.0)
    assert data.impressions is not None
    frame = data.frame(data.impressions.log, data.impressions.click)
    frame = frame.with_columns(paid=pl.col("conversion") * 10 + pl.int_range(pl.len()) % 7 / 10)
    with pytest.warns(DataWarning, match="paid"):
        leaking = dc.Dataset.from_impressions(frame, context=["device", "paid"])
    d = dc.diagnose(leaking)
    assert of(d, "LABEL_LEAK").status == "found"
    assert "'paid'" in of(d, "LABEL_LEAK").says
    assert "leave out" in d.answer[1]
    assert "paid" in d.answer[1]


def test_weights_are_read() -> None:
    """Impressions of one device that stand twice, or once with a weight of 2: the same rates, and near the same gap."""
    data, _ = world(1.0)
    assert data.impressions is not None
    log = data.impressions.log
    twice = np.where(data.impressions.context.codes[:, 0] == 0, 2, 1)
    weighted = Impressions(replace(log, weight=twice.astype(np.float32)), data.impressions.click)
    rows = np.repeat(np.arange(len(log)), twice)
    a = data.with_impressions(weighted, data.unbiased)
    b = data.with_impressions(data.impressions.take(rows), data.unbiased)
    assert rates(a).conversion.value == pytest.approx(rates(b).conversion.value, rel=1e-5)
    assert rates(a).click.value == pytest.approx(rates(b).click.value, rel=1e-5)
    one, two = (ClickModel(d) for d in (a, b))
    logits = one.logit()[: len(log)], two.logit()[np.searchsorted(rows, np.arange(len(log)))]
    assert np.corrcoef(*logits)[0, 1] > 0.97, "weights have mean 1, and priors count for a little more"
    first, second = (confounding(d, m) for d, m in ((a, one), (b, two)))
    assert first.naive == pytest.approx(second.naive, rel=1e-4)
    assert first.gap == pytest.approx(second.gap, abs=0.3 * first.error)


def test_it_prints_itself_and_its_page(confounded: Diagnosis, alone: Diagnosis) -> None:
    for d, pictures in ((confounded, 6), (alone, 4)):
        console = Console(width=110, record=True, file=io.StringIO())
        console.print(d)
        text = console.export_text()
        assert "what it cannot see" in text
        assert "CONVERSIONS" in text
        page = render_diagnosis(d.to_dict())
        assert page.count("<svg") == pictures
        assert page.count("Cannot see:") == len(CODES)
        assert "clicked and all impressions" in page
        assert "NaN" not in page
        assert ">None<" not in page
        assert "http" not in re.sub(r"http-equiv", "", page)
        assert "u00001" not in page


def test_the_same_seed_says_the_same() -> None:
    data, _ = world(1.0, n_impressions=800)
    a, b = (dc.diagnose(data, seed=4).to_dict() for _ in range(2))
    assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_odd_logs_are_answered() -> None:
    """No context, no conversion at all, and hardly any row."""
    data, _ = world(1.0, n_impressions=600)
    assert data.impressions is not None
    frame = data.frame(data.impressions.log, data.impressions.click)
    for odd in (
        dc.Dataset.from_impressions(frame, context=[]),
        dc.Dataset.from_impressions(frame.with_columns(conversion=0), context=["device"]),
    ):
        d = dc.diagnose(odd)
        json.loads(d.to_json())
        render_diagnosis(d.to_dict())
        assert d.confounding.gap is None
    with pytest.raises(DataError, match="at least 100 impressions"):
        dc.diagnose(dc.Dataset.from_impressions(frame.head(60), context=["device"]))


def test_power_is_beside_the_conversion_rate() -> None:
    """A gap of .04 is much where one click in twenty converts, and little where half do."""
    found = Confounding(gap=0.0, low=-0.03, high=0.03, p=1.0, error=0.015, df=10**6, rows=500)
    data, _ = world(1.0)
    assert doctor.evidence(data, found, 0.5).enough
    rare = doctor.evidence(data, found, 0.05)
    assert rare.enough is False
    assert rare.matters == pytest.approx(0.0125)
    assert rare.needed == pytest.approx(500 * (2.8016 * 0.015 / 0.0125) ** 2, abs=2)


@pytest.mark.parametrize(("p", "weak"), [(0.03, True), (0.001, False)])
def test_weak_evidence_is_called_weak(p: float, weak: bool) -> None:
    found = Confounding(
        gap=0.1, low=0.01, high=0.19, p=p, error=0.045, df=90.0, rows=90, measured=("the user",)
    )
    said = verdicts.hidden_confounding(found).says
    assert ("weak evidence" in said) is weak
    assert "+0.010 to +0.190" in said
