"""Sensitivity to hidden confounding: a table for the screen and one HTML page; no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deconrec.experiments.results import Bounded, Sensitivity, higher_is_better
from deconrec.report import plots
from deconrec.report.page import rendered, write_page
from deconrec.report.reading import NONE

if TYPE_CHECKING:
    from rich.table import Table

MARKED = 3  # measured features that are drawn


def table(found: Sensitivity) -> Table:
    """Bounds over odds ratios, for the screen."""
    from rich.table import Table

    out = Table(title=f"bounds by odds ratio of hidden confounding ({found.dataset})", box=None)
    out.add_column("metric", no_wrap=True)
    out.add_column("of", overflow="fold", max_width=24)
    for gamma in found.gammas:
        out.add_column(f"{gamma:g}", justify="right")
    for row in found.metrics:
        out.add_row(row.metric, _who(row), *_cells(row))
    for item in found.items if not found.metrics else []:
        ends = zip(item.low, item.high, strict=True)
        out.add_row("mean outcome", item.item, *(_range(low, high) for low, high in ends))
    return out


def _who(row: Bounded) -> str:
    return f"{row.method} − {row.over}" if row.over else row.method


def _cells(row: Bounded) -> list[str]:
    return [_range(low, high) for low, high in zip(row.low, row.high, strict=True)]


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return NONE
    return f"{low:.3f}" if f"{low:.3f}" == f"{high:.3f}" else f"{low:.3f} to {high:.3f}"


def render_sensitivity(found: Sensitivity) -> str:
    """The page of a record.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    figures = []
    for n, metric in enumerate(dict.fromkeys(m.metric for m in found.metrics)):
        alone = [m for m in found.metrics if m.metric == metric and not m.over]
        apart = [m for m in found.metrics if m.metric == metric and m.over]
        arrow = "higher is better" if higher_is_better(metric) else "lower is better"
        drawn = draw(f"s{n}", f"{metric} over odds ratios", found, alone, f"{metric} ({arrow})")
        figures.append(
            (metric, drawn, "Where it may lie, by odds ratio. Dotted: measured features left out.")
        )
        for row in apart:
            tip = next((t for t in found.tipping if t.metric == metric), None)
            gamma = None if tip is None else tip.gamma
            drawn = draw(f"d{n}", f"difference of {metric}", found, [row], _who(row), 0.0, gamma)
            says = (
                f"The lead holds for every odds ratio left of Gamma = {gamma:.2f}, where the band meets 0"
                if gamma is not None and gamma > 1
                else "The band never meets 0"
                if gamma is None
                else "There is no lead"
            )
            figures.append((f"{metric}, {_who(row)}", drawn, f"{says}. Dashed: the tipping point."))
    facts = {
        "rows": f"{found.log['rows_used']:,} of {found.log['rows_given']:,} "
        f"({found.log['rows_of_training_left_out']:,} given to a model in training)",
        "population": f"{found.log['pairs']:,} pairs of {found.log['users']:,} users and {found.log['items']:,} items",
        "propensities": str(found.log["propensity"]),
        "effective rows": f"{found.overlap['ess']:,.0f}",
    }
    return rendered(
        "sensitivity.html",
        title="Sensitivity to hidden confounding",
        over=f"sensitivity · {found.dataset}",
        finding=found.answer[0] if found.answer else "There is nothing to bound.",
        answer=found.answer[1:],
        figures=figures,
        key=[(plots.swatch(f"k{n}", n), name) for n, name in enumerate(found.methods)],
        gammas=[f".{g:g}" for g in found.gammas],
        rows=[[r.metric, _who(r), *_cells(r)] for r in found.metrics],
        tipping=[
            (
                t.metric,
                t.leading,
                t.second,
                f"{t.difference:+.4f}",
                "none" if t.gamma is None else f"{t.gamma:.2f}",
                "none" if t.gamma_interval is None else f"{t.gamma_interval:.2f}",
            )
            for t in found.tipping
        ],
        benchmarks=[(b.feature, f"{b.median:.2f}", f"{b.gamma:.2f}") for b in found.benchmarks],
        k=found.k,
        items=[
            (
                i.item,
                str(i.rank),
                f"{i.rows:,}",
                f"{i.mean:.3f}",
                NONE if i.stays_to is None else f"{i.stays_to:.2f}" + ("+" if i.stays_to > 15.9 else ""),
                *(_range(low, high) for low, high in zip(i.low, i.high, strict=True)),
            )
            for i in found.items
        ],
        lists=[[name, *(f"{s:.0%}" for s in shares)] for name, shares in found.lists.items()],
        facts=facts,
        notes=found.notes,
    )


def draw(
    key: str,
    alt: str,
    found: Sensitivity,
    rows: Sequence[Bounded],
    axis: str,
    reference: float | None = None,
    tipping: float | None = None,
) -> str:
    """Bounds over odds ratios, a band a model; measured features dotted, the tipping point dashed."""
    height = 312.0
    with plots.drawing(plots.WIDTH, height) as figure:
        ax = figure.add_axes((54 / plots.WIDTH, 46 / height, 1 - 68 / plots.WIDTH, 1 - 96 / height))
        last = max(found.gammas)
        for turn, row in enumerate(rows):
            colour = plots.SERIES[turn % len(plots.SERIES)]
            known = [
                (g, low, high)
                for g, low, high in zip(found.gammas, row.low, row.high, strict=True)
                if low is not None and high is not None
            ]
            x, low, high = zip(*known, strict=True) if known else ((), (), ())
            ax.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
            for ends in (low, high):
                ax.plot(x, ends, color=colour, lw=1.8)
            if row.estimate is not None:
                ax.axhline(row.estimate, color=colour, lw=0.8)
        if reference is not None:
            ax.axhline(reference, color=plots.INK, lw=1)
        marks = [b for b in found.benchmarks if b.gamma <= last][:MARKED]
        for turn, mark in enumerate(marks):
            ax.axvline(mark.gamma, color=plots.MUTED, lw=1, ls=":")
            text = mark.feature.removeprefix("the ")
            ax.text(
                mark.gamma,
                1.015 + 0.05 * turn,
                text,
                transform=ax.get_xaxis_transform(),
                ha="right" if mark.gamma > 0.6 * last else "left",
                fontsize=9.5,
                color=plots.MUTED,
            )
        if tipping is not None and 1 < tipping <= last:
            ax.axvline(tipping, color=plots.WARM, lw=1.6, ls="--")
        ax.set_xscale("log")
        ax.set_xticks(found.gammas, [f"{g:g}" for g in found.gammas])
        ax.minorticks_off()
        ax.set_xlim(1, max(last, 1.01))
        ax.spines[["right", "top"]].set_visible(False)
        ax.set_xlabel("odds ratio of hidden confounding, Gamma")
        ax.set_ylabel(axis)
        legend = [(_who(row), plots.series(turn, "")[1], "") for turn, row in enumerate(rows)]
        return plots.inline(figure, key, alt, legend if len(legend) > 1 else ())


def write_sensitivity(found: Sensitivity, path: str | Path, pictures: str | Path | None = None) -> Path:
    """Write the page, and its figures as files where `pictures` names a folder; gives the page's path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    return write_page(lambda: render_sensitivity(found), path, pictures)
