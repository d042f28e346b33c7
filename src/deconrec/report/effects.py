"""One HTML page about estimated effects: what was estimated, what it rests on, pictures, table; no network, no script.

It reads the record (`Effects.to_dict()`, the JSON of `deconrec effects`) and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deconrec.report import plots
from deconrec.report.page import rendered, write_page
from deconrec.report.reading import NONE

MOST_DRAWN = 20  # items in the picture
MOST_ROWS = 200  # of each table: what is left out stands in the JSON

Row = Mapping[str, Any]
CHOICE = "Where the line is flat, the answer does not hang on the dimension. "
SWEPT = ("dim", "p", "behind", "linear_share", "own", "moved", "chosen")


def render_effects(record: Mapping[str, Any], *, title: str = "Effects of exposures on outcomes") -> str:
    """The page of a record.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    own = [r for r in record["effects"] if r["own"]]
    other = [r for r in record["effects"] if not r["own"]]
    key = _ranked if any(r["adjusted"] is not None for r in record["effects"]) else _by_naive
    return rendered(
        "effects.html",
        over=f"effects · {record['settings'].get('data', record['unit'])}",
        title=title,
        record=record,
        finding=_finding(record),
        verdicts=[dict(v) | {"measured": _measured(v)} for v in record["verdicts"]],
        facts=[(name.replace("_", " "), _plain(value)) for name, value in record["settings"].items()],
        figures=_figures(record, key(own), key(other)),
        sweep=[[_plain(point[name]) for name in SWEPT] for point in record["sweep"]],
        tables=[
            (name, [_cells(r) for r in rows[:MOST_ROWS]], max(0, len(rows) - MOST_ROWS))
            for name, rows in (
                ("Effects of an item on its own outcome", key(own)),
                ("Effects on other items", key(other)),
            )
            if rows
        ],
    )


def write_effects(
    record: Mapping[str, Any],
    path: str | Path,
    *,
    title: str | None = None,
    pictures: str | Path | None = None,
) -> Path:
    """Write the page, and its figures as files where `pictures` names a folder; gives the page's path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    named = {} if title is None else {"title": title}
    return write_page(lambda: render_effects(record, **named), path, pictures)


def _finding(record: Mapping[str, Any]) -> str:
    refusing = [v["code"] for v in record["verdicts"] if v["status"] == "refuses"]
    s = record["summary"]
    if refusing and s["own_adjusted"] is None and s["other_adjusted"] is None:
        return f"No effects are given: {', '.join(refusing)}. The naive numbers below are associations."
    parts = []
    for name, words in (
        ("own", "an item's exposure moves its own outcome"),
        ("other", "and that of another item"),
    ):
        if s[f"{name}_adjusted"] is not None:
            parts.append(
                f"{words} by {s[f'{name}_adjusted']:+.3f} on average (naive {s[f'{name}_naive']:+.3f})"
            )
    said = (
        f"In {record['unit']} units, {', '.join(parts)}."
        if parts
        else "No pair has enough rows for an estimate."
    )
    return said if not refusing else f"These are no effects ({', '.join(refusing)}): {said}"


def _figures(
    record: Mapping[str, Any], own: Sequence[Row], other: Sequence[Row]
) -> list[tuple[str, str, str]]:
    out = []
    for turn, (heading, rows) in enumerate(
        (("Effects of an item on its own outcome", own), ("Effects on other items", other))
    ):
        drawn = [
            plots.Row(
                str(r["item_id"]) if r["own"] else f"{r['cause_id']} → {r['item_id']}",
                r["adjusted"],
                r["low"],
                r["high"],
                _number(r["adjusted"]),
                "plain",
                r["naive"],
            )
            for r in rows[:MOST_DRAWN]
            if r["adjusted"] is not None
        ]
        if drawn:
            alt = f"{heading}: " + "; ".join(f"{r.label} {r.shown}" for r in drawn)
            svg = plots.forest(f"e{turn}", alt[:2000], drawn, record["unit"], 0.0)
            note = (
                "Dots: adjusted, with 95 % interval. Hollow: naive. Dashed: no effect. A dot far from its hollow mark "
                "is an effect that confounding had moved."
            )
            out.append((heading, svg, f"{note} The {len(drawn)} largest of {len(rows):,}."))
    points = record["sweep"]
    if len(points) > 1:
        x = [p["dim"] for p in points]
        if any(p["own"] is not None for p in points):
            line: list[plots.Triple] = [(p["own"], None, None) for p in points]
            svg = plots.sweep(
                "e2", "Mean own effect by dimension of z", x, {"": line}, "dimension of z", record["unit"]
            )
            out.append(("Mean own effect over the dimension of z", svg, CHOICE + _chosen(points)))
        if any(p["behind"] is not None for p in points):
            line = [_banded(p["behind"], p["behind_error"] or 0.0) for p in points]
            svg = plots.sweep(
                "e3",
                "Held-out exposures by dimension of z",
                x,
                {"": line},
                "dimension of z",
                "lower is better",
            )
            out.append(
                (
                    "Held-out log-likelihood behind the best, nats a user",
                    svg,
                    "Band: one paired standard error. The smallest dimension whose band reaches 0 is as good as any.",
                )
            )
    return out


def _banded(value: float | None, error: float) -> plots.Triple:
    return (None, None, None) if value is None else (value, value - error, value + error)


def _chosen(points: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"Chosen by the predictive check: {p['dim']}." for p in points if p["chosen"])


def _ranked(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: -abs(r["adjusted"] if r["adjusted"] is not None else 0.0))


def _by_naive(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: -abs(r["naive"] if r["naive"] is not None else 0.0))


def _cells(row: Row) -> list[str]:
    between = NONE if row["low"] is None else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
    return [
        str(row["cause_id"]),
        str(row["item_id"]),
        _number(row["naive"]),
        _number(row["adjusted"]),
        between,
    ]


def _measured(verdict: Mapping[str, Any]) -> str:
    if verdict["value"] is None:
        return NONE
    text = f"{verdict['value']:.4g}"
    text += "" if verdict["uncertainty"] is None else f" ± {verdict['uncertainty']:.2g}"
    return text + ("" if verdict["threshold"] is None else f", threshold {verdict['threshold']:g}")


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:+.3f}"


def _plain(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)
