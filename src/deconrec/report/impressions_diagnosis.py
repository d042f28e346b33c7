"""What the page about a diagnosis shows of an impression log: pictures, each with a sentence, and facts.

It reads the record (`Diagnosis.to_dict()`) and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deconrec.report import diagnosis_plots as draw
from deconrec.report import plots
from deconrec.report.reading import NONE

Record = Mapping[str, Any]
Figure = tuple[str, str, str]
"""Heading, SVG, what to see."""


def figures(record: Record) -> list[Figure]:
    """Every picture that the record has numbers for."""
    c, o = record["confounding"], record["overlap"]
    out = [_rates(record["clicks"])]
    if c["gap"] is not None:
        out.append(_gap(c))
    if c["power"]:
        out.append(
            (
                "What the test could find",
                draw.power("power", c["power"], c["smallest_gap"]),
                f"Chance of finding a true gap with so many forced clicks: 80 % from {c['smallest_gap']:.3f} on. Gaps "
                "to the left of the line may be there unseen.",
            )
        )
    if o["tail_curve"]:
        out.append(
            (
                "The tail of the weights 1 / pCTR",
                draw.tail("tail", o["tail_curve"]),
                "How much of the weight the heaviest clicks hold. On the dashed line all clicks weigh alike; the more "
                f"the curve rises at its left, the fewer clicks decide. Effective: {o['ess_share']:.0%} of the clicks.",
            )
        )
    if record["calibration"] is not None:
        out.append(
            (
                "pCTR, out of fold",
                draw.calibration("calibration", record["calibration"]["bins"], "clicked impressions"),
                "Share of impressions that were clicked, by predicted pCTR. Points off the dashed line are a pCTR that "
                "does not mean what it says.",
            )
        )
    if record["balance"]:
        out.append(_balance(record["balance"]))
    return out


def facts(record: Record) -> dict[str, str]:
    """How it was computed."""
    data, c = record["data"], record["confounding"]
    whole = data["impressions"] == data["looked_at"]
    return {
        "data": f"{data['impressions']:,} impressions, {data['users']:,} users, {data['items']:,} items",
        "clicks": f"{data['biased_rows']:,}, {data['density']:.3%} of the impressions"
        + (", by sample weight" if data["weighted"] else ""),
        "forced clicks": f"{data['unbiased_rows']:,}" if data["unbiased_rows"] else NONE,
        "models fitted to": "all impressions" if whole else f"a draw of {data['looked_at']:,} impressions",
        "context": ", ".join(data["context"]) or NONE,
        "outcome": data["outcome"],
        "accounted for": ", ".join(c["measured"]),
        "p": NONE if c["p"] is None else f"{c['p']:.3g}",
        "seed": str(record["seed"]),
        "seconds": f"{record['seconds']:.0f}",
    }


def _rates(clicks: Record) -> Figure:
    named = {
        "conversion": "clicks, as they are",
        "weighted": "clicks, weighted by 1 / pCTR",
        "forced": "forced clicks",
    }
    rows = [
        plots.Row(label, r["value"], r["low"], r["high"], f"{r['value']:.2%}")
        for name, label in named.items()
        if (r := clicks[name]) is not None
    ]
    alt = "Mean pCVR of all impressions by " + "; ".join(f"{row.label}: {row.shown}" for row in rows)
    end = (
        "Forced clicks are the only line that needs no such faith."
        if clicks["forced"] is not None
        else "There are no forced clicks, the only line that would need no such faith."
    )
    return (
        "Mean pCVR of all impressions, by what is assumed",
        plots.forest("rates", alt, rows, "conversions per click"),
        "The first line holds for all impressions if clicks have nothing to do with conversions; the second if they "
        f"have no more to do with them than pCTR knows. {end} With nothing assumed of impressions without a click, the "
        f"mean is anywhere from {clicks['least']:.1%} to {clicks['most']:.1%}.",
    )


def _gap(c: Record) -> Figure:
    naive = plots.Row(
        "nothing accounted for", c["naive"], c["naive_low"], c["naive_high"], f"{c['naive']:+.3f}"
    )
    mark: plots.Mark = "worse" if c["found"] else "plain"
    gap = plots.Row("what is measured accounted for", c["gap"], c["low"], c["high"], f"{c['gap']:+.3f}", mark)
    alt = (
        f"Clicks less forced clicks: {naive.shown} before, {gap.shown} after accounting for what is measured"
    )
    return (
        "The gap between clicks and forced clicks",
        plots.forest("gap", alt, [naive, gap], "conversions per click, clicks less forced clicks", 0.0),
        "Conversion rate of clicks less that of forced clicks, with 95 % intervals. What is left in the lower line is "
        "hidden confounding, or measured things acting in a way the model does not follow.",
    )


def _balance(columns: list[Record]) -> Figure:
    names = list(columns[0]["after"])
    marks = [f"{shape}: weighted by {name}" for shape, name in zip(("dot", "triangle"), names, strict=False)]
    shown = f" The {draw.MOST} largest of {len(columns)} columns." if len(columns) > draw.MOST else ""
    return (
        "Balance of what is measured",
        draw.love("love", [{**c, "side": "" if c["side"] == "context" else c["side"]} for c in columns]),
        f"Clicked impressions against all impressions. Hollow: before weighting; {'; '.join(marks)}. Marks that stay "
        f"outside the dotted lines (0.1) are what weights leave out of balance.{shown}",
    )
