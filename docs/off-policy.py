"""Measures how often the intervals of off-policy estimates hold the truth (half an hour), and writes the guide's table.

Simulated worlds with everything known: half of a biased log trains a model, the other half judges it, and the metric
over all pairs that the model was not given is known. See measured.py.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, Literal

import numpy as np
from measured import Measured, drawing, svg

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth
from deconrec.evaluation import rating
from deconrec.evaluation.gains import cumulative, expected_gains
from deconrec.experiments.population import population_of
from deconrec.experiments.weights import chosen_propensity, weights_of

N_USERS, N_ITEMS, K = 500, 100, 10
METRICS = ("mse", "auc", f"ndcg@{K}", f"recall@{K}", f"precision@{K}")
KNOWN, LEARNED = ("known",), ("known", "logistic-mf", "popularity", "naive-bayes")
# (confounding, share of the log that judges, propensities, worlds)
CELLS = ((0.0, 0.5, LEARNED, 60), (1.0, 0.5, LEARNED, 60), (0.0, 0.1, KNOWN, 80))
ESTIMATORS: tuple[Literal["ips", "snips", "dr"], ...] = ("ips", "snips", "dr")


def world(seed: int, confounding: float, share: float) -> tuple[Any, Dataset, Truth, np.ndarray]:
    """(a fitted model, the log that judges it, the truth, P(in that log | not in training))."""
    data, truth = dc.simulate.pairs(
        n_users=N_USERS,
        n_items=N_ITEMS,
        confounding=confounding,
        exposure_rate=0.1,
        unbiased_share=0.01,
        seed=seed,
    )
    judges = np.random.default_rng(seed).random(len(data.biased)) < share
    model = dc.MF(dim=4, epochs=8, seed=seed).fit(data.with_logs(data.biased.take(~judges)))
    assert truth.propensity is not None
    p = truth.propensity.astype(np.float64)
    log = data.with_logs(data.biased.take(judges), data.unbiased)
    return model, log, truth, share * p / (1 - (1 - share) * p)


def learned(name: str, model: Any, log: Dataset, seed: int) -> np.ndarray:
    """(n_users, n_items) propensities of the log's rows, learned once for all estimators; 1 elsewhere, never read."""
    population = population_of([model], log)
    weight, _ = weights_of(chosen_propensity(name, population, seed), population, seed)
    out = np.ones(log.shape)
    out[population.rows.user, population.rows.item] = 1 / weight
    return out


def exact(model: Any, log: Dataset, truth: Truth) -> dict[str, float]:
    """The metrics over every pair that the model was not given."""
    scores, outside = model.score(log.users.values).astype(np.float64), model.seen_.toarray() == 0
    r = truth.rating * outside
    gains = expected_gains(scores, ~outside, {"hit": ("hit", K), "dcg": ("dcg", K)})
    best = cumulative("dcg", K, K)[np.minimum(r.sum(1), K)]
    return {
        "mse": float(((scores - truth.rating) ** 2)[outside].mean()),
        "auc": rating.auc(scores[outside], truth.rating[outside]),
        f"ndcg@{K}/full/pooled": float((gains["dcg"] * r).sum() / best.sum()),
        f"recall@{K}/full/pooled": float((gains["hit"] * r).sum() / r.sum()),
        f"precision@{K}/full": float((gains["hit"] * r).sum() / (K * len(r))),
    }


def measure() -> dict[str, Any]:
    """Bias, spread and coverage by cell, propensity, estimator and metric."""
    rows: list[dict[str, Any]] = []
    for confounding, share, propensities, worlds in CELLS:
        found: dict[tuple[str, str, str], list[tuple[float, float, float, float, float]]] = {}
        for seed in range(worlds):
            model, log, truth, p = world(seed, confounding, share)
            true = exact(model, log, truth)
            for name in propensities:
                given = dc.Known(values=p if name == "known" else learned(name, model, log, seed))
                for estimator in ESTIMATORS:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", dc.errors.OverlapWarning)
                        result = dc.evaluate(
                            *(model, log),
                            estimator=estimator,
                            propensity=given,
                            metrics=METRICS,
                            imputation="mf:dim=4+epochs=8",
                            seed=seed,
                        )
                    for e in result.estimates:
                        if e.estimate is not None and e.low is not None and e.high is not None:
                            found.setdefault((name, estimator, e.metric), []).append(
                                (
                                    e.estimate - true[e.metric],
                                    true[e.metric],
                                    e.low - true[e.metric],
                                    e.high - true[e.metric],
                                    e.ess,
                                )
                            )
        for (name, estimator, metric), values in found.items():
            error, truth_, low, high, ess = np.array(values).T
            rows.append(
                {
                    "confounding": confounding,
                    "share": share,
                    "propensity": name,
                    "estimator": estimator,
                    "metric": metric,
                    "worlds": len(values),
                    "truth": float(truth_.mean()),
                    "bias": float(error.mean()),
                    "spread": float(error.std(ddof=1)),
                    "coverage": float(((low <= 0) & (high >= 0)).mean()),
                    "width": float((high - low).mean()),
                    "ess": float(np.median(ess)),
                }
            )
    return {"n_users": N_USERS, "n_items": N_ITEMS, "rows": rows}


def table(m: dict[str, Any]) -> str:
    """Coverage by propensity and estimator."""
    head = {0.0: "no hidden confounding", 1.0: "hidden confounding (`confounding=1`)"}
    metrics = list(dict.fromkeys(r["metric"] for r in m["rows"]))
    lines = [
        f"Worlds of `sim-pairs`: {m['n_users']} users, {m['n_items']} items, 10 % exposure. Share of worlds whose 95 % "
        "interval holds the truth, and in brackets the mean error in percent of the truth.",
    ]
    for confounding, share in dict.fromkeys((r["confounding"], r["share"]) for r in m["rows"]):
        cell = [r for r in m["rows"] if (r["confounding"], r["share"]) == (confounding, share)]
        ess = {
            r["metric"]: r["ess"] for r in cell if r["propensity"] == "known" and r["estimator"] == "snips"
        }
        lines += [
            "",
            f"**{head[confounding].capitalize()}, {share:.0%} of the log judges** ({cell[0]['worlds']} worlds; median "
            f"effective rows with known propensities: {', '.join(f'{k} {v:.0f}' for k, v in ess.items())}).",
            "",
            f"| propensity | estimator | {' | '.join(metrics)} |",
            "|" + " --- |" * (len(metrics) + 2),
        ]
        for name, estimator in dict.fromkeys((r["propensity"], r["estimator"]) for r in cell):
            of = {r["metric"]: r for r in cell if (r["propensity"], r["estimator"]) == (name, estimator)}
            texts = [
                f"{of[x]['coverage']:.2f} ({100 * of[x]['bias'] / of[x]['truth']:+.0f} %)" if x in of else ""
                for x in metrics
            ]
            lines.append(f"| {name} | {estimator} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """Coverage of every metric with known and learned propensities."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    with drawing():
        figure = Figure(figsize=(6.2, 3.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, confounding, title in zip(
            panels, (0.0, 1.0), ("no hidden confounding", "hidden confounding"), strict=True
        ):
            names = list(LEARNED)
            for turn, estimator in enumerate(ESTIMATORS):
                for at, name in enumerate(names):
                    values = [
                        r["coverage"]
                        for r in m["rows"]
                        if (r["confounding"], r["share"], r["propensity"], r["estimator"])
                        == (confounding, 0.5, name, estimator)
                    ]
                    x = at + 0.22 * (turn - 1) + np.linspace(-0.06, 0.06, len(values))
                    label = estimator if at == 0 else None
                    axes.plot(x, values, "o", ms=4, color=COLOURS[turn], label=label)
            axes.axhline(0.95, color="#888888", lw=0.8, ls="--")
            axes.set_xticks(range(len(names)), names, fontsize=7.5)
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_ylim(-0.03, 1.03)
        panels[0].set_ylabel("intervals that hold the truth")
        panels[0].legend(frameon=False, loc="lower left")
        return {"off-policy-coverage.svg": svg(figure)}


GUIDE = Measured("off-policy", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
