"""One HTML file that says what was compared, how, and what may be concluded; it needs no network and no script.

The report reads the records of a comparison and nothing else. Every name in it comes from a user, so the template
escapes everything but the figures, whose text is escaped where they are drawn.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from deconrec.data.files import write_file
from deconrec.errors import MissingExtra
from deconrec.experiments.results import Result, Setting, higher_is_better
from deconrec.report import plots, text
from deconrec.report.text import NONE, Reading, number

MOST_ROWS = 600  # of one table of differences: what is left out stands in the JSON
MOST_PANELS = 4  # metrics that get a figure of their own

_PROTOCOLS = {
    "pairs": "pairs: records of the unbiased log are cut into a training, a validation and a test part",
    "users": "users: test users were never trained on (strong generalisation)",
}
_SELECTS = {
    "biased": "biased: stopping and selection look at a hold-out of the biased log",
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
class Figure:
    """A figure of the page: the SVG, the sentence under it, and what its colours mean."""

    svg: str
    caption: str
    title: str = ""
    legend: list[tuple[str, str]] = field(default_factory=list)  # (class or SVG, name)


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
    extra: further sections by heading: a sentence, a list of sentences, or a list of rows (mappings of column to
        value), such as published values beside ours.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "report", "the HTML report") from error

    page = resources.files("deconrec.report") / "templates" / "report.html"
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["svg"] = _svg
    environment.tests["table"] = lambda section: isinstance(section, Grid)
    return environment.from_string(page.read_text(encoding="utf-8")).render(_context(result, title, extra or {}))


def write_report(result: Result, path: str | Path, *, title: str | None = None) -> Path:
    """Writes the report of a comparison to a file, whole at the end, and gives the file's path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: the file cannot be written.
    """
    write_file(path, render(result, title=title))
    return Path(path)


def _svg(figure: str) -> Any:
    """A figure as it is, and not as text: the plots escape every name that they draw."""
    from markupsafe import Markup

    return Markup(figure)


# ------------------------------------------------------------------------------------------- context
def _context(result: Result, title: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    reading = Reading(result)
    said = text.sentences(reading)
    keys = (f"f{n}" for n in range(1, 10_000))
    several = len(reading.settings) > 1
    return {
        "title": title or f"Comparison on {result.dataset}",
        "dataset": result.dataset,
        "finding": said[0],
        "limits": said[1:],
        "tiles": _tiles(reading),
        "notes": _strings(result.protocol.get("notes")),
        "facts": _facts(reading),
        "boards": [_boards(reading, setting, several) for setting in reading.settings],
        "has_letters": any(reading.letters(m, x) for m in reading.methods for x in reading.metrics),
        "headline": reading.headline,
        "forests": _forests(reading, reading.settings[0], keys),
        "first_setting": text.described(reading.settings[0]) if several else "",
        "differences": _differences(reading),
        "sweeps": _sweeps(reading, keys),
        "dials": text.names(reading.dials) if reading.dials else "",
        "curves": _curves(reading, keys),
        "distribution": _distribution(result, keys),
        "truth": _truth(reading, keys),
        "extras": [(heading, _section(heading, content)) for heading, content in extra.items()],
        "parameters": [(method, _parameters(reading, method)) for method in reading.methods],
        "environment": [(_term(name), _plain(value)) for name, value in result.environment.items()],
        "glossary": [(metric, text.meaning(metric)) for metric in reading.metrics],
        "rules": list(text.RULES.items()),
        "skipped": _skipped(result),
    }


def _tiles(reading: Reading) -> list[tuple[str, str]]:
    """The comparison at a glance: (number, what it counts)."""
    tests = [t for t in reading.result.tests if t.metric == reading.headline and t.p is not None]
    tiles = [
        (f"{len(reading.methods):,}", "method" if len(reading.methods) == 1 else "methods"),
        (f"{reading.seeds():,}", "seed" if reading.seeds() == 1 else "seeds"),
    ]
    if len(reading.settings) > 1:
        tiles.append((f"{len(reading.settings):,}", f"settings of {text.names(reading.dials)}"))
    counts = reading.result.protocol.get("counts")
    rows = counts.get("test") if isinstance(counts, Mapping) else None
    if isinstance(rows, int):
        tiles.append((f"{rows:,}", "test rows, first seed"))
    units = dict.fromkeys(t.unit for t in tests)
    if units:
        tiles.append((text.names(list(units)), "unit of the test"))
    return tiles


def _facts(reading: Reading) -> list[tuple[str, list[str]]]:
    """What was compared and how, as (term, lines)."""
    protocol = dict(reading.result.protocol)
    facts = [("Data set", [reading.result.dataset])]
    for key in [*(k for k in _TERMS if k in protocol), *(k for k in protocol if k not in _TERMS)]:
        if key != "notes":
            facts.append((_TERMS.get(key, _term(key)), _fact(key, protocol[key])))
    if "seeds" not in protocol:
        facts.append(("Seeds", [_seeds(sorted({r.seed for r in reading.result.runs}))]))
    if reading.dials:
        facts.append(("Settings", [text.described(s) for s in reading.settings]))
    used: dict[str, list[str]] = {}
    for method in reading.methods:
        used.setdefault(text.span([r.unbiased_rows for r in reading.runs(method)]), []).append(method)
    facts.append(("Unbiased rows used", [f"{rows}: {', '.join(methods)}" for rows, methods in used.items()]))
    return facts


def _fact(key: str, value: Any) -> list[str]:
    if key == "name":
        return [_PROTOCOLS.get(str(value), str(value))]
    if key == "select":
        return [_SELECTS.get(str(value), str(value))]
    if key == "binarize":
        return ["ratings as they are" if value is None else f"1 where the rating is at least {_plain(value)}, else 0"]
    if key == "relevant":
        return [NONE if value is None else f"a rating of at least {_plain(value)}"]
    if key == "seeds" and isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
        return [_seeds(value)]
    if isinstance(value, Mapping):
        return [f"{_term(k, capital=False)}: {_plain(v)}" for k, v in value.items()] or [NONE]
    return [_plain(value)]


def _seeds(seeds: Sequence[int]) -> str:
    run = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))) if seeds else False
    shown = f"{seeds[0]} to {seeds[-1]}" if run and len(seeds) > 2 else ", ".join(map(str, seeds))
    return f"{len(seeds):,} ({shown})" if seeds else NONE


def _boards(reading: Reading, setting: Setting, several: bool) -> dict[str, Any]:
    """The leaderboards of one setting: plain metrics, then the twins with the leaked pairs kept."""
    main = reading.group(None) or reading.metrics
    boards = [_board(reading, setting, main)]
    leaked = reading.group("leaked")
    return {
        "setting": text.described(setting) if several else "",
        "main": boards[0],
        "leaked": _board(reading, setting, leaked) if leaked and main != leaked else None,
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
                    "interval": text.interval(summary, d) if mean is not None else "",
                    "letters": reading.letters(method, metric),
                    "best": mean is not None and mean == reading.best(metric, setting),
                }
            )
        runs = reading.runs(method, setting)
        rows.append(
            {
                "method": method,
                "baseline": method == reading.baseline and len(reading.methods) > 1,
                "cells": cells,
                "seconds": text.seconds(runs),
                "rows": text.span([r.unbiased_rows for r in runs]),
            }
        )
    columns = [(*metric.partition("/"), "higher" if higher_is_better(metric) else "lower") for metric in metrics]
    return {"columns": columns, "rows": rows}


# ------------------------------------------------------------------------------------------- figures
def _forests(reading: Reading, setting: Setting, keys: Iterable[str]) -> list[Figure]:
    """Means of the first metrics, and the paired differences of the headline metric from the baseline."""
    valued = [m for m in reading.group(None) if any(reading.mean(x, m, setting) is not None for x in reading.methods)]
    figures = [_forest(reading, metric, setting, keys) for metric in valued[:MOST_PANELS]]
    if figures and reading.headline in valued and reading.baseline is not None:
        difference = _difference_forest(reading, reading.headline, reading.baseline, setting, keys)
        figures[1:1] = [difference] if difference else []
    return figures


def _forest(reading: Reading, metric: str, setting: Setting, keys: Iterable[str]) -> Figure:
    rows, d = [], reading.digits(metric)
    baseline = reading.baseline
    twin = f"{metric}/leaked"
    for method in reading.order(metric, setting):
        summary = reading.summary(method, metric, setting)
        rows.append(
            plots.Row(
                method,
                summary.mean if summary else None,
                summary.low if summary else None,
                summary.high if summary else None,
                number(summary.mean if summary else None, d),
                _mark(reading, method, metric, setting),
                reading.mean(method, twin, setting),
            )
        )
    direction = "higher is better →" if higher_is_better(metric) else "← lower is better"
    reference = reading.mean(baseline, metric, setting) if baseline and len(rows) > 1 else None
    alt = f"{metric} of {text.count(len(rows), 'method')} with 95 % intervals: " + "; ".join(
        f"{r.label} {r.shown}" for r in rows
    )
    legend = _mark_legend(rows)
    if any(r.twin is not None for r in rows):
        legend.append(("mark-twin", "with the leaked pairs kept"))
    caption = "Mean over seeds, 95 % interval." + (f" Dashed: {baseline}." if reference is not None else "")
    svg = plots.forest(_next(keys), alt, rows, f"{metric}   ({direction})", reference)
    return Figure(svg, caption, metric, legend)


def _difference_forest(
    reading: Reading, metric: str, baseline: str, setting: Setting, keys: Iterable[str]
) -> Figure | None:
    found = [(m, reading.test(m, baseline, metric, setting)) for m in reading.order(metric, setting) if m != baseline]
    tests = [(m, t) for m, t in found if t is not None and t.difference is not None]
    if not tests:
        return None
    d = text.digits([text.half(t) for _, t in tests], max(abs(t.difference or 0.0) for _, t in tests))
    rows = [
        plots.Row(
            method,
            test.difference,
            test.low,
            test.high,
            f"{number(test.difference, d, sign=True)}   p {text.p_value(test.p_holm)}",
            _mark(reading, method, metric, setting),
        )
        for method, test in tests
    ]
    alt = f"Difference of {metric} from {baseline} with 95 % intervals: " + "; ".join(
        f"{r.label} {r.shown}" for r in rows
    )
    svg = plots.forest(_next(keys), alt, rows, f"difference of {metric} from {baseline}", 0.0)
    caption = "Paired difference, 95 % interval before correction; p after Holm's correction. Dashed: no difference."
    return Figure(svg, caption, f"{metric}: difference from {baseline}", _mark_legend(rows))


def _mark(reading: Reading, method: str, metric: str, setting: Setting) -> plots.Mark:
    if reading.baseline is None or len(reading.methods) == 1:
        return "plain"
    if method == reading.baseline:
        return "baseline"
    told = reading.outcome(method, reading.baseline, metric, setting)
    return told if told in ("better", "worse") else "plain"  # type: ignore[return-value]


def _mark_legend(rows: Sequence[plots.Row]) -> list[tuple[str, str]]:
    words = {
        "better": "significantly better than the baseline",
        "worse": "significantly worse",
        "plain": "no difference shown" if len(rows) > 1 else "mean",
        "baseline": "baseline",
    }
    return [(f"mark-{mark}", word) for mark, word in words.items() if any(r.mark == mark for r in rows)]


def _truth(reading: Reading, keys: Iterable[str]) -> dict[str, Any] | None:
    """Figures and table of the metrics against a simulator's truth."""
    setting = reading.settings[0]
    metrics = [m for m in reading.group("truth") if any(reading.mean(x, m, setting) is not None for x in reading.methods)]
    if not metrics:
        return None
    figures = [_forest(reading, metric, setting, keys) for metric in metrics[: MOST_PANELS + 2]]
    several = len(reading.settings) > 1
    boards = [(text.described(s) if several else "", _board(reading, s, metrics)) for s in reading.settings]
    return {"figures": figures, "boards": boards}


def _sweeps(reading: Reading, keys: Iterable[str]) -> list[Figure]:
    """The first metrics, and those against the truth, over the settings."""
    if len(reading.settings) < 2:
        return []
    dials = reading.dials
    order: list[Any]
    if len(dials) == 1 and plots._numeric([s.get(dials[0]) for s in reading.settings]):
        settings = sorted(reading.settings, key=lambda s: s[dials[0]])
        order = [s[dials[0]] for s in settings]
    else:
        settings = reading.settings
        order = [", ".join(_plain(s.get(d)) for d in dials) for s in settings]
    chosen = [m for m in reading.group(None)[:MOST_PANELS] + reading.group("truth")[:2]]
    legend = [(plots.swatch(_next(keys), turn), method) for turn, method in enumerate(reading.methods)]
    figures = []
    for metric in chosen:
        rows = {m: [reading.summary(m, metric, s) for s in settings] for m in reading.methods}
        lines = [
            plots.Line(
                m,
                [s.mean if s else None for s in each],
                [s.low if s else None for s in each],
                [s.high if s else None for s in each],
            )
            for m, each in rows.items()
        ]
        if not any(v is not None for line in lines for v in line.means):
            continue
        where = ", ".join(dials)
        alt = f"{metric} of {text.count(len(lines), 'method')} over {len(settings)} settings of {where}"
        better = "higher is better" if higher_is_better(metric) else "lower is better"
        svg = plots.sweep(_next(keys), alt, order, lines, where, f"{metric} ({better})")
        figures.append(Figure(svg, "Mean over seeds; the band is the 95 % interval.", metric, legend))
        legend = []
    return figures


def _curves(reading: Reading, keys: Iterable[str]) -> list[Figure]:
    """Validation score by epoch, one panel a method, on the first setting."""
    figures = []
    for turn, method in enumerate(reading.methods):
        runs = [r for r in reading.runs(method, reading.settings[0]) if any(s is not None for s in r.history.get("score", []))]
        if not runs:
            continue
        seeds = [plots.Curve(r.history["score"], r.best_epoch) for r in runs]
        kept = [r.best_epoch for r in runs if r.best_epoch is not None]
        caption = f"Kept epoch: {text.span(kept)}." if kept else ""
        alt = f"Validation score of {method} by epoch over {text.count(len(runs), 'seed')}. {caption}".strip()
        figures.append(Figure(plots.curves(_next(keys), alt, seeds, turn), caption, method))
    return figures


def _distribution(result: Result, keys: Iterable[str]) -> Figure | None:
    """Observed, unbiased and true shares of every outcome."""
    found = result.distribution
    if found is None or not found.values:
        return None
    named = [("biased log", found.biased, "warm"), ("unbiased log", found.unbiased, "accent"), ("truth", found.truth, "ink")]
    shown = [(name, share, colour) for name, share, colour in named if share]
    colours = ("warm", "accent", "ink")  # in the order in which the figure takes them
    alt = "Share of every outcome: " + "; ".join(
        f"{name} " + ", ".join(f"{v:g} {plots._percent(s)}" for v, s in zip(found.values, share, strict=True))
        for name, share, _ in shown
    )
    svg = plots.distribution(_next(keys), alt[:2000], found.values, [(name, share) for name, share, _ in shown])
    legend = [(f"fill-{colours[turn]}", name) for turn, (name, _, _) in enumerate(shown)]
    return Figure(svg, "Share of every outcome among the rows of each log.", "", legend)


def _next(keys: Iterable[str]) -> str:
    return next(iter(keys))


# -------------------------------------------------------------------------------------------- tables
def _differences(reading: Reading) -> dict[str, Any]:
    """Tests against the baseline on the headline metric, then on the others, then all other pairs."""
    baseline, headline = reading.baseline, reading.headline
    if baseline is None or not reading.result.tests:
        return {"main": None, "more": []}
    main, other, rest = [], [], []
    ordered = sorted(reading.metrics, key=lambda m: m != headline)
    for metric in ordered:
        for setting in reading.settings:
            ranked = reading.order(metric, setting)
            for method in (m for m in ranked if m != baseline):
                (main if metric == headline else other).append((method, baseline, metric, setting))
            pairs = [(a, b) for at, a in enumerate(ranked) for b in ranked[at + 1 :] if baseline not in (a, b)]
            rest += [(a, b, metric, setting) for a, b in pairs]
    tables = [
        _difference_table(reading, f"{headline}, against {baseline}", main),
        _difference_table(reading, f"Every other metric, against {baseline}", other),
        _difference_table(reading, "All other pairs of methods", rest),
    ]
    return {"main": tables[0] if tables[0].rows else None, "more": [t for t in tables[1:] if t.rows]}


def _difference_table(reading: Reading, title: str, asked: Sequence[tuple[str, str, str, Setting]]) -> Grid:
    several = len(reading.settings) > 1
    halves: dict[str, list[float | None]] = {}
    sizes: dict[str, float] = {}
    for t in reading.result.tests:
        halves.setdefault(t.metric, []).append(text.half(t))
        sizes[t.metric] = max(sizes.get(t.metric, 0.0), abs(t.difference or 0.0))
    d = {metric: text.digits(halves[metric], sizes[metric]) for metric in halves}
    found = [(key, t) for key in asked if (t := reading.test(*key)) is not None]
    sizes_known = any(t.effect_size is not None for _, t in found)
    rows = []
    for (_, _, metric, setting), t in found[:MOST_ROWS]:
        told = text.outcome(t)
        cells = [Cell(f"{t.a} − {t.b}", head=True), Cell(metric)]
        cells += [Cell(text.described(setting))] if several else []
        cells += [
            Cell(number(t.difference, d[metric], sign=True), number=True),
            Cell(text.interval(t, d[metric], sign=True), number=True),
            Cell(text.p_value(t.p), number=True),
            Cell(text.p_value(t.p_holm), number=True),
            Cell(_TOLD[told], told=told),
        ]
        cells += [Cell(number(t.effect_size, 2, sign=True), number=True)] if sizes_known else []
        cells += [Cell(t.test), Cell(f"{t.unit} ({t.n:,})")]
        rows.append(cells)
    head = ["Methods", "Metric", *(["Setting"] if several else []), "Difference", "95 % interval", "p", "p (Holm)", ""]
    head += [*(["Effect size"] if sizes_known else []), "Test", "Unit (n)"]
    left = len(found) - MOST_ROWS
    return Grid(title, head, rows, f"{left:,} further rows stand in the JSON." if left > 0 else "")


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
            shown = "; ".join(f"{value} ({text.count(n, 'run')})" for value, n in seen.most_common())
        rows.append((name, shown))
    return rows


def _skipped(result: Result) -> list[tuple[str, str]]:
    """Users left out by metric, as least to most over runs."""
    counts: dict[str, list[int]] = {}
    for run in result.runs:
        for metric, n in run.skipped_users.items():
            counts.setdefault(metric, []).append(n)
    return [(metric, text.span(each)) for metric, each in counts.items()]


def _section(heading: str, content: Any) -> Grid | list[str]:
    """A section handed in from outside: rows become a table, anything else sentences."""
    if isinstance(content, list | tuple) and content and all(isinstance(row, Mapping) for row in content):
        head = list(dict.fromkeys(name for row in content for name in row))
        rows = [
            [Cell(_plain(row.get(n)), at == 0, at > 0 and _is_number(row.get(n))) for at, n in enumerate(head)]
            for row in content
        ]
        return Grid(heading, [_term(name) for name in head], rows)
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


def _plain(value: Any) -> str:
    """Any value of a record as a reader would write it."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value) or NONE
    return value if isinstance(value, str) else json.dumps(value, default=str)
