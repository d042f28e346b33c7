"""One HTML page about a diagnosis: the answer, verdicts with what they cannot see, pictures; no network, no script.

It reads the record (`Diagnosis.to_dict()`, the JSON of `deconrec diagnose`) and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deconrec.report import diagnosis_plots as draw
from deconrec.report import impressions_diagnosis, plots
from deconrec.report.page import rendered, write_page
from deconrec.report.reading import NONE

Record = Mapping[str, Any]


def render_diagnosis(record: Record, *, title: str = "Should these data be debiased?") -> str:
    """The page of a record.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    return rendered(
        "diagnose.html",
        over=f"diagnose · {record['data']['name']}",
        title=title,
        finding=record["answer"][0],
        answer=record["answer"][1:],
        record=record,
        figures=impressions_diagnosis.figures(record) if of_impressions(record) else _figures(record),
        columns=[_column(c) for c in record["balance"]],
        weightings=list(record["balance"][0]["after"]) if record["balance"] else [],
        compared="clicked and all impressions" if of_impressions(record) else "exposed and all pairs",
        facts=impressions_diagnosis.facts(record) if of_impressions(record) else _facts(record),
    )


def write_diagnosis(record: Record, path: str | Path, pictures: str | Path | None = None) -> Path:
    """Write the page, and its figures as files where `pictures` names a folder; gives the page's path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    return write_page(lambda: render_diagnosis(record), path, pictures)


def of_impressions(record: Record) -> bool:
    """Whether a record is of an impression log."""
    return record.get("clicks") is not None


def _figures(record: Record) -> list[tuple[str, str, str]]:
    """(heading, SVG, what to see) of each picture."""
    out = []
    c = record["confounding"]
    if c["gap"] is not None:
        out.append(_gap(c))
        if c["power"]:
            drawn = draw.power("power", c["power"], c["smallest_gap"])
            out.append(
                (
                    "What the test could find",
                    drawn,
                    f"Chance of finding a true gap at this sample size: 80 % from {c['smallest_gap']:.3f} on. Gaps "
                    "to the left of the line may be there unseen.",
                )
            )
    d = record["distribution"]
    logs = [("biased log", d["biased"], plots.LOGS[0])]
    if d["unbiased"] is not None:
        logs.append(("randomised log", d["unbiased"], plots.LOGS[1]))
    alt = "; ".join(
        f"{name}: " + ", ".join(f"{v:g} {s:.2f}" for v, s in zip(d["values"], share, strict=True))
        for name, share, _ in logs
    )
    out.append(
        (
            "Ratings",
            plots.distribution("ratings", f"Share of each rating. {alt}", d["values"], logs),
            "Share of each rating, left in the biased log and right in the randomised one. Where they part, what "
            "was exposed is not like what there is; the picture does not say why."
            if d["unbiased"] is not None
            else "The biased log alone: nothing here shows how ratings would be of pairs that were not chosen.",
        )
    )
    o = record["overlap"]
    if o["tail_curve"]:
        out.append(
            (
                "The weights' tail",
                draw.tail("tail", o["tail_curve"]),
                "How much of the weight the heaviest rows hold. On the dashed line all rows weigh alike; the more "
                f"the curve rises at its left, the fewer rows decide. Effective: {o['ess_share']:.0%} of the rows.",
            )
        )
    if record["calibration"] is not None:
        out.append(
            (
                "Propensities, out of fold",
                draw.calibration("calibration", record["calibration"]["bins"]),
                "Share of pairs that were exposed, by predicted propensity. Points off the dashed line are "
                "propensities that do not mean what they say.",
            )
        )
    if record["balance"]:
        names = list(record["balance"][0]["after"])
        marks = [
            f"{shape}: weighted by {name}" for shape, name in zip(("dot", "triangle"), names, strict=False)
        ]
        out.append(
            (
                "Balance of what is measured",
                draw.love("love", record["balance"]),
                f"Exposed pairs against all pairs. Hollow: before weighting; {'; '.join(marks)}. Marks that stay "
                "outside the dotted lines (0.1) are what weights leave out of balance.",
            )
        )
    return out


def _gap(c: Record) -> tuple[str, str, str]:
    naive = plots.Row(
        "nothing accounted for", c["naive"], c["naive_low"], c["naive_high"], f"{c['naive']:+.3f}"
    )
    mark: plots.Mark = "worse" if c["found"] else "plain"
    gap = plots.Row("what is measured accounted for", c["gap"], c["low"], c["high"], f"{c['gap']:+.3f}", mark)
    alt = f"Difference of the logs: {naive.shown} before, {gap.shown} after accounting for what is measured"
    return (
        "The gap between the logs",
        plots.forest("gap", alt, [naive, gap], "biased less randomised, share of the outcome's range", 0.0),
        "Mean outcome of the biased log less that of the randomised one, with 95 % intervals. What is left in the "
        "lower line is hidden confounding, or measured things acting in a way the model does not follow.",
    )


def _column(c: Record) -> dict[str, Any]:
    return {
        "name": f"{c['side']} {c['name']}",
        "before": f"{c['before']:+.3f}",
        "after": [f"{v:+.3f}" for v in c["after"].values()],
    }


def _facts(record: Record) -> dict[str, str]:
    data, c = record["data"], record["confounding"]
    return {
        "data": f"{data['users']:,} users x {data['items']:,} items",
        "biased log": f"{data['biased_rows']:,} rows, density {data['density']:.3%}",
        "randomised log": f"{data['unbiased_rows']:,} rows, {data['in_both']:,} of pairs in both logs (dropped)"
        if data["unbiased_rows"]
        else NONE,
        "outcome": data["outcome"],
        "accounted for": ", ".join(c["measured"]),
        "p": NONE if c["p"] is None else f"{c['p']:.3g}",
        "seed": str(record["seed"]),
        "seconds": f"{record['seconds']:.0f}",
    }
