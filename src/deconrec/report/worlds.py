"""Described worlds in words and tables: for the Markdown page and for the HTML page.

What is reported has no methods, no fits and no letters: rows are worlds, at the settings of their dials.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deconrec.experiments.results import Claimed, Compared, Contrast, Reproduction, Setting, Summary
from deconrec.report.figures import Figure, Panels
from deconrec.report.reading import (
    NONE,
    Reading,
    count,
    described,
    names,
    number,
    p_value,
    short,
)
from deconrec.report.world_pictures import STARS, inline_pictures

Row = dict[str, str]
FOUND = "What the paper says, and what came of it"
DECIMALS = {"users": 0, "items": 0, "exposures": 1}  # by the first part of a quantity's name; others have 3
GROUPS = {
    "Sizes and exposures": ("users", "items", "density", "exposures"),
    "Ratings before and after exposure": ("observed", "population", "shift"),
    "Each user's ratings before and after exposure": ("kl",),
    "How popular items are": ("popularity",),
}
RULES = {
    "Interval": "95 %, of the mean over freshly drawn worlds (Student's t). Real data are there once and have none.",
    "p, p (Holm)": "Two-sided p-value of a paired t-test over worlds: those of one seed share every draw but the dial. "
    "After Holm's correction for all contrasts of the claims.",
    "Claims": "Shown: every contrast is significant in the claim's favour after Holm's correction, at the 5 % level. "
    "Contradicted: one is significant against it.",
}


def world_sections(result: Reproduction) -> dict[str, Any]:
    """Headings with what stands under them: sentences, or rows; the order of the page."""
    reading = Reading(result)
    out: dict[str, Any] = {FOUND: [result.says, *result.verdict.says]}
    for heading, heads in GROUPS.items():
        metrics = [m for m in reading.metrics if m.partition("/")[0] in heads]
        if rows := quantity_rows(reading, metrics):
            out[heading] = rows
    if rows := paper_rows(result):
        out["Ours, the paper's, and the verdict"] = rows
    if result.verdict.claims:
        out["Claims of the paper, tested"] = [row for c in result.verdict.claims for row in claim_rows(c)]
    if result.missing:
        out["Not done"] = list(result.missing)
    return out


def quantity_rows(reading: Reading, metrics: list[str]) -> list[Row]:
    """One row a world and setting; the five shares of ratings stand in one cell, in per cent."""
    columns = [m for m in metrics if m.partition("/")[0] not in ("observed", "population")]
    shares = [w for w in ("observed", "population") if f"{w}/1" in metrics]
    rows = []
    for world in reading.methods:
        for setting in reading.settings:
            found = [reading.mean(world, m, setting) for m in metrics]
            if all(value is None for value in found):
                continue
            row: Row = {"world": world}
            if reading.dials:
                row["setting"] = reading.place(setting) if setting else NONE
            for which in shares:
                row[_SHARES[which]] = _percentages(reading, world, which, setting)
            for metric in columns:
                row[f"{metric} {_UNITS.get(metric, '')}".strip()] = _value(reading, world, metric, setting)
            rows.append(row)
    return rows


_SHARES = {"observed": "exposed pairs, % rated 1 to 5", "population": "all pairs, % rated 1 to 5"}
_UNITS = {"density": "(%)", "kl": "(nats)", "kl/random": "(nats)"}


def paper_rows(result: Reproduction) -> list[Row]:
    """One row a figure of the paper."""
    rows = []
    several = len({described(c.setting) for c in result.verdict.cells}) > 1
    for cell in result.verdict.cells:
        d = decimals(cell.metric)
        row: Row = {"world": cell.method}
        if several:
            row["setting"] = described(cell.setting)
        rows.append(
            row
            | {
                "quantity": cell.metric,
                "ours (95 % interval)": _with_interval(cell, d),
                "paper": f"{cell.paper:,g}",
                "tolerance": f"{cell.tolerance:g}",
                "verdict": cell.verdict,
            }
        )
    return rows


def claim_rows(claim: Claimed) -> list[Row]:
    """One row a contrast; the claim and its verdict on the first."""
    first = {"claim": claim.says, "verdict": claim.verdict}
    if not claim.contrasts:
        empty = dict.fromkeys(("world", "contrast", "difference", "95 % interval", "p (Holm)"), NONE)
        return [first | empty]
    rows = []
    d = decimals(claim.metric)
    for turn, c in enumerate(claim.contrasts):
        ends = NONE if c.low is None or c.high is None else _between(c.low, c.high, d, sign=True)
        rows.append(
            (first if turn == 0 else dict.fromkeys(first, ""))
            | {
                "world": ("" if turn else c.a) if c.a == c.b else f"{c.a} − {c.b}",
                "contrast": contrast(c, claim.metric),
                "difference": number(c.difference, d, sign=True),
                "95 % interval": ends,
                "p (Holm)": p_value(c.p_holm),
            }
        )
    return rows


def contrast(c: Contrast, metric: str) -> str:
    """What is subtracted from what, such as "shift, gamma_theta 0.3 − 0.1"."""
    moved = [n for n in c.setting_a | c.setting_b if c.setting_a.get(n) != c.setting_b.get(n)]
    still = {n: v for n, v in c.setting_a.items() if n not in moved}
    what = metric + (f" − {c.metric_b}" if c.metric_b and c.metric_b != metric else "")
    what += "".join(f", {n} {short(c.setting_a.get(n))} − {short(c.setting_b.get(n))}" for n in moved)
    return what + (f", {described(still)}" if still else "")


def decimals(metric: str) -> int:
    """Decimals that a quantity is shown with."""
    return DECIMALS.get(metric.partition("/")[0], 3)


def world_head(result: Reproduction) -> list[str]:
    """The lines of the Markdown page between its command and its pictures."""
    p = result.protocol
    lines = [
        f"- `{name}`: {r['users']:,} users x {r['items']:,} items, {r['rows']:,} exposed pairs"
        + ("" if r["simulated"] else ", real")
        + f" (fingerprint {r['fingerprint'][:12]})"
        for name, r in p["data"].items()
    ]
    about = f"{count(len(p['seeds']), 'seed')}: {p['world']}. The sizes are those of seed 0."
    return [*lines, "", about, ""]


def definitions(result: Reproduction) -> list[Row]:
    """One row a quantity: what it is."""
    return [{"quantity": name, "what it is": says} for name, says in result.protocol["definitions"].items()]


def world_page(result: Reproduction, title: str | None, keys: Iterator[str]) -> dict[str, Any]:
    """What the HTML page shows of worlds, but for the sections and the environment."""
    reading = Reading(result)
    figures = [Figure(svg, heading) for heading, svg in inline_pictures(result, keys)]
    said, _ = _said(result)
    return {
        "title": title or result.title,
        "dataset": result.dataset,
        "asked": "What was drawn, and how",
        "over": f"reproduce · {result.name}",
        "finding": said[0],
        "answer": said[1:],
        "tiles": _tiles(reading),
        "notes": list(result.protocol["notes"]),
        "facts": _facts(result, reading),
        "pictures": Panels(figures) if figures else None,
        "glossary": list(result.protocol["definitions"].items()),
        "rules": list(RULES.items()),
    }


def came_of_it(result: Reproduction) -> list[str]:
    """What stands under `FOUND` on the HTML page, whose head has the rest of the verdict."""
    return [result.says, *_said(result)[1]]


def _said(result: Reproduction) -> tuple[list[str], list[str]]:
    """The verdict's sentences: on the whole, and on single claims."""
    claims = [s for s in result.verdict.says if any(f"'{c.says}'" in s for c in result.verdict.claims)]
    return [s for s in result.verdict.says if s not in claims], claims


def _tiles(reading: Reading) -> list[tuple[str, str]]:
    worlds, seeds, settings = len(reading.methods), reading.seeds, len(reading.settings)
    tiles = [
        (f"{worlds:,}", "worlds" if worlds != 1 else "world"),
        (f"{seeds:,}", "seeds" if seeds != 1 else "seed"),
    ]
    return tiles + ([(f"{settings:,}", f"settings of {names(reading.dials)}")] if reading.dials else [])


def _facts(result: Reproduction, reading: Reading) -> list[tuple[str, list[str]]]:
    p = result.protocol
    worlds = [
        f"{name}: {r['users']:,} users x {r['items']:,} items, {r['rows']:,} exposed pairs"
        + ("" if r["simulated"] else ", real")
        for name, r in p["data"].items()
    ]
    facts = [("Worlds, on seed 0", worlds), ("Draws", [f"{count(len(p['seeds']), 'seed')}: {p['world']}"])]
    if reading.dials:
        facts.append(("Settings", [reading.place(s) for s in reading.settings]))
    if p["tolerance"]:
        facts.append(("Tolerance, declared beforehand", [described(p["tolerance"])]))
    return [*facts, ("Command", [p["command"]])]


def _value(reading: Reading, world: str, metric: str, setting: Setting) -> str:
    row = reading.summary(world, metric, setting)
    return NONE if row is None else _with_interval(row, decimals(metric))


def _with_interval(row: Summary | Compared, d: int) -> str:
    """The mean and its interval, which is left out where it shows nothing but the mean."""
    shown = [number(v, d) for v in (row.mean, row.low, row.high) if v is not None]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if len(set(shown)) > 1 else (shown or [NONE])[0]


def _percentages(reading: Reading, world: str, which: str, setting: Setting) -> str:
    means = [reading.mean(world, f"{which}/{r}", setting) for r in STARS]
    return NONE if None in means else " · ".join(number(100 * (m or 0.0), 1) for m in means)


def _between(low: float, high: float, d: int, sign: bool = False) -> str:
    return f"[{number(low, d, sign)}, {number(high, d, sign)}]"
