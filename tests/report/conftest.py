"""Made-up results for the tests of the reports: no method was fitted, no number in them was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from deconrec.evaluation import statistics
from deconrec.experiments.results import Distribution, Result, Run, Summary, Test, higher_is_better
from deconrec.records import finite

METHODS = ("mf", "mf-combined", "mf-uniform", "ips", "dr-jl", "res-dr:policy=joint+warmup=5")
METRICS = ("auc", "ndcg@5/shown", "recall@5/shown", "logloss", "mse")
LEVELS = {"auc": 0.70, "ndcg": 0.61, "recall": 0.58, "logloss": 0.55, "mse": 0.19}
SPREADS = {"auc": 0.012, "ndcg": 0.015, "recall": 0.02, "logloss": 0.02, "mse": 0.006}


def make_result(
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = METRICS,
    seeds: int = 10,
    settings: Sequence[dict[str, Any]] = ({},),
    twins: Sequence[str] = (),
    distribution: bool = True,
    epochs: int = 60,
    gains: Sequence[float] = (0, 1.6, -3, 0.2, 0.5, 2.4, 0.4, -0.6, 1.1),
) -> Result:
    """A result whose methods differ by `gains` standard deviations, really tested."""
    rng = np.random.default_rng(0)
    metrics = [
        *metrics,
        *(f"{m}/{t}" if t == "leaked" else f"{m.partition('/')[0]}/{t}" for t in twins for m in metrics),
    ]
    runs, summary, tests = [], [], []
    letters: dict[str, dict[str, str]] = {}
    for dial, setting in enumerate(settings):
        values = {}
        shared = {metric: rng.normal(size=seeds) for metric in metrics}
        for at, method in enumerate(methods):
            for metric in metrics:
                base = metric.partition("/")[0].partition("@")[0]
                sign = 1 if higher_is_better(metric) else -1
                gain = gains[at % len(gains)] * (1 + dial / 2) + (2 if "leaked" in metric else 0)
                noise = 0.5 * shared[metric] + 0.6 * rng.normal(size=seeds)
                values[method, metric] = LEVELS[base] + SPREADS[base] * (sign * gain + noise)
            for seed in range(seeds):
                length = int(epochs * rng.uniform(0.6, 1))
                steps = np.arange(length)
                score = 0.7 - 0.12 * np.exp(-steps / 6) - 0.0004 * steps + rng.normal(0, 0.004, length)
                runs.append(
                    Run(
                        method=method,
                        seed=seed,
                        setting=setting,
                        metrics={m: float(values[method, m][seed]) for m in metrics},
                        seconds=1.3 + 2 * at,
                        unbiased_rows=0 if at in (0, 3) else 232 + seed % 2,
                        params={
                            "dim": 16,
                            "lr": [0.01, 0.003][seed % 2],
                            "epochs": 200,
                            "propensity": "logistic-mf",
                        },
                        history={"score": [float(s) for s in score]},
                        best_epoch=int(score.argmax()) if length else None,
                        skipped_users={m: 40 + seed for m in metrics if "@" in m},
                    )
                )
        for metric in metrics:
            p = np.full((len(methods), len(methods)), np.nan)
            made = []
            for i, a in enumerate(methods):
                got = statistics.t_interval(values[a, metric], 0.1)
                summary.append(Summary(method=a, metric=metric, setting=setting, **finite(vars(got))))
                for j, b in enumerate(methods[:i]):
                    x, y = values[a, metric], values[b, metric]
                    compared = statistics.corrected_resampled_t(x, y, 0.1)
                    p[i, j] = compared.p
                    row = {"a": a, "b": b, "metric": metric, "setting": setting, **vars(compared)}
                    made.append((i, j, row | {"effect_size": statistics.effect_size(x, y)}))
            holm = statistics.holm([row["p"] for _, _, row in made])
            for (i, j, row), corrected in zip(made, holm, strict=True):
                p[i, j] = corrected
                tests.append(Test(**finite({**row, "p_holm": corrected})))
            means = [values[m, metric].mean() for m in methods]
            found = statistics.significance_letters(means, p, higher_is_better=higher_is_better(metric))
            letters[metric] = dict(zip(methods, found, strict=True))
    return Result(
        dataset="coat",
        protocol={
            "name": "pairs",
            "select": "biased",
            "seeds": list(range(seeds)),
            "split": [0.05, 0.05, 0.9],
            "candidates": {"ndcg@5/shown": "the user's own test items", "auc": "all test rows"},
            "binarize": 4.0,
            "relevant": None,
            "counts": {"biased": 5_916, "hold-out": 1_044, "unbiased training": 214, "test": 3_846},
            "world": "one data set",
            "notes": [
                "366 of 4,640 unbiased pairs stand in the biased log too and were left out of every part."
            ],
            "data": {
                "name": "coat",
                "users": 290,
                "items": 300,
                "rows": 6960,
                "unbiased_rows": 4640,
                "fingerprint": "0f3c9a",
            },
        },
        runs=runs,
        summary=summary,
        tests=tests,
        environment={
            "deconrec": "0.1.0",
            "python": "3.11.9",
            "packages": {"numpy": "2.1", "torch": "2.6"},
            "threads": 1,
        },
        distribution=Distribution(
            values=[1, 2, 3, 4, 5],
            biased=[0.13, 0.16, 0.22, 0.28, 0.21],
            unbiased=[0.42, 0.22, 0.18, 0.12, 0.06],
        )
        if distribution
        else None,
        letters=letters,
    )


@pytest.fixture
def fake_result() -> Callable[..., Result]:
    return make_result
