"""Measures what exploring lists are worth to the next model (ten minutes), and draws the curve; see measured.py.

The loop of a served recommender in simulated worlds: a model is fitted to a confounded log; a server that explores a
share of its places shows every user one list, and logs it with its propensities; the outcomes come; the next model is
fitted to the served lists alone. Nothing of the truth enters but the ratings of what was shown.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import numpy as np
import polars as pl
from measured import Measured, drawing, svg

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth
from deconrec.propensity import Known
from deconrec.serving.log import ListLog
from deconrec.serving.ranker import Asked, Policy, Ranker
from deconrec.serving.served import read_lists

WORLDS = range(12)
N_USERS, N_ITEMS, K = 600, 60, 8
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
WORDS = {
    "naive": "mf, every row alike",
    "weighted": "ips, by the logged propensities",
    "first": "the first model (confounded log)",
}


def first(seed: int) -> tuple[Dataset, Truth, Any]:
    """(data, truth, the model of the confounded log)."""
    data, truth = dc.simulate.pairs(
        n_users=N_USERS, n_items=N_ITEMS, confounding=2.0, exposure_rate=0.1, unbiased_share=0, seed=seed
    )
    return data, truth, dc.MF(dim=4, epochs=30, seed=seed).fit(data)


def serve(model: Any, truth: Truth, share: float, folder: str, seed: int) -> pl.DataFrame:
    """What a server that explores `share` of its places showed, one list a user, from its log, with the outcomes."""
    ranker, rng = Ranker(model), np.random.default_rng(seed)
    policy = Policy("epsilon-greedy", epsilon=share) if share else Policy()
    log = ListLog(folder)
    for number, user in enumerate(ranker.users.values):
        listed = ranker.recommend(Asked(user, K, exclude_seen=False), policy, rng)
        log.write(
            {"list_id": str(number), "model": "first", "user_id": user, "source": listed.source}
            | policy.to_dict()
            | {"context": "one", "item_id": listed.code.tolist(), "score": listed.score.tolist()}
            | {"propensity": listed.propensity.tolist()}
        )
    log.close()
    shown, _ = read_lists(folder)
    rating = truth.rating[shown["user_id"].to_numpy(), shown["item_id"].to_numpy()]
    return shown.select("user_id", "item_id", "propensity").with_columns(
        rating=pl.Series(rating.astype(float))
    )


def next_models(data: Dataset, shown: pl.DataFrame, seed: int) -> dict[str, Any]:
    """The models of what was shown, by name."""
    ids = {
        "users": pl.DataFrame({"user_id": data.users.values}),
        "items": pl.DataFrame({"item_id": data.items.values}),
    }
    log = Dataset.from_frames(shown, binarize=0.5, rating_range=(0, 1), **ids)
    settings = {"dim": 4, "epochs": 30, "seed": seed}
    return {
        "naive": dc.MF(**settings).fit(log),
        "weighted": dc.IPS(propensity=Known(), **settings).fit(log),
    }


def judged(model: Any, truth: Truth) -> dict[str, float]:
    """Over all pairs: squared error of the outcome's probability, and that of the K items it would list."""
    scores = model.score().astype(np.float64)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return {
        "mse": float(((scores - truth.outcome) ** 2).mean()),
        "top": float(np.take_along_axis(truth.outcome, top, 1).mean()),
        "mean": float(scores.mean()),
    }


def measure() -> dict[str, Any]:
    """By share explored: errors of the next models, what they list, and what the exploring lists were worth."""
    found: dict[tuple[float, str], list[dict[str, float]]] = {}
    served: dict[float, list[float]] = {share: [] for share in SHARES}
    truths: list[dict[str, float]] = []
    for seed in WORLDS:
        data, truth, model = first(seed)
        best = -np.sort(-truth.outcome, axis=1)[:, :K]
        truths.append({"mean": float(truth.outcome.mean()), "top": float(best.mean())})
        for share in SHARES:
            found.setdefault((share, "first"), []).append(judged(model, truth))
            with tempfile.TemporaryDirectory() as folder:
                shown = serve(model, truth, share, folder, seed)
            served[share].append(float(shown["rating"].mean()))
            for name, fitted in next_models(data, shown, seed).items():
                found.setdefault((share, name), []).append(judged(fitted, truth))
    rows = []
    for (share, name), values in found.items():
        row: dict[str, Any] = {
            "epsilon": share,
            "model": name,
            "served": round(float(np.mean(served[share])), 4),
        }
        for metric in ("mse", "top", "mean"):
            each = np.array([v[metric] for v in values])
            row[metric] = round(float(each.mean()), 5)
            row[f"{metric}_error"] = round(float(each.std(ddof=1) / np.sqrt(len(each))), 5)
        rows.append(row)
    truth = {name: round(float(np.mean([t[name] for t in truths])), 4) for name in ("mean", "top")}
    setting = {"users": N_USERS, "items": N_ITEMS, "k": K, "confounding": 2.0, "exposure_rate": 0.1}
    return {"worlds": len(WORLDS), "setting": setting, "truth": truth, "rows": rows}


def picked(m: dict[str, Any], model: str) -> list[dict[str, Any]]:
    """The rows of a model, by share."""
    return [row for row in m["rows"] if row["model"] == model]


def table(m: dict[str, Any]) -> str:
    """The measured numbers as Markdown."""
    s, truth = m["setting"], m["truth"]
    lines = [
        f"{m['worlds']} worlds of `sim-pairs` with `confounding={s['confounding']:g}`: {s['users']} users, "
        f"{s['items']} items, lists of {s['k']}. Mean squared error over all pairs (+- one standard error); in "
        f"brackets the mean outcome of the {s['k']} items that the model would list (the best possible: "
        f"{truth['top']:.3f}; of all pairs: {truth['mean']:.3f}).",
        "",
        f"| explored | served outcome | {' | '.join(WORDS.values())} |",
        f"| ---: |{' --- |' * (len(WORDS) + 1)}",
    ]
    for at, row in enumerate(picked(m, "naive")):
        cells = [
            f"{r['mse']:.4f} +- {r['mse_error']:.4f} ({r['top']:.3f})"
            for r in (picked(m, name)[at] for name in WORDS)
        ]
        lines.append(f"| {row['epsilon']:.0%} | {row['served']:.3f} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """The error of the next model over the share explored, and the price."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    with drawing():
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        shares = [row["epsilon"] for row in picked(m, "naive")]
        place = np.arange(len(shares))
        for name, colour, style in (("naive", COLOURS[1], "s-"), ("weighted", COLOURS[0], "o-")):
            rows = picked(m, name)
            left.errorbar(
                place,
                [r["mse"] for r in rows],
                [2 * r["mse_error"] for r in rows],
                fmt=style,
                color=colour,
                ms=4,
                capsize=2,
                label=WORDS[name],
            )
            right.plot(place, [r["top"] for r in rows], style, color=colour, ms=4, label=f"next: {name}")
        start = picked(m, "first")[0]
        left.axhline(start["mse"], color="#888888", lw=1, ls="--", label=WORDS["first"])
        right.axhline(start["top"], color="#888888", lw=1, ls="--")
        right.plot(
            place,
            [r["served"] for r in picked(m, "naive")],
            "^:",
            color=COLOURS[2],
            ms=4,
            label="what exploring lists earn",
        )
        left.set(ylabel="squared error, all pairs", ylim=(0, None))
        right.set(ylabel="mean outcome of listed items")
        for axes in (left, right):
            axes.set(xlabel="share of places that is drawn at random")
            axes.set_xticks(place, [f"{share:.0%}" for share in shares])
            axes.legend(frameon=False, fontsize=7.5)
        return {"serving-exploration.svg": svg(figure)}


GUIDE = Measured("serving", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
