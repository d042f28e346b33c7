"""Measures what the guide on diagnosing impressions says (some five minutes), and writes its table; see measured.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from doctors import LEVEL, cell_of, cells_of, power_figure, power_table, size_table
from measured import Measured
from scipy.special import expit

import deconrec as dc
from deconrec.diagnostics.impressions.balance import balance
from deconrec.diagnostics.impressions.confounding import ClickModel, confounding

SMALL: dict[str, Any] = {"n_impressions": 4000, "n_users": 150, "n_items": 50, "click_rate": 0.25}
SHAPES: dict[str, dict[str, Any]] = {
    "4,000 impressions, a fifth of the clicks convert": SMALL | {"unbiased_share": 0.1},
    "8,000 impressions, one click in twenty converts": {
        "n_impressions": 8000,
        "n_users": 300,
        "n_items": 50,
        "click_rate": 0.2,
        "conversion_rate": 0.05,
        "unbiased_share": 0.1,
    },
}
MAIN = next(iter(SHAPES))
OVERLAP = 0.8  # what the context does to clicks and to conversions is much alike: measured confounding
SIZE = dict(zip(SHAPES, (200, 100), strict=True))  # worlds without hidden confounding
DIALS = (0.5, 1.0, 2.0)
SHARES = (0.05, 0.1, 0.3)
POWER = 20  # worlds a dial and share


def world(shape: str, dial: float, seed: int, share: float | None = None) -> dict[str, Any]:
    """The test, and balance, on one world."""
    settings = SHAPES[shape] | ({} if share is None else {"unbiased_share": share})
    data, truth = dc.simulate.impressions(
        confounding=dial, context_overlap=OVERLAP, seed=20_000 + seed, **settings
    )
    shown, model = data.impressions, ClickModel(data)
    found = confounding(data, model, seed)
    assert shown is not None
    assert truth.propensity is not None
    own = expit(model.logit()[: len(shown)])
    columns = balance(shown, {"fitted": 1 / own[shown.click], "true": 1 / truth.propensity[shown.click]})
    largest = max(columns, key=lambda c: abs(c.before))
    return {
        "shape": shape,
        "dial": dial,
        "share": settings["unbiased_share"],
        "gap": found.gap,
        "error": found.error,
        "p": found.p,
        "rows": found.rows,
        "naive": found.naive,
        "naive_rejects": found.naive_low is not None and found.naive_low * (found.naive_high or 0.0) > 0,
        "before": abs(largest.before),
        "fitted": abs(largest.after["fitted"]),
        "true": abs(largest.after["true"]),
    }


def worlds() -> Iterator[tuple[str, float, int, float | None]]:
    """Everything that is drawn: (shape, dial, seed, share)."""
    for shape, most in SIZE.items():
        for seed in range(most):
            yield shape, 0.0, seed, None
    for share in SHARES:
        for dial in DIALS:
            for seed in range(POWER):
                yield MAIN, dial, seed, share


def measure() -> dict[str, Any]:
    """Size at dial 0, power over the dial and the forced clicks."""
    cells = cells_of([world(*w) for w in worlds()], SHAPES, SHARES, DIALS)
    return {"level": LEVEL} | {name: [_cell(drawn) for drawn in each] for name, each in cells.items()}


def _cell(drawn: list[dict[str, Any]]) -> dict[str, Any]:
    """With the balance of the column that is furthest out of it."""
    return cell_of(drawn) | {
        name: float(np.mean([w[name] for w in drawn])) for name in ("before", "fitted", "true")
    }


def table(m: dict[str, Any]) -> str:
    """The measured numbers as Markdown."""
    lines = size_table(m["size"], "forced clicks", "mean difference of conversion rates")
    for c in m["size"]:
        if c["declined"]:
            lines += [
                "",
                f"In {c['declined']} further worlds of {c['shape']} there were too few conversions to test.",
            ]
    first = m["size"][0]
    lines += [
        "",
        *power_table(m["power"], "forced clicks"),
        "",
        f"Middle table: share of {m['power'][0]['worlds']} worlds ({first['shape']}) in which hidden confounding is "
        "found at 5 %, and the mean gap.",
        "",
        "| the column most out of balance, in | before | weighted by the fitted pCTR | weighted by the true P(click) |",
        "| --- | --- | --- | --- |",
        *(f"| {c['shape']} | {c['before']:.2f} | {c['fitted']:.2f} | {c['true']:.2f} |" for c in m["size"]),
        "",
        "Mean over the worlds of the first table of the absolute standardised difference.",
    ]
    return "\n".join(lines) + "\n"


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """Power over the dial, by file name."""
    drawn = power_figure(m, "forced clicks", "sim-impressions, 4,000 impressions.")
    return {"diagnose-impressions-power.svg": drawn}


GUIDE = Measured("diagnose-impressions", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
