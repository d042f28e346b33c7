"""Measures whether bounds hold the truth when odds are off within Gamma (3 minutes), and writes the guide's table.

Worlds of `sim-pairs` in which exposures are drawn with the odds of their measured propensity times a hidden factor:
`follows the outcome` (g where the outcome is 1, 1/g where it is 0: the worst there is) or `its own` (log-uniform in
[1/g, g], half of it explained by the outcome). The log knows the measured propensities. See measured.py.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from measured import Measured, drawing, svg

import deconrec as dc
from deconrec.data.dataset import Dataset, Log
from deconrec.evaluation.gains import expected_gains

GAMMAS = (1.0, 1.25, 1.5, 2.0, 3.0)
HIDDEN = (1.0, 1.5, 2.0)
CELLS = (*(("follows the outcome", g) for g in HIDDEN), ("its own", HIDDEN[-1]))
WORLDS, K = 100, 10
FIRST = 50_000  # seed of the first world
METRICS = ("mse", f"recall@{K}/full/pooled", f"precision@{K}/full")


def measure() -> dict[str, Any]:
    """Share of worlds whose bounds, and intervals of bounds, hold the metric over the population."""
    inside: dict[tuple[str, float, str, float], list[tuple[bool, bool]]] = {}
    for seed in range(WORLDS):
        data, truth = dc.simulate.pairs(
            n_users=300, n_items=60, confounding=0.0, exposure_rate=0.15, seed=FIRST + seed
        )
        model = dc.MF(dim=4, epochs=5, seed=seed).fit(data)
        outside, r = model.seen_.toarray() == 0, truth.rating
        scores = model.score(data.users.values).astype(np.float64)
        hits = expected_gains(scores, ~outside, {"hit": ("hit", K)})["hit"]
        exact = {
            "mse": float(((scores - r) ** 2)[outside].mean()),
            f"recall@{K}/full/pooled": float((hits * r).sum() / (outside * r).sum()),
            f"precision@{K}/full": float((hits * r).sum() / hits.sum()),
        }
        assert truth.propensity is not None
        nominal = np.clip(truth.propensity.astype(np.float64), 0.02, 0.9)
        for kind, hidden in CELLS:
            rng = np.random.default_rng(seed)
            sign = np.where(r > 0, 1.0, -1.0)
            if kind == "its own":
                sign = np.clip(0.5 * sign + 0.5 * rng.uniform(-1, 1, r.shape), -1, 1)
            odds = nominal / (1 - nominal) * hidden**sign
            user, item = np.nonzero((rng.random(r.shape) < odds / (1 + odds)) & outside)
            rows = Log(user, item, r[user, item], propensity=nominal[user, item])
            log = Dataset(data.users, data.items, rows, task=data.task)  # features would only be benchmarks
            found = dc.sensitivity(model, log, metrics=METRICS, gammas=GAMMAS)
            for row in found.metrics:
                true = exact[row.metric]
                for at, gamma in enumerate(found.gammas):
                    ends = row.low[at], row.high[at], row.interval_low[at], row.interval_high[at]
                    low, high, least, most = (float(e) if e is not None else np.nan for e in ends)
                    inside.setdefault((kind, hidden, row.metric, gamma), []).append(
                        (low <= true <= high, least <= true <= most)
                    )
    out = []
    for (kind, hidden, metric, gamma), held in inside.items():
        bound, interval = np.mean(held, axis=0)
        out.append(
            {
                "kind": kind,
                "hidden": hidden,
                "metric": metric,
                "gamma": gamma,
                "bound": float(bound),
                "interval": float(interval),
            }
        )
    return {"worlds": WORLDS, "rows": out}


def table(m: dict[str, Any]) -> str:
    """Shares by hidden odds ratio and Gamma."""
    lines = [
        f"{m['worlds']} worlds each (300 users, 60 items). Share of worlds in which the 95 % interval of the bounds at "
        "Gamma holds the truth, and in brackets the bounds themselves. Odds are off by a hidden factor of up to g.",
        "",
        f"| hidden factor | g | metric | {' | '.join(f'Gamma = {g:g}' for g in GAMMAS)} |",
        "|" + " --- |" * (len(GAMMAS) + 3),
    ]
    for kind, hidden, metric in dict.fromkeys((r["kind"], r["hidden"], r["metric"]) for r in m["rows"]):
        of = {
            r["gamma"]: r
            for r in m["rows"]
            if (r["kind"], r["hidden"], r["metric"]) == (kind, hidden, metric)
        }
        cells = [f"{of[g]['interval']:.2f} ({of[g]['bound']:.2f})" for g in GAMMAS]
        lines.append(f"| {kind} | {hidden:g} | {metric} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """Shares over Gamma where the factor follows the outcome."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    with drawing():
        figure = Figure(figsize=(6.2, 3.0), layout="constrained")
        panels = figure.subplots(1, len(METRICS), sharey=True)
        for axes, metric in zip(panels, METRICS, strict=True):
            for turn, hidden in enumerate(HIDDEN):
                values = {
                    r["gamma"]: r["interval"]
                    for r in m["rows"]
                    if (r["kind"], r["hidden"], r["metric"]) == ("follows the outcome", hidden, metric)
                }
                axes.plot(
                    list(values),
                    list(values.values()),
                    "o-",
                    ms=4,
                    color=COLOURS[turn],
                    label=f"g = {hidden:g}",
                )
                axes.axvline(hidden, color=COLOURS[turn], lw=0.8, ls=":")
            axes.axhline(0.95, color="#888888", lw=0.8, ls="--")
            axes.set_xscale("log")
            axes.set_xticks(GAMMAS, [f"{g:g}" for g in GAMMAS])
            axes.minorticks_off()
            axes.set_title(metric.partition("/")[0], fontsize=9, loc="left")
            axes.set_xlabel("Gamma")
            axes.set_ylim(-0.03, 1.03)
        panels[0].set_ylabel("share that hold the truth")
        panels[-1].legend(frameon=False, loc="lower right")
        return {"sensitivity-coverage.svg": svg(figure)}


GUIDE = Measured("sensitivity", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
