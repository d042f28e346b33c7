"""Figures of described worlds: ratings before and after exposure, popularity of items, a quantity over the settings.

Each is drawn once and serves twice: as a file (PNG and SVG) beside the results, and inline in the HTML page, where the
page's own colours and text size take the place of those here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconrec.data.writing import write_file
from deconrec.experiments.results import Reproduction, Setting
from deconrec.report import plots
from deconrec.report.pictures import COLOURS, SHAPES, figure_files, folded
from deconrec.report.reading import Reading, described, number, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

STARS = range(1, 6)
TITLES = {
    "ratings": "Ratings of the pairs that were exposed, and of all pairs",
    "popularity": "Share of the users that an item is shown to, items sorted",
    "shift": "How far the ratings of exposed pairs are from those of all pairs",
    "kl": "KL divergence between a user's ratings after exposure and before, mean over users",
}
REAL = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))  # dashes of real data
FILE_SCALE = 0.75  # text of a file is so much smaller than the page's


@dataclass(frozen=True)
class Palette:
    """Colours of a figure."""

    ink: str
    rule: str
    observed: str
    population: str
    series: tuple[str, ...]


FILE = Palette("#222222", "#dddddd", COLOURS[1], "#9aa7b0", COLOURS)
PAGE = Palette(plots.INK, plots.RULE, plots.WARM, plots.MUTED, plots.SERIES)


def write_world_pictures(result: Reproduction, folder: str | Path, stem: str) -> list[Path]:
    """Draw what the experiment asks for: STEM-NAME.png and .svg; gives the paths of the PNGs.

    Raises
    ------
    MissingExtra: matplotlib is not installed.  FileError: a file cannot be written.
    """
    out = []
    for name in drawable(result):
        for suffix, content in _files(result, name).items():
            write_file(Path(folder) / f"{stem}-{name.replace('/', '-')}.{suffix}", content)
        out.append(Path(folder) / f"{stem}-{name.replace('/', '-')}.png")
    return out


def inline_pictures(result: Reproduction, keys: Iterator[str]) -> list[tuple[str, str]]:
    """(title, SVG for a page) of what the experiment asks for."""
    out = []
    for name in drawable(result):
        with plots.drawing(*_size(result, name)) as figure:
            figure.set_layout_engine("constrained")
            _draw(figure, result, name, PAGE)
            out.append((_title(name), plots.inline(figure, next(keys), _told(result, name))))
    return out


def drawable(result: Reproduction) -> list[str]:
    """The pictures that the experiment asks for and for which something is there."""
    reading = Reading(result)
    return [
        name
        for name in result.picture
        if (name == "popularity" and result.curves)
        or (name == "ratings" and _rated(reading))
        or any(s.metric == name and s.mean is not None for s in result.summary)
    ]


def _files(result: Reproduction, name: str) -> dict[str, bytes]:
    def draw(figure: Figure) -> None:
        _draw(figure, result, name, FILE)
        figure.suptitle(f"{result.title}\n{_title(name)}", fontsize=9, x=0.01, ha="left")

    width, height = (FILE_SCALE * side / 72 for side in _size(result, name))
    return figure_files((width, height + 0.35), draw)


def _size(result: Reproduction, name: str) -> tuple[float, float]:
    """Width and height in units of the page."""
    if name == "ratings":
        rows = _rated(Reading(result))
        return max(760.0, 180.0 * max(map(len, rows.values()))), 190.0 * len(rows) + 40
    return 760.0, 350.0 + 17 * len(Reading(result).methods)


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _told(result: Reproduction, name: str) -> str:
    """What a picture shows, for those who cannot see it; its numbers stand in the page's tables."""
    reading = Reading(result)
    return f"{_title(name)}: {', '.join(reading.methods)}, {len(reading.settings)} settings."


def _draw(figure: Figure, result: Reproduction, name: str, palette: Palette) -> None:
    reading = Reading(result)
    if name == "ratings":
        _ratings(figure, reading, palette)
    elif name == "popularity":
        _popularity(figure, result, palette)
    else:
        _over_settings(figure, reading, name, palette)


# ------------------------------------------------------------------------------------------- ratings
def _rated(reading: Reading) -> Mapping[str, list[Setting]]:
    """The settings of every world whose exposed ratings are known."""
    found = {
        world: [s for s in reading.settings if reading.mean(world, "observed/1", s) is not None]
        for world in reading.methods
    }
    return {world: settings for world, settings in found.items() if settings}


def _ratings(figure: Figure, reading: Reading, palette: Palette) -> None:
    """Bars of the ratings: a row a world, a panel a setting, one scale."""
    rows = _rated(reading)
    columns = max(map(len, rows.values()))
    parts: Any = figure.subfigures(len(rows), 1, squeeze=False)
    highest = max(
        100 * (reading.mean(world, f"{which}/{r}", s) or 0.0)
        for world, settings in rows.items()
        for s in settings
        for which in ("observed", "population")
        for r in STARS
    )
    for part, (world, settings) in zip(parts[:, 0], rows.items(), strict=True):
        _row_of_ratings(part, reading, world, settings, columns, highest, palette)
    handles, labels = parts[0, 0].axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)


def _row_of_ratings(
    part: SubFigure,
    reading: Reading,
    world: str,
    settings: Sequence[Setting],
    columns: int,
    highest: float,
    palette: Palette,
) -> None:
    grid = part.subplots(1, columns, squeeze=False, sharey=True)[0]
    part.suptitle(world, fontsize="medium", x=0.01, ha="left", color=palette.ink)
    for axes, setting in zip(grid, settings, strict=False):
        for at, (which, label) in enumerate(
            (("population", "all pairs, by rating"), ("observed", "exposed pairs, by rating"))
        ):
            share = [100 * (reading.mean(world, f"{which}/{r}", setting) or 0.0) for r in STARS]
            colour = getattr(palette, which)
            axes.bar([r + 0.4 * (at - 0.5) for r in STARS], share, 0.38, color=colour, label=label)
        shift = reading.mean(world, "shift", setting)
        told = [*([reading.place(setting)] if reading.dials else [])]
        told += [] if shift is None else [f"shift {number(shift, 2)}"]
        axes.set_title("\n".join(told), fontsize="small", loc="left", color=palette.ink)
        axes.set_ylim(0, 1.03 * highest)
        axes.set_xticks(STARS)
        axes.grid(axis="x", visible=False)
        _frame(axes, palette)
    grid[0].set_ylabel("% of the pairs")
    for axes in grid[len(settings) :]:
        axes.set_axis_off()


# ---------------------------------------------------------------------------------------- popularity
def _popularity(figure: Figure, result: Reproduction, palette: Palette) -> None:
    """A line a world, falling; dashed where the data are real. Items that nobody is shown are not on a log scale."""
    axes = figure.add_subplot()
    curves = [c for c in result.curves if c.name == "popularity"]
    reading = Reading(result)
    real = [n for n, record in result.protocol["data"].items() if not record["simulated"]]
    for turn, curve in enumerate(curves):
        x = [100 * at / (len(curve.mean) - 1) for at in range(len(curve.mean))]
        colour = palette.series[turn % len(palette.series)]
        style: dict[str, Any] = {"color": colour, "lw": 1.6}
        if curve.method in real:
            style["ls"] = REAL[real.index(curve.method) % len(REAL)]
        place = f" ({described(curve.setting)})" if curve.setting and reading.dials else ""
        place += " (real)" if curve.method in real else ""
        known = [(p, 100 * m) for p, m in zip(x, curve.mean, strict=True) if m]
        axes.plot(*zip(*known, strict=True), label=folded(curve.method + place, 60), **style)
        band = [
            (p, 100 * low, 100 * high)
            for p, m, low, high in zip(x, curve.mean, curve.low, curve.high, strict=True)
            if m and low is not None and high is not None and low > 0
        ]
        if band:
            _shade(axes, band, colour)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(0, 100)
    axes.set_xlabel("items from the most shown to the least, %; a line ends where items are shown to nobody")
    axes.set_ylabel("% of the users (log scale)")
    _frame(axes, palette)
    figure.legend(loc="outside lower center", ncols=1, fontsize="small", frameon=False)


# ------------------------------------------------------------------------------- over the settings
def _over_settings(figure: Figure, reading: Reading, metric: str, palette: Palette) -> None:
    """A line a world with its 95 % band; what chance gives (METRIC/random), where it was measured, dashed."""
    axes = figure.add_subplot()
    settings, places = _places(reading)
    chance, lowest = f"{metric}/random", 0.0
    for turn, world in enumerate(reading.methods):
        style: dict[str, Any] = {"color": palette.series[turn % len(palette.series)]}
        marked: dict[str, Any] = {"marker": SHAPES[turn % len(SHAPES)], "lw": 1.6, "label": folded(world, 60)}
        for name, line in ((chance, {"ls": (0, (4, 2)), "lw": 1.1}), (metric, marked)):
            rows = [(p, reading.summary(world, name, s)) for p, s in zip(places, settings, strict=True)]
            known = [(p, r.mean, r.low, r.high) for p, r in rows if r is not None and r.mean is not None]
            if not known:
                continue
            axes.plot([k[0] for k in known], [k[1] for k in known], ms=5, **line, **style)
            lowest = min(lowest, *(v for k in known for v in k[1:] if v is not None))
            band = [(p, low, high) for p, _, low, high in known if low is not None and high is not None]
            if band and name == metric:
                _shade(axes, band, style["color"])
    alone = len(reading.dials) == 1
    axes.set_xticks(places, [short(s.get(reading.dials[0])) if alone else reading.place(s) for s in settings])
    axes.set_xlabel(", ".join(reading.dials))
    axes.set_ylabel(metric + (" (dashed: by chance)" if chance in reading.metrics else ""))
    axes.set_ylim(bottom=1.05 * lowest)
    _frame(axes, palette)
    figure.legend(loc="outside lower center", ncols=1, fontsize="small", frameon=False)


def _places(reading: Reading) -> tuple[list[Setting], list[float]]:
    """The settings of worlds with dials, and where they stand: at the dial's value where one of numbers is turned."""
    settings = [s for s in reading.settings if s] or list(reading.settings)
    dials = reading.dials
    if len(dials) == 1 and plots.numeric([s.get(dials[0]) for s in settings]):
        settings.sort(key=lambda s: float(s[dials[0]]))
        return settings, [float(s[dials[0]]) for s in settings]
    return settings, [float(at) for at in range(len(settings))]


def _shade(axes: Axes, band: Sequence[tuple[float, float, float]], colour: str) -> None:
    x, low, high = zip(*band, strict=True)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def _frame(axes: Axes, palette: Palette) -> None:
    axes.spines[["right", "top"]].set_visible(False)
    axes.grid(axis="y", color=palette.rule, lw=0.6)
    axes.set_axisbelow(True)
