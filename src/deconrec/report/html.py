"""One HTML file that says what was compared, how, and what may be concluded; no network, no script.

The report reads the records of a comparison and nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from deconrec.experiments.results import Reproduction, Result, Setting, higher_is_better
from deconrec.report import figures, text
from deconrec.report.page import rendered, write_page
from deconrec.report.reading import (
    LIFTED,
    NONE,
    SEARCHED,
    Reading,
    count,
    described,
    half,
    interval,
    lift_rows,
    names,
    number,
    outcome,
    p_value,
    search_rows,
    seconds,
    span,
)
from deconrec.report.worlds import FOUND, came_of_it, world_page

MOST_ROWS = 600  # of one table of differences: what is left out stands in the JSON

_PROTOCOLS = {
    "pairs": "pairs: records of the unbiased log are cut into a training, a validation and a test part",
    "users": "users: test users were never trained on (strong generalisation)",
}
_SELECTS = {
    "biased": "biased: stopping and selection look at a hold-out of the biased log",
    "within-exposure": "within-exposure: stopping and selection look at how scores follow ratings among the "
    "held-out rows of one user",
    "unbiased": "unbiased: stopping and selection look at the unbiased validation part",
}
_TERMS = {
    "name": "Protocol",
    "world": "Data over seeds",
    "seeds": "Seeds",
    "split": "Split",
    "counts": "Rows of each part, first seed",
    "candidates": "Candidate sets",
    "select": "Stopping and selection",
    "binarize": "Outcome",
    "relevant": "Positives",
    "data": "Data",
}


@dataclass
class Cell:
    """A cell of a table; `told` is what a test says, for its colour."""

    text: str
    head: bool = False
    number: bool = False
    told: str = ""


@dataclass
class Grid:
    """A table with a heading, or what stands under a heading instead."""

    title: str
    head: list[str]
    rows: list[list[Cell]]
    note: str = ""


def render(result: Result, *, title: str | None = None, extra: Mapping[str, Any] | None = None) -> str:
    """The report of a comparison as one self-contained HTML page.

    Parameters
    ----------
    title: heading of the page; by default it names the data.
    extra: further sections by heading: a sentence, a list of sentences, or a list of rows (mappings of column
        to value), such as published values beside ours.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    return rendered("report.html", **_context(result, title, extra or {}))


def write_report(
    result: Result,
    path: str | Path,
    *,
    title: str | None = None,
    extra: Mapping[str, Any] | None = None,
    pictures: str | Path | None = None,
) -> Path:
    """Write the report of a comparison, and its figures as files where `pictures` names a folder; gives its path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    return write_page(lambda: render(result, title=title, extra=extra), path, pictures)


# ------------------------------------------------------------------------------------------- context
def _context(result: Result, title: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    keys = (f"f{n}" for n in range(1, 10_000))
    if isinstance(result, Reproduction) and result.kind == "worlds":
        sections = dict(extra) | ({FOUND: came_of_it(result)} if FOUND in extra else {})
        return _EMPTY | world_page(result, title, keys) | _rest(result, sections, capital=False)
    reading = Reading(result)
    said = text.sentences(reading)
    searched = search_rows(result)
    lifted = lift_rows(result, reading)
    sections = dict(extra) | ({LIFTED: lifted} if lifted else {}) | ({SEARCHED: searched} if searched else {})
    return {
        "title": title or f"Comparison on {result.dataset.partition(':')[0]}",
        "dataset": result.dataset,
        "over": f"{'reproduce' if isinstance(result, Reproduction) else 'compare'} · {result.dataset}",
        "asked": "What was compared, and how",
        "finding": said[0],
        "answer": said[1:],
        "tiles": _tiles(reading),
        "notes": _strings(result.protocol.get("notes")),
        "facts": _facts(reading),
        "boards": [_boards(reading, setting) for setting in reading.settings],
        "has_letters": any(reading.letters(m, x) for m in reading.methods for x in reading.metrics),
        "has_intervals": any(half(row) is not None for row in result.summary),
        "headline": reading.headline,
        "forests": figures.means(reading, keys),
        "first_setting": _place(reading, reading.settings[0]),
        "differences": _differences(reading),
        "sweeps": figures.sweeps(reading, keys),
        "dials": names(reading.dials) if reading.dials else "",
        "curves": figures.curves(reading, keys),
        "distribution": figures.distribution(result, keys),
        "truth": figures.truth(reading, keys),
        "pictures": None,
        "parameters": [(method, _parameters(reading, method)) for method in reading.methods],
        "glossary": text.glossary(reading.metrics),
        "rules": list(text.RULES.items()),
        "skipped": _skipped(result),
        **_rest(result, sections),
    }


# What a page of worlds has none of.
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("headline", "forests", "sweeps", "curves", "distribution", "truth")),
    **dict.fromkeys(("first_setting", "dials"), ""),
    **{"boards": [], "differences": [], "parameters": [], "skipped": []},
    **dict.fromkeys(("has_letters", "has_intervals"), False),
}


def _rest(result: Result, sections: Mapping[str, Any], capital: bool = True) -> dict[str, Any]:
    """What every page has: further sections, and the environment; `capital`: of the first letter of columns."""
    return {
        "extras": [(heading, _section(heading, content, capital)) for heading, content in sections.items()],
        "environment": [(_term(name), _plain(value)) for name, value in result.environment.items()],
    }


def _tiles(reading: Reading) -> list[tuple[str, str]]:
    """The comparison at a glance: (number, what it counts)."""
    tests = [t for t in reading.result.tests if t.metric == reading.headline and t.p is not None]
    tiles = [
        (f"{len(reading.methods):,}", "method" if len(reading.methods) == 1 else "methods"),
        (f"{reading.seeds:,}", "seed" if reading.seeds == 1 else "seeds"),
    ]
    if len(reading.settings) > 1:
        tiles.append((f"{len(reading.settings):,}", f"settings of {names(reading.dials)}"))
    counts = reading.result.protocol.get("counts")
    rows = counts.get("test") if isinstance(counts, Mapping) else None
    if isinstance(rows, int):
        tiles.append((f"{rows:,}", "test rows, first seed"))
    for unit in dict.fromkeys(t.unit for t in tests):
        tiles.append((span([t.n for t in tests if t.unit == unit]), f"{unit}s in the test"))
    return tiles


def _facts(reading: Reading) -> list[tuple[str, list[str]]]:
    """What was compared and how, as (term, lines)."""
    protocol = dict(reading.result.protocol)
    facts = [("Data set", [reading.result.dataset])]
    for key in [*(k for k in _TERMS if k in protocol), *(k for k in protocol if k not in _TERMS)]:
        if key not in ("notes", "searched") and protocol[key] not in (None, {}, []):
            facts.append((_TERMS.get(key, _term(key)), _fact(key, protocol[key])))
    if "seeds" not in protocol:
        facts.append(("Seeds", [_seeds(sorted({r.seed for r in reading.result.runs}))]))
    if reading.dials:
        facts.append(("Settings", [reading.place(s) for s in reading.settings]))
        if reading.still:
            facts.append(("In all settings", [described(reading.still)]))
    used: dict[str, list[str]] = {}
    for method in reading.methods:
        used.setdefault(span([r.unbiased_rows for r in reading.runs(method)]), []).append(method)
    facts.append(("Unbiased rows used", [f"{rows}: {', '.join(methods)}" for rows, methods in used.items()]))
    return facts


def _fact(key: str, value: Any) -> list[str]:
    if key == "name":
        return [_PROTOCOLS.get(str(value), str(value))]
    if key == "select":
        return [_SELECTS.get(str(value), str(value))]
    if key == "binarize":
        return [f"1 where the rating is at least {_plain(value)}, else 0"]
    if key == "relevant":
        return [f"a rating of at least {_plain(value)}"]
    if key == "seeds" and isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
        return [_seeds(value)]
    if isinstance(value, Mapping):
        lines = [f"{_term(k, capital=False)}: {_plain(v, grouped=True)}" for k, v in value.items()]
        return [" · ".join(lines)] if sum(map(len, lines)) < 160 else lines
    return [_plain(value, grouped=True)]


def _seeds(seeds: Sequence[int]) -> str:
    run = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))) if seeds else False
    shown = f"{seeds[0]} to {seeds[-1]}" if run and len(seeds) > 2 else ", ".join(map(str, seeds))
    return f"{len(seeds):,} ({shown})" if seeds else NONE


def _place(reading: Reading, setting: Setting) -> str:
    """The setting in words, or "" where there is but one."""
    return reading.place(setting) if len(reading.settings) > 1 else ""


def _boards(reading: Reading, setting: Setting) -> dict[str, Any]:
    """The leaderboards of one setting: plain metrics, the twins with the leaked pairs kept, and the truth."""
    main, leaked, truth = (reading.group(kind) for kind in (None, "leaked", "truth"))
    return {
        "setting": _place(reading, setting),
        "main": _board(reading, setting, main) if main else None,
        "leaked": _board(reading, setting, leaked) if leaked else None,
        "truth": _board(reading, setting, truth) if truth else None,
    }


def _board(reading: Reading, setting: Setting, metrics: Sequence[str]) -> dict[str, Any]:
    """Methods x metrics with mean, interval, letters and whether it is the best."""
    rows = []
    for method in reading.order(reading.headline, setting):
        cells = []
        for metric in metrics:
            summary, d = reading.summary(method, metric, setting), reading.digits(metric)
            mean = summary.mean if summary else None
            cells.append(
                {
                    "mean": number(mean, d),
                    "interval": interval(summary, d).strip(NONE),
                    "letters": reading.letters(method, metric) if mean is not None else "",
                    "best": mean is not None and mean == reading.best(metric, setting),
                }
            )
        runs = reading.runs(method, setting)
        rows.append(
            {
                "method": method,
                "baseline": method == reading.baseline and len(reading.methods) > 1,
                "cells": cells,
                "seconds": seconds(runs),
                "rows": span([r.unbiased_rows for r in runs]),
            }
        )
    direction = {True: "higher", False: "lower"}
    columns = [(*metric.partition("/"), direction[higher_is_better(metric)]) for metric in metrics]
    return {"columns": columns, "rows": rows}


# -------------------------------------------------------------------------------------------- tables
def _differences(reading: Reading) -> list[Grid]:
    """Tests against the baseline on the headline metric; then those on the others; then all other pairs."""
    baseline, headline = reading.baseline, reading.headline
    if baseline is None or headline is None:
        return []
    first = reading.settings[0]
    place = f" at {reading.place(first)}" if len(reading.settings) > 1 else ""
    titles = [
        f"{headline}, against {baseline}{place}",
        f"{headline}, against {baseline}, other settings",
        f"Other metrics, against {baseline}",
        "Other pairs of methods",
    ]
    asked: list[list[tuple[str, str, str, Setting]]] = [[] for _ in titles]
    for metric in sorted(reading.metrics, key=lambda m: m != headline):
        for setting in reading.settings:
            ranked = [m for m in reading.order(metric, setting) if m != baseline]
            turn = 2 if metric != headline else 0 if setting == first else 1
            asked[turn] += [(m, baseline, metric, setting) for m in ranked]
            asked[3] += [(a, b, metric, setting) for a, b in combinations(ranked, 2)]
    tables = [_difference_table(reading, title, pairs) for title, pairs in zip(titles, asked, strict=True)]
    return [table for table in tables if table.rows]


def _difference_table(reading: Reading, title: str, asked: Sequence[tuple[str, str, str, Setting]]) -> Grid:
    found = [t for key in asked if (t := reading.test(*key)) is not None]
    metrics, settings = {t.metric for t in found}, {described(t.setting) for t in found}
    sized = any(t.effect_size is not None for t in found)
    head = ["Methods", *["Metric"] * (len(metrics) > 1), *["Setting"] * (len(settings) > 1), "Difference"]
    head += ["95 % interval", "p", "p (Holm)", "", *["Effect size"] * sized]
    kinds = {(t.test, f"{t.unit} ({t.n:,})") for t in found}
    head += ["Test", "Unit (n)"] * (len(kinds) > 1)
    rows = []
    for t in found[:MOST_ROWS]:
        told, d = outcome(t), reading.difference_digits(t.metric)
        cells = [Cell(f"{t.a} − {t.b}", head=True)]
        cells += [Cell(t.metric)] if len(metrics) > 1 else []
        cells += [Cell(reading.place(t.setting))] if len(settings) > 1 else []
        values = [number(t.difference, d, sign=True), interval(t, d, sign=True), p_value(t.p)]
        cells += [Cell(value, number=True) for value in [*values, p_value(t.p_holm)]]
        cells.append(Cell(_TOLD[told], told=told))
        cells += [Cell(number(t.effect_size, 2, sign=True), number=True)] if sized else []
        rows.append(cells + [Cell(t.test), Cell(f"{t.unit} ({t.n:,})")] * (len(kinds) > 1))
    note = "".join(f"Test: {test}. Unit (n): {unit}. " for test, unit in kinds) if len(kinds) == 1 else ""
    left = len(found) - MOST_ROWS
    return Grid(title, head, rows, note + (f"{left:,} further rows stand in the JSON." if left > 0 else ""))


_TOLD = {"better": "▲ better", "worse": "▼ worse", "open": "no difference shown", "untested": "not tested"}


def _parameters(reading: Reading, method: str) -> list[tuple[str, str]]:
    """Parameters of a method; where runs differ (tuned), every value with its number of runs."""
    runs = reading.runs(method)
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run.params):
        seen = Counter(_plain(run.params[name]) if name in run.params else NONE for run in runs)
        if len(seen) == 1:
            shown = next(iter(seen))
        else:
            shown = "; ".join(f"{value} ({count(n, 'run')})" for value, n in seen.most_common())
        rows.append((name, shown))
    return rows


def _skipped(result: Result) -> list[tuple[str, str]]:
    """Users left out by metric, as least to most over runs."""
    counts: dict[str, list[int]] = {}
    for run in result.runs:
        for metric, n in run.skipped_users.items():
            counts.setdefault(metric, []).append(n)
    return [(metric, span(each)) for metric, each in counts.items()]


def _section(heading: str, content: Any, capital: bool) -> Grid | list[str]:
    """A section handed in from outside: rows become a table, anything else sentences."""
    if isinstance(content, list | tuple) and content and all(isinstance(row, Mapping) for row in content):
        head = list(dict.fromkeys(name for row in content for name in row))
        rows = [
            [
                Cell(_plain(row.get(n)), at == 0, at > 0 and _is_number(row.get(n)))
                for at, n in enumerate(head)
            ]
            for row in content
        ]
        return Grid(heading, [_term(name, capital) for name in head], rows)
    return _strings(content)


def _strings(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return [_plain(value)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _term(name: str, capital: bool = True) -> str:
    words = str(name).replace("_", " ")
    return words[:1].upper() + words[1:] if capital else words


def _plain(value: Any, grouped: bool = False) -> str:
    """Any value of a record as a reader would write it; `grouped`: thousands are set apart."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if grouped else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v, grouped)}" for k, v in value.items()) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v, grouped) for v in value) or NONE
    return value if isinstance(value, str) else json.dumps(value, default=str)
