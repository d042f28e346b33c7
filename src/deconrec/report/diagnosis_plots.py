"""Figures of a diagnosis as inline SVG: the weights' tail, balance, calibration, power. plots.py has their style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deconrec.report import plots
from deconrec.report.plots import ACCENT, INK, MUTED, RULE, SURFACE, WARM, WIDTH, drawing, inline, percent

HEIGHT = 250.0
MOST = 24  # columns in the picture of balance


def tail(key: str, points: Sequence[Mapping[str, float]]) -> str:
    """Share of the weights' sum that the heaviest rows hold, over their share of rows."""
    x, y = [0.0, *(p["rows"] for p in points)], [0.0, *(p["weight"] for p in points)]
    with drawing(WIDTH, HEIGHT) as figure:
        ax = _axes(figure)
        ax.plot([0, 1], [0, 1], color=RULE, lw=1.2, ls=(0, (4, 3)))
        ax.plot(x, y, color=ACCENT, lw=2, marker="o", ms=4)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.02)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda share, _: percent(share))
        ax.set_xlabel("rows, heaviest first")
        alt = "; ".join(f"{percent(p['rows'])} of rows hold {percent(p['weight'])}" for p in points)
        return inline(figure, key, f"Share of the weight over the share of rows: {alt}")


def calibration(key: str, bins: Sequence[Mapping[str, float]], of: str = "exposed pairs") -> str:
    """Observed share (`of` what) over the predicted one, both on a log scale where none is 0."""
    kept = [b for b in bins if b["predicted"] > 0]
    logged = all(b["observed"] > 0 for b in kept) and len(kept) > 1
    x, y = [b["predicted"] for b in kept], [b["observed"] for b in kept]
    with drawing(WIDTH, HEIGHT) as figure:
        ax = _axes(figure)
        low, high = (min(x + y) if logged else 0.0), max([*x, *y, 1e-9])
        ends = [low * 0.8, min(high * 1.25, 1.0)]
        ax.plot(ends, ends, color=RULE, lw=1.2, ls=(0, (4, 3)))
        ax.plot(x, y, color=ACCENT, lw=1.4, marker="o", ms=6, mec=SURFACE)
        if logged:
            ax.set_xscale("log")
            ax.set_yscale("log")
            ticks = [t for t in (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0) if ends[0] <= t <= ends[1]]
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
            ax.minorticks_off()
        ax.set_xlabel("predicted propensity")
        alt = "; ".join(f"{b['predicted']:.4f}: {b['observed']:.4f}" for b in kept)
        return inline(figure, key, f"Observed share of {of} by predicted propensity: {alt}")


def love(key: str, columns: Sequence[Mapping[str, Any]]) -> str:
    """Standardised differences of the columns, before weighting and after, largest before at the top."""
    rows = sorted(columns, key=lambda c: -abs(c["before"]))[:MOST]
    names = list(rows[0]["after"]) if rows else []
    step, below = 24.0, 44.0
    height = step * max(len(rows), 1) + below + 10
    colours = dict(zip(names, (ACCENT, INK), strict=False))
    with drawing(WIDTH, height) as figure:
        ax = figure.add_axes((0.36, below / height, 0.61, 1 - (below + 10) / height))
        ax.set_ylim(len(rows) - 0.4, -0.6)
        plots._limits(
            ax, [0.0, *(c["before"] for c in rows), *(v for c in rows for v in c["after"].values())]
        )
        ax.axvline(0, color=INK, lw=1)
        for edge in (-0.1, 0.1):
            ax.axvline(edge, color=RULE, lw=1, ls=(0, (2, 2)))
        for at, c in enumerate(rows):
            ax.plot([c["before"], *c["after"].values()], [at] * (1 + len(names)), color=RULE, lw=1, zorder=1)
            ax.plot(c["before"], at, "o", ms=7, mfc=SURFACE, mec=WARM, mew=1.6, zorder=3)
            for name in names:
                shape = "o" if name == names[0] else "^"
                ax.plot(
                    c["after"][name], at, shape, ms=6, color=colours[name], mec=SURFACE, mew=0.6, zorder=4
                )
        ax.set_yticks(range(len(rows)), [plots._label(f"{c['side']} {c['name']}", 19) for c in rows])
        ax.tick_params(axis="y", length=0)
        plots._ticks(ax.xaxis, 5)
        ax.spines[["left", "right", "top"]].set_visible(False)
        ax.set_xlabel("standardised difference", color=MUTED)
        alt = "; ".join(f"{c['side']} {c['name']} {c['before']:+.2f}" for c in rows)
        return inline(figure, key, f"Standardised differences before weighting: {alt}"[:2000])


def power(key: str, points: Sequence[Mapping[str, float]], smallest: float) -> str:
    """Chance that the test finds a true gap, over its size."""
    with drawing(WIDTH, HEIGHT) as figure:
        ax = _axes(figure)
        ax.axhline(0.8, color=RULE, lw=1.2, ls=(0, (4, 3)))
        ax.axvline(smallest, color=RULE, lw=1.2, ls=(0, (4, 3)))
        ax.plot([p["gap"] for p in points], [p["power"] for p in points], color=ACCENT, lw=2)
        ax.set_ylim(0, 1.02)
        ax.set_xlim(0, max(p["gap"] for p in points))
        ax.yaxis.set_major_formatter(lambda share, _: percent(share))
        plots._ticks(ax.xaxis, 5)
        ax.set_xlabel("true gap")
        alt = f"Power over the true gap: 80 % at {smallest:.3f}"
        return inline(figure, key, alt)


def _axes(figure: Any) -> Any:
    ax = figure.add_axes((50 / WIDTH, 42 / HEIGHT, 1 - 66 / WIDTH, 1 - 54 / HEIGHT))
    plots._frame(ax)
    return ax
