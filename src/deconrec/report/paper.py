"""A reproduction as tables "ours | paper | verdict": rows for the HTML report, and a Markdown page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deconrec.data.writing import write_file
from deconrec.evaluation.statistics import holm
from deconrec.experiments.results import Compared, Contrast, Reproduction, Setting
from deconrec.records import finite
from deconrec.report.reading import (
    LIFTED,
    NONE,
    SEARCHED,
    Reading,
    described,
    interval,
    lift_rows,
    number,
    p_value,
    search_rows,
    seconds,
    span,
)
from deconrec.report.worlds import FOUND, definitions, world_head, world_sections

Row = dict[str, str]
_LEAKED = "/leaked"
DIGITS = 3  # of the papers' figures
FLOORS = ("mf", "mf-combined")  # what every method has to beat


def sections(result: Reproduction) -> dict[str, Any]:
    """Headings with what stands under them: sentences, or rows; the order of the page."""
    if result.kind == "worlds":
        return world_sections(result)
    out: dict[str, Any] = {FOUND: [result.says, *result.verdict.says]}
    reading = Reading(result)
    for metric in [*reading.group(None), *reading.group("truth")]:
        if rows := metric_rows(result, reading, metric):
            out[f"{metric}: ours, the paper's, and the verdict"] = rows
    if rows := lift_rows(result, reading):
        out[LIFTED] = rows
    for floor in FLOORS:
        if rows := floor_rows(reading, floor):
            out[f"Every method against {floor}"] = rows
    if result.verdict.claims:
        out["Claims of the paper, tested"] = claim_rows(result, reading)
    if searched := search_rows(result):
        out[SEARCHED] = searched
    if result.missing:
        out["Not done"] = list(result.missing)
    return out


def metric_rows(result: Reproduction, reading: Reading, metric: str) -> list[Row]:
    """One row a method and setting: leak-free and leaked values side by side, best first by the headline metric."""
    cells = {(c.method, c.metric, described(c.setting)): c for c in result.verdict.cells}
    leaked = metric + _LEAKED
    twins = leaked in reading.metrics
    judged = any(c.metric == metric for c in result.verdict.cells)
    rows = []
    for setting in reading.settings:
        for method in reading.order(reading.headline, setting):
            row: Row = {"setting": reading.place(setting)} if len(reading.settings) > 1 else {}
            row["method"] = method
            row["ours (95 % interval)"] = _ours(reading, method, metric, setting)
            if twins:
                row["ours, leaked pairs kept"] = _ours(reading, method, leaked, setting)
            if judged:
                cell = cells.get((method, metric, described(setting)))
                row["paper"] = NONE if cell is None else f"{cell.paper:.3f}"
                row["verdict"] = _word(cell)
                if twins:
                    row["verdict, leaked"] = _word(cells.get((method, leaked, described(setting))))
            runs = reading.runs(method, setting)
            row["unbiased rows"] = span([r.unbiased_rows for r in runs])
            row["s / fit"] = seconds(runs)
            rows.append(row)
    return rows


def write_digest(result: Reproduction, path: str | Path) -> Path:
    """Means, intervals, tests against the floors and verdicts as JSON: what pages quote, without the single runs."""
    record = finite(result.model_dump())
    keep = ("name", "title", "dataset", "protocol", "summary", "paper", "verdict", "missing", "environment")
    digest = {name: record[name] for name in keep}
    digest["tests"] = [t for t in record["tests"] if t["a"] in FLOORS or t["b"] in FLOORS]
    write_file(path, json.dumps(digest, separators=(",", ":"), allow_nan=False) + "\n")
    return Path(path)


def floor_rows(reading: Reading, floor: str) -> list[Row]:
    """One row a method and setting: its paired difference to a floor in the headline metric.

    Holm's correction is over the methods and settings of this table: its question is who beats the floor.
    """
    if floor not in reading.methods or reading.headline is None:
        return []
    metric, d = reading.headline, max(DIGITS, reading.difference_digits(reading.headline))
    found = [
        (method, setting, test)
        for setting in reading.settings
        for method in reading.order(metric, setting)
        if method != floor and (test := reading.test(method, floor, metric, setting)) is not None
    ]
    known = [t.p for _, _, t in found if t.p is not None]
    corrected: Iterator[float] = iter(holm(known) if known else [])
    rows = []
    for method, setting, test in found:
        row: Row = {"setting": reading.place(setting)} if len(reading.settings) > 1 else {}
        p = None if test.p is None else float(next(corrected))
        row |= {
            "method": method,
            f"{metric} minus that of {floor} (95 % interval)": f"{number(test.difference, d, sign=True)} "
            + interval(test, d, sign=True),
            "p (Holm)": p_value(p),
        }
        rows.append(row)
    return rows


def claim_rows(result: Reproduction, reading: Reading) -> list[Row]:
    """One row a contrast; the claim and its verdict on the first."""
    rows = []
    for claim in result.verdict.claims:
        d = max(DIGITS, reading.difference_digits(claim.metric))
        first = {"claim": claim.says, "metric": claim.metric, "verdict": claim.verdict}
        if not claim.contrasts:
            rows.append(
                first | {"contrast": NONE, "difference": NONE, "95 % interval": NONE, "p (Holm)": NONE}
            )
        for turn, c in enumerate(claim.contrasts):
            told = [n for n in c.setting_a | c.setting_b if n in reading.dials or _moved(c, n)]
            places = [
                described(part) if (part := {n: v for n, v in s.items() if n in told}) else ""
                for s in (c.setting_a, c.setting_b)
            ]
            a, b = (f"{m} ({p})" if p else m for m, p in zip((c.a, c.b), places, strict=True))
            between = NONE
            if c.low is not None and c.high is not None:
                between = f"[{number(c.low, d, True)}, {number(c.high, d, True)}]"
            rows.append(
                (first if turn == 0 else dict.fromkeys(first, ""))
                | {
                    "contrast": f"{a} − {b}",
                    "difference": number(c.difference, d, sign=True),
                    "95 % interval": between,
                    "p (Holm)": p_value(c.p_holm),
                }
            )
    return rows


def _moved(contrast: Contrast, dial: str) -> bool:
    return contrast.setting_a.get(dial) != contrast.setting_b.get(dial)


def markdown(result: Reproduction, pictures: Sequence[str] = ()) -> str:
    """The page that stands beside the results; `pictures` are paths of images, relative to it."""
    p = result.protocol
    lines = [f"# {result.title}", "", f"`{p['command']}`", ""]
    lines += world_head(result) if result.kind == "worlds" else _head(result)
    for path in pictures:
        lines += [f"![{Path(path).stem}]({path})", ""]
    tables = sections(result) | (
        {"What the quantities are": definitions(result)} if result.kind == "worlds" else {}
    )
    for heading, content in tables.items():
        lines += [f"## {heading}", ""]
        if content and isinstance(content[0], Mapping):
            lines += [*_table(content), ""]
        else:
            lines += [*(f"- {sentence}" for sentence in content), ""]
    notes = [f"- {note}" for note in p["notes"]]
    return "\n".join([*lines, *(["## Notes", "", *notes] if notes else [])]).rstrip() + "\n"


def _head(result: Reproduction) -> list[str]:
    """The lines between the command and the pictures."""
    p, data = result.protocol, result.protocol["data"]
    return [
        f"Data: {data['name']}, {data['users']:,} users x {data['items']:,} items, {data['rows']:,} biased and "
        f"{data['unbiased_rows']:,} unbiased rows (fingerprint {data['fingerprint'][:12]}). {len(p['seeds'])} seeds "
        f"({p['world']}), selection on the {p['select']} hold-out, "
        + (f"{p['trials']} trials a search." if p["trials"] else "the methods' default parameters."),
        "",
        *([f"In all settings: {described(still)}.", ""] if (still := Reading(result).still) else []),
    ]


def write_markdown(result: Reproduction, path: str | Path, pictures: Sequence[str] = ()) -> Path:
    """Write the page, whole at the end.

    Raises
    ------
    FileError: the file cannot be written.
    """
    write_file(path, markdown(result, pictures))
    return Path(path)


def _ours(reading: Reading, method: str, metric: str, setting: Setting) -> str:
    row, d = reading.summary(method, metric, setting), max(DIGITS, reading.digits(metric))
    if row is None or row.mean is None:
        return NONE
    between = interval(row, d)
    return number(row.mean, d) + ("" if between == NONE else f" {between}")


def _word(cell: Compared | None) -> str:
    return NONE if cell is None else cell.verdict


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    head = list(dict.fromkeys(name for row in rows for name in row))

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [
        line(head),
        line(["---"] * len(head)),
        *(line([row.get(name, "") for name in head]) for row in rows),
    ]
