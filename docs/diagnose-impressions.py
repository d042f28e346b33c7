"""Measures what the guide on diagnosing impressions says (some five minutes), and writes its table; see measured.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from measured import Measured, drawing, svg
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
LEVEL = 0.05


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
    found = [world(*w) for w in worlds()]
    size = [_cell([w for w in found if w["shape"] == s and w["dial"] == 0]) for s in SHAPES]
    power = [
        _cell([w for w in found if w["dial"] == dial and w["share"] == share])
        for share in SHARES
        for dial in DIALS
    ]
    return {"level": LEVEL, "size": size, "power": power}


def _cell(drawn: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of the worlds of one setting; those in which the test declined are counted apart."""
    cell = [w for w in drawn if w["p"] is not None]
    gap, error, p = (np.array([w[k] for w in cell]) for k in ("gap", "error", "p"))
    rejected = float((p < LEVEL).mean())
    return {
        "shape": cell[0]["shape"],
        "dial": cell[0]["dial"],
        "share": cell[0]["share"],
        "worlds": len(cell),
        "declined": len(drawn) - len(cell),
        "rows": cell[0]["rows"],
        "rejected": rejected,
        "rejected_error": float(np.sqrt(rejected * (1 - rejected) / len(cell))),
        "naive_rejected": float(np.mean([w["naive_rejects"] for w in cell])),
        "naive": float(np.mean([w["naive"] for w in cell])),
        "gap": float(gap.mean()),
        "spread": float(gap.std(ddof=1)),
        "error": float(error.mean()),
        **{name: float(np.mean([w[name] for w in drawn])) for name in ("before", "fitted", "true")},
    }


def table(m: dict[str, Any]) -> str:
    """The measured numbers as Markdown."""
    lines = [
        "| no hidden confounding | worlds | forced clicks | mean difference of conversion rates | ... called found | "
        "mean gap | its spread over worlds, mean standard error | **hidden confounding called found** |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {c['shape']} | {c['worlds']} | {c['rows']:,} | {c['naive']:+.3f} | {c['naive_rejected']:.0%} | "
            f"{c['gap']:+.4f} | {c['spread']:.4f}, {c['error']:.4f} | **{c['rejected']:.1%}** ± "
            f"{c['rejected_error']:.1%} |"
            for c in m["size"]
        ),
    ]
    for c in m["size"]:
        if c["declined"]:
            lines += [
                "",
                f"In {c['declined']} further worlds of {c['shape']} there were too few conversions to test.",
            ]
    lines += [
        "",
        "| forced clicks | " + " | ".join(f"dial {d:g}" for d in DIALS) + " |",
        "| --- |" + " --- |" * len(DIALS),
    ]
    for share in SHARES:
        cells = [c for c in m["power"] if c["share"] == share]
        lines.append(
            f"| {cells[0]['rows']:,} | "
            + " | ".join(f"{c['rejected']:.0%} (gap {c['gap']:+.3f})" for c in cells)
            + " |"
        )
    first = m["size"][0]
    lines += [
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
    """Power over the dial as SVG, by file name."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    with drawing():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        zero = m["size"][0]
        for colour, share in zip(COLOURS, SHARES, strict=False):
            cells = [c for c in m["power"] if c["share"] == share]
            x, y = [c["dial"] for c in cells], [c["rejected"] for c in cells]
            if share == zero["share"]:
                x, y = [0.0, *x], [zero["rejected"], *y]
            axes.plot(x, y, "o-", color=colour, label=f"{cells[0]['rows']:,} forced clicks")
        axes.axhline(m["level"], color="#999999", lw=0.8, ls="--")
        axes.set(
            xlabel="confounding (0 = none)",
            ylabel="hidden confounding called found",
            ylim=(0, 1.03),
            xticks=[0, *DIALS],
        )
        axes.set_title("sim-impressions, 4,000 impressions. Dashed: 5 %.", fontsize=9, loc="left")
        axes.legend(frameon=False, loc="lower right")
        return {"diagnose-impressions-power.svg": svg(figure)}


GUIDE = Measured("diagnose-impressions", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
