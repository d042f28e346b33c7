"""The test for hidden confounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from scipy.stats import t

import deconrec as dc
from deconrec.data.dataset import Dataset, Log
from deconrec.diagnostics import confounding as module
from deconrec.diagnostics.confounding import confounding, error, exposure_model, gap

SMALL: dict[str, Any] = {"n_users": 300, "n_items": 80, "exposure_rate": 0.1, "unbiased_share": 0.1}


def found(data: Dataset, seed: int = 0) -> module.Confounding:
    return confounding(data, exposure_model(data, seed), seed)


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    n = 60
    return {
        "user": rng.integers(0, 9, n),
        "item": rng.integers(0, 7, n),
        "s": (rng.random(n) < 0.7).astype(float),
        "r": rng.random(n),
        "e": rng.uniform(0.2, 0.9, n),
        "m": rng.random(n),
    }


def test_the_gap_is_its_formula(rows: dict[str, np.ndarray]) -> None:
    """Row by row: L_B weighs 1 - e, L_U weighs e."""
    sums = {1.0: [0.0, 0.0], 0.0: [0.0, 0.0]}
    for s, r, e, m in zip(*(rows[k] for k in "srem"), strict=True):
        w = 1 - e if s else e
        sums[s][0] += w * (r - m)
        sums[s][1] += w
    level = {s: top / whole for s, (top, whole) in sums.items()}
    got = gap(**rows)
    assert got is not None
    assert got["gap"] == pytest.approx(level[1.0] - level[0.0])
    assert got["biased"] - got["unbiased"] == pytest.approx(got["gap"])
    assert got["matched"] == pytest.approx(sums[0.0][1])
    reach = t.ppf(0.975, got["df"]) * got["error"]
    assert (got["low"], got["high"]) == pytest.approx((got["gap"] - reach, got["gap"] + reach))
    assert (got["p"] < 0.05) == (got["low"] * got["high"] > 0)


def test_the_error_is_a_sum_over_pairs_of_rows(rows: dict[str, np.ndarray]) -> None:
    """A row with itself counts its variance under the null; two rows of one user or item, what they say together."""
    x, user, item = rows["r"] - 0.5, rows["user"], rows["item"]
    v = rows["e"] / 100
    n = range(len(x))
    total = noise = 0.0
    for j in n:
        for k in n:
            if j == k:
                total += v[j]
                noise += v.sum() ** 2 / 40 / len(x)
            else:
                # Where a pair of ids stood twice, it counts twice; logs hold a pair once.
                shared = int(user[j] == user[k]) + int(item[j] == item[k])
                total += shared * x[j] * x[k]
                noise += shared * v[j] * v[k]
    size, df = error(x, v, user, item, 40)
    assert size**2 == pytest.approx(max(total, v.sum() / 2))
    assert df == pytest.approx(v.sum() ** 2 / noise)


def test_degrees_of_freedom_are_few_where_a_log_is() -> None:
    """Rows that share nothing: as many as rows; all rows of one user, or of one item: 1."""
    each, same, v = np.arange(50), np.zeros(50, int), np.full(50, 0.02)
    x = np.random.default_rng(0).standard_normal(50)
    assert error(x, v, each, each, 50)[1] == pytest.approx(50)
    assert error(x, v, same, each, 50)[1] == pytest.approx(1)
    few = np.arange(50) % 5
    assert error(x, v, few, each, 1e9)[1] == pytest.approx(50 / 9)  # 5 users of 10 rows


def test_few_rows_without_a_positive_are_not_sure_of_themselves() -> None:
    """40 randomised rows of a rare outcome hold none. By their own residuals they would hardly vary."""
    rng = np.random.default_rng(1)
    n, u = 4000, 40
    r = np.r_[(rng.random(n) < 0.05).astype(float), np.zeros(u)]
    s, m, e = np.repeat([1.0, 0.0], [n, u]), np.full(n + u, r[:n].mean()), np.full(n + u, 0.5)
    ids = np.arange(n + u)
    got = gap(ids, ids, s, r, e, m)
    assert got is not None
    p = r[:n].mean()
    assert got["error"] == pytest.approx(np.sqrt(p * (1 - p) * (1 / n + 1 / u)), rel=0.02)
    assert got["p"] > 0.05  # P(none of 40 | 5 %) = 13 %


def test_noise_of_m_raises_the_error(rows: dict[str, np.ndarray]) -> None:
    """By as much as residuals of a fit to all rows are smaller; never below 1."""
    plain = gap(**rows)
    closer, farther = (gap(**rows, fitted=rows["r"] + k * (rows["m"] - rows["r"])) for k in (0.8, 1.25))
    assert plain is not None
    assert closer is not None
    assert farther is not None
    assert closer["gap"] == plain["gap"]
    assert closer["error"] == pytest.approx(plain["error"] / 0.8)
    assert farther["error"] == plain["error"]


def test_alike_weights_give_the_difference_of_means(rows: dict[str, np.ndarray]) -> None:
    same = rows | {"e": np.full(60, 0.4), "m": np.zeros(60)}
    got = gap(**same)
    assert got is not None
    s, r = rows["s"] > 0, rows["r"]
    assert got["gap"] == pytest.approx(r[s].mean() - r[~s].mean())


def test_one_right_model_is_enough() -> None:
    """With the true e the gap is 0 on average whatever m; with the true m whatever e; with neither it is not."""
    gaps: dict[str, list[float]] = {"e": [], "m": [], "none": []}
    for seed in range(40):
        data, truth = dc.simulate.pairs(confounding=0.0, seed=seed, feature_overlap=0.9, **SMALL)
        assert data.unbiased is not None
        assert truth.propensity is not None
        u = data.unbiased.take(~data.in_biased)
        user, item = (np.r_[getattr(data.biased, c), getattr(u, c)] for c in ("user", "item"))
        s = np.repeat([1.0, 0.0], [len(data.biased), len(u)])
        r = np.r_[data.outcome(data.biased), data.outcome(u)].astype(float)
        q = len(u) / (data.n_users * data.n_items - len(data.biased))
        e = expit(logit(truth.propensity[user, item]) - np.log(q))
        m = truth.outcome[user, item]
        for name, ee, mm in (
            ("e", e, np.zeros(len(r))),
            ("m", np.full(len(r), s.mean()), m),
            ("none", np.full(len(r), s.mean()), np.zeros(len(r))),
        ):
            got = gap(user, item, s, r, ee, mm)
            assert got is not None
            gaps[name].append(got["gap"])
    centre = {k: np.mean(v) for k, v in gaps.items()}
    spread = {k: np.std(v) / np.sqrt(len(v)) for k, v in gaps.items()}
    assert abs(centre["e"]) < 3 * spread["e"]
    assert abs(centre["m"]) < 3 * spread["m"]
    assert centre["none"] > 10 * spread["none"]


def test_it_tells_worlds_apart() -> None:
    """Six worlds of each kind: measured selection alone is hardly called hidden; a strong hidden cause always is."""
    naive, called = [], {0.0: 0, 1.0: 0}
    for dial in called:
        for seed in range(6):
            data, _ = dc.simulate.pairs(confounding=dial, seed=seed, **SMALL)
            c = found(data)
            called[dial] += bool(c.found)
            if dial == 0:
                assert c.naive is not None
                naive.append(c.naive)
    assert np.mean(naive) > 0.03, "measured things do select"
    assert called[0.0] <= 2  # P(more | 5 %) = 0.2 %
    assert called[1.0] == 6


@pytest.mark.slow
def test_size_and_error_over_worlds() -> None:
    """120 worlds without hidden confounding: 5 % within its binomial bounds, errors as large as the gaps' spread."""
    gaps, errors, rejected = [], [], 0
    for seed in range(120):
        data, _ = dc.simulate.pairs(confounding=0.0, seed=500 + seed, **SMALL)
        c = found(data)
        assert c.gap is not None
        assert c.error is not None
        gaps.append(c.gap)
        errors.append(c.error)
        rejected += bool(c.found)
    assert 1 <= rejected <= 14  # P(outside | 5 %) = 0.5 %
    assert np.std(gaps) == pytest.approx(np.mean(errors), rel=0.2)
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(120)


def test_ids_account_for_what_is_between_items_and_users() -> None:
    """Good items are popular and generous users active; no feature says so, and the levels of ids do."""
    rng = np.random.default_rng(7)
    good, generous = rng.standard_normal(80), rng.standard_normal(400)
    r = rng.random((400, 80)) < expit(-0.8 + good + generous[:, None])
    o = rng.random((400, 80)) < expit(-2 + 0.9 * good + 0.7 * generous[:, None])
    drawn = rng.random((400, 80)) < 0.1
    logs = [Log(*np.nonzero(mask), r[mask]) for mask in (o, drawn)]
    data, _ = dc.simulate.pairs(n_users=400, n_items=80, seed=0)
    data = Dataset(data.users, data.items, logs[0], logs[1], task=data.task)
    c = found(data)
    assert c.naive is not None
    assert c.gap is not None
    assert c.error is not None
    assert c.naive > 0.2
    assert abs(c.gap) < 3 * c.error


def test_pairs_in_both_logs_are_dropped() -> None:
    data, _ = dc.simulate.pairs(confounding=0.0, seed=3, **SMALL)
    assert data.unbiased is not None
    shared = int(data.in_biased.sum())
    assert shared > 0
    c = found(data)
    assert c.shared == shared
    assert c.rows == len(data.unbiased) - shared
    kept = found(data.with_logs(data.biased, data.unbiased.take(~data.in_biased)))
    assert (kept.gap, kept.p) == (c.gap, c.p)


def test_order_and_kind_of_ids_do_not_matter() -> None:
    data, _ = dc.simulate.pairs(confounding=0.5, seed=4, **SMALL)
    assert data.unbiased is not None
    rng = np.random.default_rng(0)
    shuffled = data.with_logs(
        data.biased.take(rng.permutation(len(data.biased))),
        data.unbiased.take(rng.permutation(len(data.unbiased))),
    )
    want, got = found(data), found(shuffled)
    assert got.gap == pytest.approx(want.gap, abs=1e-9)
    text = [
        data.frame(log).with_columns(pl.format("u{}", "user_id").alias("user_id"))
        for log in (data.biased, data.unbiased)
    ]
    named = found(Dataset.from_frames(text[0], unbiased=text[1]))
    plain = Dataset(data.users, data.items, data.biased, data.unbiased, task=data.task)
    assert named.gap == pytest.approx(found(plain).gap, abs=0.02)  # folds are dealt by the ids' order


def test_graded_ratings_are_taken_as_they_are() -> None:
    data, truth = dc.simulate.pairs(confounding=1.0, seed=5, **SMALL)
    assert data.unbiased is not None
    stars = np.clip(np.round(3 + 1.2 * (truth.extra["outcome_logit"] + 1)), 1, 5)
    logs = [Log(log.user, log.item, stars[log.user, log.item]) for log in (data.biased, data.unbiased)]
    graded = data.with_task(binarize=None, rating_range=(1.0, 5.0))
    c = found(graded.with_logs(logs[0], logs[1]))
    assert c.found
    assert c.gap is not None
    assert 0.05 < c.gap < 0.5


def test_large_catalogues_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = dc.simulate.pairs(confounding=0.5, seed=6, **SMALL)
    whole = found(data)
    monkeypatch.setattr(module, "LARGEST_GRID", 1000)
    monkeypatch.setattr(module, "CONTROLS", 15_000)
    monkeypatch.setattr(module, "MOST_ROWS", 1500)
    part = found(data)
    assert part.gap is not None
    assert whole.gap is not None
    assert whole.error is not None
    assert part.gap == pytest.approx(whole.gap, abs=2 * whole.error)


@pytest.mark.parametrize("kind", ["none", "few", "alike"])
def test_what_cannot_be_had_is_none(kind: str) -> None:
    data, _ = dc.simulate.pairs(confounding=0.0, seed=1, **SMALL)
    assert data.unbiased is not None
    u = data.unbiased
    if kind == "none":
        data = data.with_logs(data.biased)
    elif kind == "few":
        data = data.with_logs(data.biased, u.take(np.arange(12)))
    else:
        logs = [Log(log.user, log.item, np.ones(len(log))) for log in (data.biased, u)]
        data = data.with_logs(logs[0], logs[1])
    c = found(data)
    assert c.gap is None
    assert c.p is None
    assert c.found is None
    assert c.smallest is None
    assert c.power(0.1) is None
    assert c.why
    assert c.to_dict()["power"] == []


def test_logs_that_do_not_overlap_give_no_gap() -> None:
    """Randomised rows of items that were never exposed."""
    data, _ = dc.simulate.pairs(confounding=0.0, seed=1, **SMALL)
    assert data.unbiased is not None
    b = data.biased.take(data.biased.item < 40)
    u = data.unbiased.take(data.unbiased.item >= 40)
    c = found(data.with_logs(b, u))
    assert c.matched is None or c.matched < 0.2 * c.rows


def test_power_is_that_of_a_t_test() -> None:
    c = module.Confounding(gap=0.0, p=1.0, low=-0.1, high=0.1, error=0.05, df=10**6, rows=100)
    assert c.power(0.0) == pytest.approx(0.05, abs=1e-4)
    assert c.smallest == pytest.approx(0.05 * 2.8016, rel=1e-3)
    assert c.power(c.smallest or 0.0) == pytest.approx(0.8, abs=1e-3)
    rng = np.random.default_rng(0)
    z = (0.1 + 0.05 * rng.standard_normal(200_000)) / 0.05
    assert c.power(0.1) == pytest.approx(float((np.abs(z) > 1.959964).mean()), abs=0.005)
