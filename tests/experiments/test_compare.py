"""`compare`: the record, its statistics, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError, FileError, MissingUnbiasedLog, ParameterError, UnknownName
from deconrec.evaluation import statistics
from deconrec.experiments.results import Result, higher_is_better

SMALL = "sim-pairs:n_users=80+n_items=40+exposure_rate=0.2+unbiased_share=0.2"
FAST = ("mf:epochs=3", "ips:epochs=3+propensity.epochs=2")


@pytest.fixture(scope="module")
def log() -> Dataset:
    return dc.simulate.pairs(n_users=80, n_items=40, exposure_rate=0.2, unbiased_share=0.2, seed=5)[0]


@pytest.fixture(scope="module")
def on_worlds() -> Result:
    return dc.compare(SMALL, FAST, seeds=3)


@pytest.fixture(scope="module")
def on_splits(log: Dataset) -> Result:
    return dc.compare(log, [*FAST, "mf-combined:epochs=3"], seeds=3)


def test_record(on_worlds: Result) -> None:
    record = json.loads(on_worlds.to_json())
    assert len(record["runs"]) == 2 * 3
    assert {r["seed"] for r in record["runs"]} == {0, 1, 2}
    assert [r["method"] for r in record["runs"]][::3] == list(FAST)
    assert record["protocol"]["world"] == "a fresh world per seed"
    assert all(r["unbiased_rows"] == 0 for r in record["runs"])
    assert record["runs"][0]["params"]["epochs"] == 3
    assert record["runs"][0]["history"]["score"]
    means = {(s["method"], s["metric"]): s["mean"] for s in record["summary"]}
    own = [r["metrics"]["auc"] for r in record["runs"] if r["method"] == FAST[0]]
    assert means[FAST[0], "auc"] == pytest.approx(np.mean(own))


def test_worlds_are_compared_by_a_paired_t_test(on_worlds: Result) -> None:
    assert {(t.test, t.unit) for t in on_worlds.tests} == {("paired t", "world")}
    test = next(t for t in on_worlds.tests if t.metric == "mse/truth")
    a, b = ([r.metrics["mse/truth"] for r in on_worlds.runs if r.method == m] for m in FAST)
    expected = statistics.paired_t(a, b)
    assert test.difference == pytest.approx(expected.difference)
    assert test.p == pytest.approx(expected.p)


def test_splits_use_what_they_share(on_splits: Result) -> None:
    by_metric = {t.metric: t for t in on_splits.tests}
    assert by_metric["auc"].unit == "split"
    assert by_metric["ndcg@5/shown"].unit == "user"
    counts = on_splits.protocol["counts"]
    ratio = counts["test"] / (counts["biased"] + counts["U"])
    assert on_splits.protocol["test_train_ratio"] == pytest.approx(ratio)
    a, b = ([r.metrics["auc"] for r in on_splits.runs if r.method == m] for m in FAST)
    assert by_metric["auc"].metric == "auc"
    first = next(t for t in on_splits.tests if t.metric == "auc" and (t.a, t.b) == FAST)
    assert first.p == pytest.approx(statistics.corrected_resampled_t(a, b, ratio).p)
    assert first.difference == pytest.approx(np.mean(a) - np.mean(b))


def test_holm_covers_all_pairs_of_a_metric(on_splits: Result) -> None:
    tests = [t for t in on_splits.tests if t.metric == "auc"]
    assert len(tests) == 3
    raw = [t.p for t in tests]
    assert [t.p_holm for t in tests] == pytest.approx(list(statistics.holm(raw)))


def test_unbiased_rows_are_counted(on_splits: Result, log: Dataset) -> None:
    used = {r.method: r.unbiased_rows for r in on_splits.runs if r.seed == 0}
    assert used[FAST[0]] == 0
    assert used["mf-combined:epochs=3"] == on_splits.protocol["counts"]["U"]
    select = dc.compare(log, ["mf:epochs=2", "mf-combined:epochs=2"], seeds=1, select="unbiased")
    counts = select.protocol["counts"]
    assert [r.unbiased_rows for r in select.runs] == [counts["V"], counts["U"] + counts["V"]]


def test_naive_bayes_propensities_consume_u(log: Dataset) -> None:
    result = dc.compare(log, ["ips:propensity=naive-bayes+epochs=2"], seeds=1)
    assert result.runs[0].unbiased_rows == result.protocol["counts"]["U"]


def test_repeats_bitwise_and_in_workers(log: Dataset) -> None:
    one = dc.compare(log, FAST, seeds=2)
    two = dc.compare(log, FAST, seeds=2, workers=2)
    assert [r.metrics for r in one.runs] == [r.metrics for r in two.runs]


def test_users_protocol() -> None:
    result = dc.compare(
        "sim-deconf:n_users=150+n_items=60+exposure_rate=0.1",
        ["concat-vae:epochs=2", "deep-deconf:epochs=2+exposure.epochs=2+exposure.dim=5", "mf:epochs=2"],
        seeds=2,
    )
    assert result.metrics == ["recall_capped@20/full", "ndcg@20/full"]
    assert all(0 <= v <= 1 for r in result.runs for v in r.metrics.values() if v is not None)
    assert any("folded in" in note for note in result.protocol["notes"])


def test_rating_outcome_in_the_pairs_protocol() -> None:
    data, _ = dc.simulate.deep_deconf(n_users=80, n_items=40, exposure_rate=0.2, unbiased_share=0.2, seed=0)
    result = dc.compare(data, ["mf:epochs=3"], seeds=1, protocol="pairs")
    assert "logloss" not in result.metrics
    assert 0 < result.runs[0].metrics["mse"] < 16  # type: ignore[operator]


def test_biased_names_without_unbiased_data(log: Dataset) -> None:
    result = dc.compare(log.with_logs(log.biased), ["mf:epochs=2"], seeds=1)
    assert all(m.endswith("/biased") for m in result.metrics)
    assert any("no unbiased test" in note for note in result.protocol["notes"])


def test_the_best_trials_are_judged_on_the_splits_of_all_seeds(log) -> None:
    from deconrec.experiments.runs import Plan, try_one

    result = dc.compare(log, ["mf:epochs=3+dim=4"], seeds=7, trials=4)
    (searched,) = result.protocol["searched"].values()
    assert searched["splits"] == list(range(7))
    plan = Plan(log, None, "pairs", "biased", ())
    own, best = (try_one(plan, "mf:epochs=3+dim=4", range(7), p).scores for p in ({}, searched["params"]))
    assert searched["default"] == pytest.approx(sum(own) / 7)
    assert searched["score"] == pytest.approx(sum(best) / 7)
    assert searched["score"] >= searched["default"]


def test_tuning_chooses_by_validation(log: Dataset) -> None:
    pytest.importorskip("optuna")
    result = dc.compare(log, ["mf:epochs=4"], seeds=1, trials=3)
    assert result.protocol["trials"] == 3
    assert result.runs[0].method == "mf:epochs=4"


def test_distribution_sums_to_one(on_worlds: Result) -> None:
    d = on_worlds.distribution
    assert d is not None
    for shares in (d.biased, d.unbiased, d.truth):
        assert shares is not None
        assert sum(shares) == pytest.approx(1.0)


REFUSED = [
    ({"methods": []}, ParameterError, "at least one method"),
    ({"methods": ["mf", "mf"]}, ParameterError, "once"),
    ({"methods": ["mf"], "seeds": 0}, ParameterError, "seeds"),
    ({"methods": ["mf"], "seeds": [1, 1]}, ParameterError, "once"),
    ({"methods": ["nope"]}, UnknownName, "no method"),
    ({"methods": ["mf"], "metrics": ["nope"]}, UnknownName, "no metric"),
    ({"methods": ["mf"], "protocol": "rows"}, ParameterError, "protocol"),
    ({"methods": ["mf"], "select": "test"}, ParameterError, "select"),
]


@pytest.mark.parametrize(("options", "error", "says"), REFUSED)
def test_refusals(options: dict, error: type[Exception], says: str, log: Dataset) -> None:
    with pytest.raises(error, match=says):
        dc.compare(log, **options)


def test_missing_unbiased_data_is_refused_before_fitting(log: Dataset) -> None:
    only = log.with_logs(log.biased)
    with pytest.raises(MissingUnbiasedLog):
        dc.compare(only, ["mf", "res-dr"], seeds=1)
    with pytest.raises(MissingUnbiasedLog):
        dc.compare(only, ["ips:propensity=naive-bayes"], seeds=1)
    with pytest.raises(DataError, match="V"):
        dc.compare(only, ["mf"], seeds=1, select="unbiased")


def test_result_reads_back(on_worlds: Result, tmp_path) -> None:
    on_worlds.write(tmp_path / "r.json")
    assert Result.read(tmp_path / "r.json").to_json() == on_worlds.to_json()
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(FileError, match="compare` or `reproduce`"):
        Result.read(tmp_path / "bad.json")


def test_directions() -> None:
    assert higher_is_better("auc/leaked")
    assert higher_is_better("ndcg@5/shown")
    assert not higher_is_better("mse/truth")
    assert not higher_is_better("logloss")


@pytest.mark.data
def test_coat_counts_and_leak(data_root) -> None:
    data = dc.load("coat", data_root)
    assert int(data.in_biased.sum()) == 366
    result = dc.compare(data, ["mf", "mf-combined"], seeds=3)
    assert result.mean("mf", "auc") > 0.735  # type: ignore[operator]
    assert result.mean("mf", "auc/leaked") > result.mean("mf", "auc")  # type: ignore[operator]
    assert result.protocol["counts"]["test_leaked"] == 4176


def test_string_ids_survive(tmp_path) -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice(1_000, 400, replace=False)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{c // 25}" for c in cells],
            "item_id": [f"i{c % 25}" for c in cells],
            "rating": rng.integers(0, 2, 400),
        }
    )
    result = dc.compare(Dataset.from_frames(frame, binarize=1), ["mf:epochs=2"], seeds=1)
    assert result.runs[0].metrics["auc/biased"] is not None


def test_split_by_time() -> None:
    rng = np.random.default_rng(3)
    cells = rng.choice(2_000, 900, replace=False)
    frame = pl.DataFrame(
        {
            "user_id": cells // 40,
            "item_id": cells % 40,
            "rating": rng.integers(0, 2, 900),
            "timestamp": rng.permutation(900),
        }
    )
    data = Dataset.from_frames(frame, binarize=1)
    result = dc.compare(data, ["mf:epochs=2"], seeds=1, split="time")
    assert result.protocol["split"].endswith("by time")
    with pytest.raises(ParameterError, match="users protocol"):
        dc.compare(data, ["mf"], seeds=1, split="time", protocol="users")
    with pytest.raises(ParameterError, match="split"):
        dc.compare(data, ["mf"], seeds=1, split="date")
