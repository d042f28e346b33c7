"""Which figures a result gets: each function draws one section's panels, or gives None where it has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deconrec.experiments.results import Result, Setting, higher_is_better
from deconrec.report import plots
from deconrec.report.reading import NONE, Reading, count, number, p_value, short, span

MOST_PANELS = 4  # metrics that get a figure of their own


@dataclass
class Figure:
    """A figure of the page, with a heading and a sentence under it."""

    svg: str
    title: str = ""
    caption: str = ""


@dataclass
class Panels:
    """Figures that share a legend and a note."""

    figures: list[Figure]
    legend: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""


def means(reading: Reading, keys: Iterator[str]) -> Panels | None:
    """The first metrics, on the first setting."""
    return forests(reading, reading.group(None)[:MOST_PANELS], reading.settings[0], keys)


def forests(reading: Reading, metrics: Sequence[str], setting: Setting, keys: Iterator[str]) -> Panels | None:
    """Means of these metrics, and after the headline metric its paired differences from the baseline."""
    figures: list[Figure] = []
    marks: set[str] = set()
    outcomes: set[str] = set()
    dashed, ranged = "", False
    for metric in metrics:
        rows = _means(reading, metric, setting)
        if all(row.value is None for row in rows):
            continue
        baseline = reading.baseline if len(rows) > 1 else None
        reference = reading.mean(baseline, metric, setting) if baseline else None
        dashed = f"Dashed: {baseline}." if reference is not None else dashed
        direction = "higher is better →" if higher_is_better(metric) else "← lower is better"
        alt = f"{metric} of {count(len(rows), 'method')} with 95 % intervals: {_told(rows)}"
        svg = plots.forest(next(keys), alt, rows, direction, reference)
        figures.append(Figure(svg, metric, _seen(reading, metric, setting, rows)))
        marks |= {row.mark for row in rows}
        outcomes |= {reading.outcome(m, baseline, metric, setting) for m in reading.methods if baseline}
        ranged = ranged or any(row.low is not None for row in rows)
        marks |= {"twin" for row in rows if row.twin is not None}
        if metric == reading.headline and baseline and (rows := _gaps(reading, metric, baseline, setting)):
            title = f"{metric}: difference from {baseline}"
            alt = f"Difference of {metric} from {baseline} with 95 % intervals: {_told(rows)}"
            svg = plots.forest(next(keys), alt, rows, direction, 0.0)
            figures.append(Figure(svg, title, "Interval of one comparison alone, p after Holm's correction."))
    words = _MARKS | ({} if "open" in outcomes else {"plain": "not tested"})
    legend = [(f"mark-{mark}", word) for mark, word in words.items() if mark in marks]
    note = f"{'Lines: 95 % interval. ' if ranged else ''}{dashed}".strip()
    return Panels(figures, legend if len(reading.methods) > 1 else [], note) if figures else None


def _seen(reading: Reading, metric: str, setting: Setting, rows: Sequence[plots.Row]) -> str:
    """What to see in the means of a metric, in a sentence."""
    first = f"Best mean: {rows[0].label}."
    if reading.baseline is None or len(rows) == 1:
        return first
    told = [reading.outcome(m, reading.baseline, metric, setting) for m in reading.methods]
    counts = [f"{told.count(word)} {word}" for word in ("better", "worse") if told.count(word)]
    said = " and ".join(counts) if counts else "none told apart"
    return f"{first} Against {reading.baseline}: {said}, of {len(rows) - 1}."


def _means(reading: Reading, metric: str, setting: Setting) -> list[plots.Row]:
    rows = []
    for method in reading.order(metric, setting):
        found = reading.summary(method, metric, setting)
        mean, low, high = (found.mean, found.low, found.high) if found else (None, None, None)
        twin = reading.mean(method, f"{metric}/leaked", setting)
        shown = number(mean, reading.digits(metric))
        rows.append(plots.Row(method, mean, low, high, shown, _mark(reading, method, metric, setting), twin))
    return rows


def _gaps(reading: Reading, metric: str, baseline: str, setting: Setting) -> list[plots.Row]:
    rows = []
    for method in reading.order(metric, setting):
        test = reading.test(method, baseline, metric, setting)
        if method == baseline or test is None or test.difference is None:
            continue
        p = p_value(test.p_holm)
        shown = number(test.difference, reading.difference_digits(metric), sign=True)
        shown += "" if p == NONE else f" · p {p}"
        mark = _mark(reading, method, metric, setting)
        rows.append(plots.Row(method, test.difference, test.low, test.high, shown, mark))
    return rows


def _told(rows: Sequence[plots.Row]) -> str:
    return "; ".join(f"{row.label} {row.shown}" for row in rows)


_MARKS = {
    "better": "significantly better than the baseline",
    "worse": "significantly worse",
    "plain": "no difference shown",
    "baseline": "baseline",
    "twin": "with the leaked pairs kept",
}


def _mark(reading: Reading, method: str, metric: str, setting: Setting) -> plots.Mark:
    if reading.baseline is None or len(reading.methods) == 1:
        return "plain"
    if method == reading.baseline:
        return "baseline"
    told = reading.outcome(method, reading.baseline, metric, setting)
    return told if told in ("better", "worse") else "plain"


def truth(reading: Reading, keys: Iterator[str]) -> Panels | None:
    """The metrics against a simulator's truth, on the first setting."""
    return forests(reading, reading.group("truth")[: MOST_PANELS + 2], reading.settings[0], keys)


def sweeps(reading: Reading, keys: Iterator[str]) -> Panels | None:
    """The first metrics, and those against the truth, over the settings."""
    if len(reading.settings) < 2:
        return None
    dials, settings = reading.dials, reading.settings
    x: list[Any] = [", ".join(short(s.get(d)) for d in dials) for s in settings]
    if len(dials) == 1 and plots.numeric([s.get(dials[0]) for s in settings]):
        settings = sorted(settings, key=lambda s: s[dials[0]])
        x = [s[dials[0]] for s in settings]
    where = ", ".join(dials)
    figures = []
    for metric in [*reading.group(None)[:MOST_PANELS], *reading.group("truth")[:2]]:
        lines = {}
        for method in reading.methods:
            rows = [reading.summary(method, metric, s) for s in settings]
            lines[method] = [(s.mean, s.low, s.high) if s else (None, None, None) for s in rows]
        if any(mean is not None for line in lines.values() for mean, _, _ in line):
            alt = f"{metric} of {count(len(lines), 'method')} over {len(settings)} settings of {where}"
            better = "higher is better" if higher_is_better(metric) else "lower is better"
            figures.append(Figure(plots.sweep(next(keys), alt, x, lines, where, better), metric))
    legend = [(plots.swatch(next(keys), turn), method) for turn, method in enumerate(reading.methods)]
    return Panels(figures, legend, "Mean over seeds; the band is its 95 % interval.") if figures else None


def curves(reading: Reading, keys: Iterator[str]) -> Panels | None:
    """Validation score by epoch, one panel a method, on the first setting."""
    figures = []
    # Many seeds of many methods get fewer points each, so that the file stays small.
    points = 30_000 // max(1, len(reading.result.runs))
    for turn, method in enumerate(reading.methods):
        runs = [r for r in reading.runs(method, reading.settings[0]) if _known(r.history.get("score"))]
        if not runs:
            continue
        kept = [r.best_epoch for r in runs if r.best_epoch is not None]
        caption = f"Kept epoch: {span(kept)}." if kept else ""
        alt = f"Validation score of {method} by epoch over {count(len(runs), 'seed')}. {caption}".strip()
        seeds = [plots.Curve(r.history["score"], r.best_epoch) for r in runs]
        figures.append(Figure(plots.curves(next(keys), alt, seeds, turn, points), method, caption))
    return Panels(figures) if figures else None


def _known(scores: Sequence[float | None] | None) -> bool:
    return any(score is not None for score in scores or ())


def distribution(result: Result, keys: Iterator[str]) -> Panels | None:
    """Observed, unbiased and true shares of every outcome."""
    found = result.distribution
    if found is None or not found.values:
        return None
    logs = [("biased log", found.biased), ("unbiased log", found.unbiased), ("truth", found.truth)]
    shown = [(name, share, colour) for (name, share), colour in zip(logs, plots.LOGS, strict=True) if share]
    alt = "Share of every outcome."
    for name, share, _ in shown:
        each = zip(found.values, share, strict=True)
        alt += f" {name}: {', '.join(f'{v:g} {plots.percent(s)}' for v, s in each)}."
    svg = plots.distribution(next(keys), alt[:2000], found.values, shown)
    return Panels([Figure(svg)], [(f"fill-{colour}", name) for name, _, colour in shown])
