"""`compare` on impressions: names of metrics, what they are, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.checks.bench import quiet
from deconrec.checks.fixtures import impressions
from deconrec.data.dataset import Log
from deconrec.data.split import PairsSplit, PairsTest, Sealed
from deconrec.errors import DataError, ParameterError, UnknownName
from deconrec.experiments.compare import compare
from deconrec.experiments.impressions import check_impression_metrics, evaluate_impressions
from deconrec.experiments.metrics import Metric, check_metrics

DATA = impressions()
BARE = DATA.with_impressions(DATA.impressions)


@pytest.mark.parametrize(
    "name", ["auc/pcvr", "logloss/pctcvr", "mse/pcvr/truth", "auc/pcvr/biased", "ece/pctr"]
)
def test_names_round_trip(name: str) -> None:
    assert str(Metric.parse(name)) == name


@pytest.mark.parametrize("name", ["auc@5/pcvr", "logloss/pcvr/truth", "auc/pcvr/leaked", "auc/pcvr/shown"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises((ParameterError, UnknownName)):
        Metric.parse(name)


def test_names_are_completed() -> None:
    names = ["auc", "logloss/pcvr", "auc/pctcvr"]
    assert check_impression_metrics(names, DATA, None) == ["auc/pcvr", "logloss/pcvr", "auc/pctcvr"]
    assert check_impression_metrics(names, BARE, None) == [
        "auc/pcvr/biased",
        "logloss/pcvr/biased",
        "auc/pctcvr",
    ]
    for name in ("ndcg@5/shown", "auc/leaked"):
        with pytest.raises(DataError, match="not defined on impressions"):
            check_impression_metrics([name], DATA, None)
    with pytest.raises(DataError, match="simulator's truth"):
        check_impression_metrics(["mse/pcvr/truth"], DATA, None)
    with pytest.raises(DataError, match="has one"):
        check_impression_metrics(["auc/pcvr/biased"], DATA, None)
    with pytest.raises(DataError, match="a log of pairs"):
        check_metrics(["auc/pcvr"], dc.simulate.pairs(n_users=20, n_items=10)[0], "pairs", None)


class Oracle:
    """Answers with fixed logits by position in the tables it is asked about."""

    def __init__(self, by_length: dict[int, tuple[np.ndarray, np.ndarray | None]]) -> None:
        self.by_length = by_length

    def _logits(self, log: Log) -> tuple[np.ndarray, np.ndarray | None]:
        return self.by_length[len(log)]


def test_metrics_equal_loops() -> None:
    rng = np.random.default_rng(0)
    parts = PairsSplit(shares=(0.2, 0.2, 0.6)).apply(DATA)
    test = parts.test.open()
    n, m = len(test.log), len(test.shown)
    assert n != m
    b, shown_b, shown_a = rng.normal(size=n), rng.normal(size=m), rng.normal(size=m)
    model = Oracle({n: (b, None), m: (shown_b, shown_a)})
    _, truth = dc.simulate.impressions(
        n_impressions=400, n_users=30, n_items=12, click_rate=0.4, unbiased_share=0.15
    )
    names = ["auc/pcvr", "mse/pcvr", "logloss/pctcvr", "auc/pctr", "mse/pcvr/truth"]
    got = evaluate_impressions(
        model, Sealed(PairsTest(test.log, test.log, test.known, shown=test.shown)), DATA, names, truth
    ).metrics

    def sigma(x: float) -> float:
        return float(1 / (1 + np.exp(-x)))

    r = test.log.rating
    pairs = [
        (x, y) for x, one in zip(b, r, strict=True) if one for y, two in zip(b, r, strict=True) if not two
    ]
    assert got["auc/pcvr"] == pytest.approx(np.mean([x > y for x, y in pairs]))
    assert got["mse/pcvr"] == pytest.approx(np.mean([(sigma(x) - y) ** 2 for x, y in zip(b, r, strict=True)]))
    part = DATA.impressions.take(test.shown)
    p = [sigma(x) * sigma(y) for x, y in zip(shown_a, shown_b, strict=True)]
    label = part.log.rating
    loss = [-(y * np.log(q) + (1 - y) * np.log(1 - q)) for q, y in zip(p, label, strict=True)]
    assert got["logloss/pctcvr"] == pytest.approx(np.mean(loss))
    order = [
        (x, y)
        for x, one in zip(shown_a, part.click, strict=True)
        if one
        for y, two in zip(shown_a, part.click, strict=True)
        if not two
    ]
    assert got["auc/pctr"] == pytest.approx(np.mean([x > y for x, y in order]))
    expected = truth.outcome[test.shown]
    assert got["mse/pcvr/truth"] == pytest.approx(
        np.mean([(sigma(x) - y) ** 2 for x, y in zip(shown_b, expected, strict=True)])
    )


def test_compare_over_worlds() -> None:
    with quiet():
        result = compare(
            "sim-impressions:n_impressions=600+n_users=30+n_items=12+click_rate=0.4+unbiased_share=0.2",
            ["mf:dim=2+epochs=2", "esmm:dim=2+epochs=2"],
            seeds=2,
        )
    first = result.runs[0].metrics
    assert list(first) == [
        "auc/pcvr",
        "logloss/pcvr",
        "mse/pcvr",
        "auc/pctcvr",
        "logloss/pctcvr",
        "auc/pctr",
        "mse/pcvr/truth",
        "auc/pcvr/truth",
    ]
    assert first["auc/pctcvr"] is None  # plain MF learns no click
    assert result.runs[-1].metrics["auc/pctcvr"] is not None
    assert result.protocol["data"]["impressions"] == 600
    assert result.protocol["counts"]["test_impressions"] > 0


def test_compare_without_randomised_rows_says_so() -> None:
    with quiet():
        result = compare(BARE, ["mf:dim=2+epochs=1"], seeds=1)
    assert "auc/pcvr/biased" in result.runs[0].metrics
    assert any("no unbiased test" in note for note in result.protocol["notes"])


def test_what_compare_refuses_before_it_fits() -> None:
    with pytest.raises(DataError, match="method 'ease' cannot learn from impressions"):
        compare(DATA, ["mf", "ease"], seeds=1)
    with pytest.raises(ParameterError, match="one by one"):
        compare(DATA, ["mf"], seeds=1, protocol="users")


def test_a_tuned_method_and_the_unbiased_part() -> None:
    data = DATA.with_task(unbiased_split=(0.3, 0.3, 0.4))
    with quiet():
        result = compare(data, ["mf:epochs=2"], seeds=1, trials=2, select="unbiased")
    assert result.runs[0].metrics["auc/pcvr"] is not None


def test_weights_count_in_metrics() -> None:
    frame = DATA.frame(DATA.impressions.log, DATA.impressions.click).with_columns(
        w=pl.Series(np.arange(len(DATA.impressions)) % 3 + 1.0)
    )
    data = dc.Dataset.from_impressions(frame, context=["device", "price"], weight="w")
    test = PairsSplit().apply(data).test.open()
    n, m = len(test.log), len(test.shown)
    rng = np.random.default_rng(0)
    b = rng.normal(size=n)
    model = Oracle({n: (b, None), m: (rng.normal(size=m), None)})
    sealed = Sealed(PairsTest(test.log, test.log, test.known, biased=True, shown=test.shown))
    got = evaluate_impressions(model, sealed, data, ["mse/pcvr/biased"], None).metrics
    error = (1 / (1 + np.exp(-b)) - test.log.rating) ** 2
    assert got["mse/pcvr/biased"] == pytest.approx(np.average(error, weights=test.log.weight), rel=1e-6)
