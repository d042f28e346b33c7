"""Metric names, and the evaluators against slow twins."""

from __future__ import annotations

import numpy as np
import pytest

import deconrec as dc
from deconrec.checks.fixtures import rows_world
from deconrec.data.dataset import Dataset
from deconrec.data.split import PairsSplit, UsersSplit
from deconrec.errors import DataError, ParameterError, SealedTest, UnknownName
from deconrec.experiments.metrics import (
    Metric,
    check_metrics,
    default_metrics,
    evaluate_pairs,
    evaluate_users,
)


@pytest.mark.parametrize(
    "name",
    ["auc", "mse", "logloss", "logloss/full", "ece", "auc/leaked", "mse/truth", "ndcg@5/shown", "recall@5/shown/leaked",
     "recall_capped@20/full", "ndcg@20/full/biased", "r2/confounder"],
)  # fmt: skip
def test_names_round_trip(name: str) -> None:
    assert str(Metric.parse(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "accuracy",
        "ndcg",
        "ndcg@5",
        "ndcg@0/shown",
        "auc@5",
        "ndcg@5/some",
        "logloss/truth",
        "auc/confounder",
        "r2",
        "auc/full",
        "logloss/shown",
        "logloss/full/leaked",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises((UnknownName, ParameterError)):
        Metric.parse(name)


@pytest.fixture(scope="module")
def world():
    data, truth = dc.simulate.pairs(n_users=80, n_items=40, exposure_rate=0.2, unbiased_share=0.3, seed=2)
    parts = PairsSplit(seed=0).apply(data)
    model = dc.MF(dim=4, epochs=5, seed=0).fit(parts.train, validation=parts.holdout)
    return data, truth, model


def test_defaults(world) -> None:
    data, truth, _ = world
    names = default_metrics(data, "pairs", truth)
    assert names[:5] == ["auc", "ndcg@5/shown", "recall@5/shown", "logloss", "mse"]
    assert "auc/leaked" in names
    assert "mse/truth" in names
    assert default_metrics(data, "users", truth) == ["recall_capped@20/full", "ndcg@20/full"]


def test_without_unbiased_data_names_say_biased(world) -> None:
    data = world[0].with_logs(world[0].biased)
    assert all(n.endswith("/biased") for n in default_metrics(data, "pairs", None))
    assert check_metrics(["auc"], data, "pairs", None) == ["auc/biased"]
    with pytest.raises(DataError, match="truth"):
        check_metrics(["mse/truth"], data, "pairs", None)
    with pytest.raises(DataError, match="outcomes of all pairs"):
        check_metrics(["logloss/full"], world[0], "pairs", None)


def test_pairs_metrics_against_a_slow_twin(world) -> None:
    data, truth, model = world
    parts = PairsSplit(seed=0).apply(data)
    test = PairsSplit(seed=0).apply(data).test.open()
    names = ["auc", "mse", "logloss", "ndcg@3/shown", "recall@3/shown", "ndcg@5/full", "recall@5/full", "mse/truth",
             "auc/truth", "auc/leaked", "recall@5/full/leaked", "logloss/full"]  # fmt: skip
    got = evaluate_pairs(model, parts.test, data, names, truth)
    with pytest.raises(SealedTest):
        evaluate_pairs(model, parts.test, data, names, truth)

    def predicted(u: int, i: int) -> float:
        return float(model.predict(([data.users.values[u]], [data.items.values[i]]), unknown="fallback")[0])

    scores = np.array([[predicted(u, i) for i in range(data.n_items)] for u in range(data.n_users)])
    given = (
        parts.train.biased,
        parts.holdout.data.biased,
        parts.train.unbiased,
        parts.validation.data.biased,
    )
    known = {(u, i) for part in given for u, i in zip(part.user, part.item, strict=True)}
    rows = list(zip(test.log.user, test.log.item, test.log.rating, strict=True))
    wins = [(scores[u, i] > scores[v, j]) + 0.5 * (scores[u, i] == scores[v, j])
            for u, i, r in rows if r for v, j, s in rows if not s]  # fmt: skip
    assert got.metrics["auc"] == pytest.approx(np.mean(wins), abs=1e-9)
    assert got.metrics["mse"] == pytest.approx(
        np.mean([(scores[u, i] - r) ** 2 for u, i, r in rows]), abs=1e-7
    )

    def ranked(candidates, positives, k):
        order = sorted(candidates, key=lambda c: -c[0])
        hits = [rank for rank, (_, item) in enumerate(order[:k]) if item in positives]
        ideal = sum(1 / np.log2(n + 2) for n in range(min(k, len(positives))))
        return len(hits) / len(positives), sum(1 / np.log2(h + 2) for h in hits) / ideal

    shown, full, drawn = [], [], []
    for u in range(data.n_users):
        own = [(i, r) for v, i, r in rows if v == u]
        positives = {i for i, r in own if r}
        everything = [(scores[u, i], i) for i in range(data.n_items) if (u, i) not in known]
        if positives:
            shown.append(ranked([(scores[u, i], i) for i, _ in own], positives, 3))
            drawn.append(ranked(everything, positives, 5))
        # Every outcome is known: all positives outside what the model was given are to be found.
        positives = {i for _, i in everything if truth.rating[u, i]}
        if positives:
            full.append(ranked(everything, positives, 5))
    assert got.metrics["recall@3/shown"] == pytest.approx(np.mean([r for r, _ in shown]))
    assert got.metrics["ndcg@3/shown"] == pytest.approx(np.mean([n for _, n in shown]))
    assert got.metrics["recall@5/full"] == pytest.approx(np.mean([r for r, _ in full]))
    assert got.metrics["ndcg@5/full"] == pytest.approx(np.mean([n for _, n in full]))
    without = evaluate_pairs(
        model, PairsSplit(seed=0).apply(data).test, data, ["recall@5/full", "ndcg@5/full"], None
    )
    assert without.metrics["recall@5/full"] == pytest.approx(np.mean([r for r, _ in drawn]))
    assert without.metrics["ndcg@5/full"] == pytest.approx(np.mean([n for _, n in drawn]))
    outside = [(u, i) for u in range(data.n_users) for i in range(data.n_items) if (u, i) not in known]
    error = np.mean([(scores[u, i] - truth.outcome[u, i]) ** 2 for u, i in outside])
    assert got.metrics["mse/truth"] == pytest.approx(error, abs=1e-7)
    losses = [
        -np.log(p if truth.rating[u, i] else 1 - p)
        for u, i in outside
        for p in [np.clip(scores[u, i], 1e-7, 1 - 1e-7)]
    ]
    assert got.metrics["logloss/full"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert got.skipped["ndcg@3/shown"] == len(set(test.log.user.tolist())) - len(shown)


def test_users_metrics_against_a_slow_twin() -> None:
    data, truth = dc.simulate.deep_deconf(
        n_users=120, n_items=50, exposure_rate=0.2, weight_scale=0.3, seed=0
    )
    parts = UsersSplit(seed=0).apply(data, truth)
    model = dc.ConcatVAE(hidden=(8,), epochs=3).fit(parts.train, validation=parts.holdout)
    test = UsersSplit(seed=0).apply(data, truth).test.open()
    names = ["recall_capped@10/full", "ndcg@10/full"]
    got = evaluate_users(model, parts.test, data, names, truth, parts.train)
    scores = model.score(history=test.history)
    seen = test.history.biased.pattern(test.history.shape).toarray() > 0
    recall = []
    for u in range(test.history.n_users):
        positives = set(np.flatnonzero(test.relevant.toarray()[u]))
        if positives:
            order = [i for i in np.argsort(-scores[u], kind="stable") if not seen[u, i]][:10]
            recall.append(len(positives & set(order)) / min(10, len(positives)))
    assert got.metrics["recall_capped@10/full"] == pytest.approx(np.mean(recall), abs=1e-6)


def test_logloss_of_ratings_is_refused() -> None:
    data, truth = dc.simulate.deep_deconf(
        n_users=60, n_items=30, exposure_rate=0.2, unbiased_share=0.1, seed=0
    )
    assert isinstance(data, Dataset)
    with pytest.raises(DataError, match="binary"):
        check_metrics(["logloss"], data, "pairs", truth)


def test_how_much_of_the_confounder_the_substitute_explains() -> None:
    data, truth = dc.simulate.deep_deconf(
        n_users=300, n_items=80, n_factors=3, n_features=2, exposure_rate=0.1, seed=0
    )
    parts = UsersSplit(0).apply(data, truth)
    exposure = dc.VAEExposure(dim=4, epochs=5, check_draws=0)
    model = dc.DeepDeconf(exposure=exposure, hidden=(4,), epochs=2).fit(parts.train, validation=parts.holdout)
    history, c = parts.test.open().history, truth.confounder
    z, z_new = model.substitute_confounder(), model.substitute_confounder(history=history)
    known, new = (c[d.users.values.to_numpy()] for d in (parts.train, history))
    residual = total = 0.0
    for k in range(c.shape[1]):  # a regression for each column
        slope, *_ = np.linalg.lstsq(np.c_[z, np.ones(len(z))].astype(float), known[:, k], rcond=None)
        residual += ((new[:, k] - np.c_[z_new, np.ones(len(z_new))] @ slope) ** 2).sum()
        total += ((new[:, k] - known[:, k].mean()) ** 2).sum()
    parts = UsersSplit(0).apply(data, truth)
    names = ["ndcg@5/full", "r2/confounder"]
    assert check_metrics(names, data, "users", truth) == names
    got = evaluate_users(model, parts.test, data, names, truth, parts.train).metrics
    assert got["r2/confounder"] == pytest.approx(1 - residual / total, rel=1e-4)
    plain = dc.ConcatVAE(hidden=(4,), epochs=1).fit(parts.train, validation=parts.holdout)
    parts = UsersSplit(0).apply(data, truth)
    assert np.isnan(
        evaluate_users(plain, parts.test, data, names, truth, parts.train).metrics["r2/confounder"]
    )


def test_without_a_known_confounder_there_is_nothing_to_explain(world) -> None:
    data, truth, _ = world
    with pytest.raises(DataError, match="users protocol and a simulator's hidden confounder"):
        check_metrics(["r2/confounder"], data, "pairs", truth)
    with pytest.raises(DataError, match="users protocol and a simulator's hidden confounder"):
        check_metrics(["r2/confounder"], data, "users", None)


def test_users_of_a_log_with_randomised_rows_are_tested_on_their_own() -> None:
    """No truth, no test log: their positives are held-out biased rows, and every metric says so."""
    data = rows_world()
    assert data.unbiased is not None
    names = check_metrics(default_metrics(data, "users", None), data, "users", None)
    assert names == ["recall_capped@20/full/biased", "ndcg@20/full/biased"]
