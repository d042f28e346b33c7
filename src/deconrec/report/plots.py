"""Figures of a result as inline SVG, drawn once and coloured by the page's CSS variables, light or dark.

Text stays text; ids are unique in the page; the same numbers give the same bytes. The figures are drawn 300
or 380 units wide, one unit a CSS pixel, so that a telephone shows them without magnifying; the page lays them
out in columns where there is room.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from deconrec.errors import MissingExtra
from deconrec.report.slides import keep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Mark = Literal["plain", "baseline", "better", "worse"]

# Stand-in colours, replaced in the SVG by the variable of the same row; none of them is drawn as it is.
INK, MUTED, RULE, GOOD, BAD, ACCENT, WARM, SURFACE = (f"#0102{n:02x}" for n in range(3, 11))
SERIES = tuple(f"#0103{n:02x}" for n in range(1, 9))
_VARIABLES = {
    **dict(
        zip(
            (INK, MUTED, RULE, GOOD, BAD, ACCENT, WARM, SURFACE),
            ("ink", "muted", "rule", "good", "bad", "accent", "warm", "surface"),
            strict=True,
        )
    ),
    **{colour: f"series-{n}" for n, colour in enumerate(SERIES)},
}
_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*")
_MARKS: dict[Mark, tuple[str, str]] = {
    "plain": ("o", MUTED),
    "baseline": ("D", INK),
    "better": ("^", GOOD),
    "worse": ("v", BAD),
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deconrec",
    "text.parse_math": False,  # a method's name may hold a dollar sign
    "font.size": 12.0,
    "axes.linewidth": 0.8,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11.5,
    "axes.formatter.useoffset": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "text.color": INK,
}
LOGS = ("warm", "accent", "ink")  # colours of the biased log, the unbiased log and the truth
WIDTH = 380.0


@dataclass(frozen=True)
class Row:
    """One line of a forest plot: a value with its interval, and a second value shown hollow."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    shown: str
    mark: Mark = "plain"
    twin: float | None = None


@dataclass(frozen=True)
class Curve:
    """Validation scores of one seed, one an epoch, and the epoch (from 0) whose state was kept."""

    scores: Sequence[float | None]
    best_epoch: int | None


Triple = tuple[float | None, float | None, float | None]
"""Mean, low and high end of an interval."""


def forest(key: str, alt: str, rows: Sequence[Row], axis: str, reference: float | None = None) -> str:
    """Values with 95 % intervals, one line each, top to bottom; `reference` is drawn as a dashed line.

    key: prefix of the ids, unique in the page. alt: what the figure shows, for those who cannot see it.
    """
    step, below, side = 40.0, 46.0, 4.0
    height = step * len(rows) + below
    with drawing(WIDTH, height) as figure:
        ax = figure.add_axes((side / WIDTH, below / height, 1 - 2 * side / WIDTH, 1 - below / height))
        ax.set_ylim(len(rows), 0)
        _limits(ax, [reference, *(v for r in rows for v in (r.value, r.low, r.high, r.twin))])
        left, right = ax.get_xlim()
        for at, row in enumerate(rows):
            shape, colour = _MARKS[row.mark]
            y = at + 0.7
            words: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "baseline"}
            weight = "bold" if row.mark == "baseline" else "normal"
            room = int((WIDTH - 2 * side - 8 - 6.6 * len(row.shown)) / (8.6 if weight == "bold" else 7.9))
            ax.text(0, at + 0.4, _label(row.label, room), weight=weight, **words)
            ax.text(1, at + 0.4, row.shown, ha="right", color=MUTED, **words)
            ax.plot([left, right], [y, y], color=RULE, lw=0.8, zorder=1)
            if reference is not None:
                ax.plot([reference] * 2, [at + 0.56, at + 0.84], color=INK, lw=1, ls=(0, (2, 2)), zorder=2)
            if row.low is not None and row.high is not None:
                ax.plot([row.low, row.high], [y, y], color=colour, lw=2.4, solid_capstyle="butt", zorder=3)
            if row.twin is not None:
                ax.plot(row.twin, y, "o", ms=6, mfc=SURFACE, mec=WARM, mew=1.4, zorder=4)
            if row.value is not None:
                ax.plot(row.value, y, shape, ms=9, color=colour, mec=SURFACE, mew=1, zorder=5)
        ax.set_yticks([])
        _ticks(ax.xaxis, 5)
        ax.spines[["left", "right", "top"]].set_visible(False)
        ax.set_xlabel(axis)
        return inline(figure, key, alt)


def curves(key: str, alt: str, seeds: Sequence[Curve], turn: int, most: int) -> str:
    """Validation score by epoch: seeds thin, their mean thick while half of them train; dots: epochs kept.

    turn: position of the method, for its colour. most: points drawn of a curve, at least 24 and at most 120.
    """
    width, height = 300.0, 186.0
    with drawing(width, height) as figure:
        ax = figure.add_axes((52 / width, 40 / height, 1 - 62 / width, 1 - 50 / height))
        ink = SERIES[turn % len(SERIES)]
        longest = max((len(c.scores) for c in seeds), default=0)
        epochs = _thinned(longest, min(max(most, 24), 120))
        for curve in seeds:
            known = [(e, s) for e in epochs if (s := _at(curve.scores, e)) is not None]
            ax.plot([e for e, _ in known], [s for _, s in known], color=ink, lw=0.9, alpha=0.35, zorder=2)
            kept = -1 if curve.best_epoch is None else curve.best_epoch
            if (best := _at(curve.scores, kept)) is not None:
                ax.plot(kept, best, "o", ms=4.5, color=INK, mec=SURFACE, mew=0.7, zorder=4)
        if len(seeds) > 1:
            values = {e: [s for c in seeds if (s := _at(c.scores, e)) is not None] for e in epochs}
            mean = [(e, fmean(v)) for e, v in values.items() if 2 * len(v) >= len(seeds)]
            ax.plot([e for e, _ in mean], [v for _, v in mean], color=ink, lw=2.2, zorder=3)
        _limits(ax, [s for c in seeds for s in c.scores], axis="y")
        ax.set_xlim(-0.5, max(longest - 0.5, 0.5))
        _ticks(ax.yaxis, 4)
        _ticks(ax.xaxis, 5, integer=True)
        _frame(ax)
        ax.set_xlabel("epoch")
        return inline(figure, key, alt)


def distribution(
    key: str, alt: str, values: Sequence[float], logs: Sequence[tuple[str, Sequence[float], str]]
) -> str:
    """Shares of every outcome, one group of bars a value; steps instead of bars beyond 24 values.

    logs: (name, share of every value, one of `LOGS`).
    """
    height = 240.0
    colours = dict(zip(LOGS, (WARM, ACCENT, INK), strict=True))
    with drawing(WIDTH, height) as figure:
        ax = figure.add_axes((46 / WIDTH, 42 / height, 1 - 56 / WIDTH, 1 - 54 / height))
        x = range(len(values))
        for turn, (_, share, name) in enumerate(logs):
            colour = colours[name]
            if len(values) > 24:
                ax.plot(list(values), share, color=colour, lw=2, drawstyle="steps-mid")
                continue
            bar = 0.8 / len(logs)
            at = [i + bar * (turn - (len(logs) - 1) / 2) for i in x]
            drawn = ax.bar(at, share, bar * 0.92, color=colour)
            if len(values) * len(logs) <= 12:
                ax.bar_label(drawn, [percent(s)[:-2] for s in share], padding=2, fontsize=10, color=MUTED)
        if len(values) <= 24:
            ax.set_xticks(list(x), [f"{v:g}" for v in values])
        ax.set_ylim(0, 1.1 * max((s for _, share, _ in logs for s in share), default=1.0) or 1.0)
        ax.yaxis.set_major_formatter(lambda share, _: percent(share))
        _ticks(ax.yaxis, 4)
        _frame(ax)
        ax.set_xlabel("outcome")
        return inline(figure, key, alt, [(name, colours[colour], "s") for name, _, colour in logs])


def sweep(
    key: str,
    alt: str,
    x: Sequence[float] | Sequence[str],
    lines: Mapping[str, Sequence[Triple]],
    axis: str,
    direction: str,
) -> str:
    """A metric against a setting, one line a method with its 95 % band; `lines` by the method's name."""
    height = 290.0
    places: list[float] = [float(v) for v in x] if numeric(x) else [float(i) for i in range(len(x))]
    with drawing(WIDTH, height) as figure:
        ax = figure.add_axes((54 / WIDTH, 46 / height, 1 - 68 / WIDTH, 1 - 58 / height))
        for turn, (name, line) in enumerate(lines.items()):
            _, colour, shape = series(turn, name)
            rows = list(zip(places, line, strict=True))
            band = [(p, lo, hi) for p, (_, lo, hi) in rows if lo is not None and hi is not None]
            if band:
                p, low, high = zip(*band, strict=True)
                ax.fill_between(p, low, high, color=colour, alpha=0.13, lw=0)
            known = [(p, m) for p, (m, _, _) in rows if m is not None]
            style: dict[str, Any] = {"color": colour, "lw": 1.8, "marker": shape, "ms": 6.5}
            ax.plot([p for p, _ in known], [m for _, m in known], mec=SURFACE, mew=0.8, **style)
        _limits(ax, [v for line in lines.values() for triple in line for v in triple], axis="y")
        if not numeric(x):
            ax.set_xticks(places, [_label(str(v), max(6, 56 // len(x))) for v in x])
        elif min(places) > 0 and max(places) >= 50 * min(places):
            ax.set_xscale("log")
            ax.set_xticks(places, [f"{v:g}" for v in places])
            ax.minorticks_off()
        elif len(places) <= 8:
            ax.set_xticks(places, [f"{v:g}" for v in places])
        _ticks(ax.yaxis, 5)
        _frame(ax)
        ax.set_xlabel(_label(axis, 60))
        ax.text(0, 1.02, direction, transform=ax.transAxes, color=MUTED, fontsize=11.5, va="bottom")
        legend = [series(turn, name) for turn, name in enumerate(lines)]
        return inline(figure, key, alt, legend if len(legend) > 1 else ())


def swatch(key: str, turn: int) -> str:
    """The line and the mark of one method of a sweep, for a legend beside the figure."""
    with drawing(34, 14) as figure:
        ax = figure.add_axes((0, 0, 1, 1))
        colour, shape = SERIES[turn % len(SERIES)], _SHAPES[turn % len(_SHAPES)]
        ax.plot(
            [0, 0.5, 1],
            [0, 0, 0],
            color=colour,
            lw=2,
            marker=shape,
            markevery=[1],
            ms=7,
            mec=SURFACE,
            mew=0.8,
        )
        ax.set_xlim(-0.05, 1.05)
        ax.set_ylim(-1, 1)
        ax.axis("off")
        return inline(figure, key, None)


# ------------------------------------------------------------------------------------------- drawing
@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of so many units, under this file's style whatever the user's own settings are."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "report", "the HTML report") from error

    with matplotlib.rc_context(), warnings.catch_warnings():
        # Widths are measured with matplotlib's own font, but the reader's browser draws with another.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield Figure(figsize=(width / 72, height / 72))


def inline(figure: Figure, key: str, alt: str | None, legend: Sequence[tuple[str, str, str]] = ()) -> str:
    """The figure as an element for a page: no declarations, no name spaces, no size, its own ids.

    legend: (name, colour, marker) of what is drawn, for a copy that stands without the page's own.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            # matplotlib's style sheet would hold for the whole page; the metadata name addresses on the net.
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        for name, value in element.attrib.items():
            element.attrib[name] = _attribute(name, value, key)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "plot"} | (
        {"aria-hidden": "true"} if alt is None else {"role": "img", "aria-label": alt}
    )
    if alt is not None:
        keep(figure, alt, legend, _VARIABLES)
    return ElementTree.tostring(root, encoding="unicode")


def series(turn: int, name: str) -> tuple[str, str, str]:
    """(name, colour, marker) of the line in that place."""
    return name, SERIES[turn % len(SERIES)], _SHAPES[turn % len(_SHAPES)]


def _attribute(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return value.replace("#", f"#{key}-", 1)
    if name == "d":  # a hundredth of a pixel is enough
        return re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value)
    value = re.sub(r"url\(#", f"url(#{key}-", value)
    if name == "style":
        value = re.sub(r"font(-[a-z]+)?:[^;]*(;|$)", _font, value)
        return re.sub(
            r"#[0-9a-f]{6}", lambda m: f"var(--{_VARIABLES[m[0]]})" if m[0] in _VARIABLES else m[0], value
        )
    return value


def _font(match: re.Match[str]) -> str:
    """The size and the weight of a font, without its family: the page's own is drawn."""
    size = re.search(r"([\d.]+)px", match[0])
    kept = [f"font-size: {size[1]}px"] if size else []
    if re.search(r"\b(bold|700)\b", match[0]):
        kept.append("font-weight: 600")
    return "".join(f"{part}; " for part in kept)


def _frame(ax: Axes) -> None:
    ax.spines[["right", "top"]].set_visible(False)
    ax.grid(axis="y", color=RULE, lw=0.6)
    ax.set_axisbelow(True)


def _ticks(axis: Any, most: int, integer: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=integer, min_n_ticks=2))
    axis.set_tick_params(length=3)


def _limits(ax: Axes, values: Sequence[float | None], axis: Literal["x", "y"] = "x") -> None:
    """Limits a little beyond the values."""
    known = [v for v in values if v is not None and math.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    space = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    (ax.set_xlim if axis == "x" else ax.set_ylim)(low - space, high + space)


def _thinned(length: int, most: int) -> list[int]:
    """Epochs to draw: all of them, or evenly spread ones with the first and the last."""
    if length <= most:
        return list(range(length))
    return sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})


def _at(scores: Sequence[float | None], epoch: int) -> float | None:
    return scores[epoch] if 0 <= epoch < len(scores) else None


def numeric(x: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in x)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def _label(text: str, most: int) -> str:
    """A text of at most so many characters, cut in its middle; without characters that XML cannot hold."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    if len(clean) <= most:
        return clean
    head = (most - 1) * 3 // 5
    return f"{clean[:head]}…{clean[len(clean) - (most - 1 - head) :]}"
