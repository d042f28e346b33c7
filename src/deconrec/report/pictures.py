"""Figures of a reproduction as files (PNG and SVG): a metric over the settings, or over the methods."""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconrec.data.writing import write_file
from deconrec.errors import MissingExtra
from deconrec.experiments.results import Reproduction, Setting, higher_is_better
from deconrec.report.plots import numeric
from deconrec.report.reading import Reading, described, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0b6e99", "#b4541a", "#3f7d20", "#7a3e9d", "#a3333d", "#8a6d00", "#4a4a4a", "#0f7b6c")
LEGEND_CHARACTERS = 88  # NOTE that stand beside each other below a figure
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
ONE_FRAME = 10  # NOTE methods whose lines can still be told apart in one frame; more have a panel each
COLUMNS = 5  # panels beside each other
DASHES = ("-", "--")  # of the first methods, and of those that take their colours a second time
REFERENCES = ("mf", "mf-combined")  # in grey in every panel
FAR = 8.0  # NOTE median absolute deviations from the median at which a method may flatten all others
FLAT = 0.4  # NOTE share of the frame below which the others are flattened
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "deconrec",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def write_pictures(result: Reproduction, folder: str | Path, stem: str) -> list[Path]:
    """Draw every metric that the experiment asks for: STEM-METRIC.png and .svg; gives the paths of the PNGs.

    Raises
    ------
    MissingExtra: matplotlib is not installed.  FileError: a file cannot be written.
    """
    reading = Reading(result)
    out = []
    for metric in result.picture:
        if all(reading.mean(m, metric, s) is None for m in reading.methods for s in reading.settings):
            continue
        name = f"{stem}-{metric.replace('/', '-').replace('@', '')}"
        contents = figure_files((5.6, 4.2), partial(_draw, result=result, reading=reading, metric=metric))
        for suffix, content in contents.items():
            write_file(Path(folder) / f"{name}.{suffix}", content)
        out.append(Path(folder) / f"{name}.png")
    return out


def figure_files(size: tuple[float, float], draw: Callable[[Figure], None]) -> dict[str, bytes]:
    """{"png", "svg"}: what `draw` draws on a figure of a size in inches, the same bytes every time.

    Raises
    ------
    MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "report", "the figures") from error

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        return {suffix: _saved(figure, suffix) for suffix in ("png", "svg")}


def _saved(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    figure.savefig(buffer, format=suffix, dpi=160, metadata=metadata)
    return buffer.getvalue()


def _draw(figure: Figure, result: Reproduction, reading: Reading, metric: str) -> None:
    """A metric over the settings (a panel a group of them, or a method, where there are many) or over the methods."""
    arrow = "higher is better" if higher_is_better(metric) else "lower is better"
    title = f"{result.title}\n{metric} ({arrow})"
    many, groups = len(reading.methods) > ONE_FRAME, _groups(reading)
    if len(reading.settings) > 1 and (many or len(groups) > 1):
        if many:
            _panels(figure, result, reading, metric)
        else:
            _grouped(figure, reading, metric, groups)
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
        return
    axes = figure.add_subplot()
    if len(reading.settings) > 1:
        for turn, method in enumerate(reading.methods):
            if _ordered(reading):
                _line(axes, reading, metric, method, turn)
            else:
                _bars(axes, reading, metric, method, turn)
        _ticks(axes, reading)
        axes.set_ylabel(metric)
    else:
        _points(figure, axes, reading, metric)
    _published(axes, result, reading, metric, reading.methods)
    _frame(axes, reading, metric)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        widest = max(len(line) for label in labels for line in label.split("\n"))
        columns = max(1, min(4, LEGEND_CHARACTERS // (widest + 7)))
        lines = math.ceil(len(labels) / columns) * max(label.count("\n") + 1 for label in labels)
        figure.set_figheight(figure.get_figheight() + 0.17 * max(0, lines - 3))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)
    axes.set_title(title, fontsize=9, loc="left", wrap=True)


def _panels(figure: Figure, result: Reproduction, reading: Reading, metric: str) -> None:
    """A panel a method, all with one scale and the reference methods in grey."""
    rows = math.ceil(len(reading.methods) / COLUMNS)
    figure.set_size_inches(2.0 * COLUMNS, 1.55 * rows + 0.5)
    grid = list(figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat)
    for turn, (axes, method) in enumerate(zip(grid, reading.methods, strict=False)):
        for shape, reference in zip(("--", ":"), REFERENCES, strict=True):
            if reference in reading.methods and reference != method:
                _line(axes, reading, metric, reference, turn, grey=shape)
        _line(axes, reading, metric, method, turn)
        _published(axes, result, reading, metric, [method])
        axes.set_title(folded(method, 26), fontsize=8)
        axes.tick_params(labelsize=7, labelbottom=turn >= len(reading.methods) - COLUMNS)
        _ticks(axes, reading)
    if beyond := _frame(axes, reading, metric, note=False):
        figure.supylabel(f"beyond the frame: {beyond}", fontsize=7)
    for axes in grid[len(reading.methods) :]:
        axes.set_axis_off()
    grey = " and ".join(
        f"{m} ({s})" for m, s in zip(REFERENCES, ("dashed", "dotted"), strict=True) if m in reading.methods
    )
    paper = any(c.metric == metric and c.verdict != "not comparable" for c in result.verdict.cells)
    says = [
        ", ".join(reading.dials),
        *([f"grey: {grey}"] if grey else []),
        *(["hollow: the paper"] if paper else []),
    ]
    figure.supxlabel("; ".join(says), fontsize=8)


def _across(reading: Reading) -> str | None:
    """The dial that pictures with panels are drawn over: of those that are numbers, the one with most values."""
    values = {n: {s[n] for s in reading.settings if n in s} for n in reading.dials}
    numbers = [n for n, found in values.items() if numeric(list(found))]
    return max(numbers, key=lambda n: len(values[n])) if numbers else None  # of equals, the first


def _groups(reading: Reading) -> dict[str, list[Setting]]:
    """Settings over the dial across, by what the other dials say; {} with one dial."""
    across = _across(reading)
    if len(reading.dials) < 2 or across is None:
        return {}
    groups: dict[str, list[Setting]] = {}
    for setting in reading.settings:
        others = {n: setting[n] for n in reading.dials if n != across and n in setting}
        groups.setdefault(described(others), []).append(setting)
    return groups if max(map(len, groups.values())) > 1 else {}


def _grouped(figure: Figure, reading: Reading, metric: str, groups: Mapping[str, Sequence[Setting]]) -> None:
    """A panel a group of settings, the methods' lines over the dial across in each, on one scale.

    A method that was run at one value only, because the dial is nothing to it, is drawn through.
    """
    across = _across(reading)
    assert across is not None
    columns = min(3, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure.set_size_inches(max(5.6, 3.6 * columns), 3.0 * rows + 1.4)
    grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes, (name, settings) in zip(grid, groups.items(), strict=False):
        for turn, method in enumerate(reading.methods):
            known = [
                (float(s[across]), r)
                for s in settings
                if (r := reading.summary(method, metric, s)) is not None and r.mean is not None
            ]
            if not known:
                continue
            style: dict[str, Any] = {"color": COLOURS[turn % len(COLOURS)]}
            x, y = zip(*sorted((p, r.mean or 0.0) for p, r in known), strict=True)
            shape, dash = SHAPES[turn % len(SHAPES)], DASHES[turn // len(COLOURS) % len(DASHES)]
            axes.plot(x, y, dash, marker=shape, ms=4.5, lw=1.4, label=folded(method), **style)
            if len(known) == 1 < len(settings):
                axes.axhline(y[0], ls=":", lw=1.2, **style)
            band = sorted((p, r.low, r.high) for p, r in known if r.low is not None and r.high is not None)
            if band:
                axes.fill_between(*zip(*band, strict=True), alpha=0.12, lw=0, **style)
        axes.set_title(name, fontsize=8, loc="left")
        axes.set_xticks(sorted({float(s[across]) for s in settings}))
        axes.set_xlabel(across)
    for axes in grid[len(groups) :]:
        axes.set_axis_off()
    grid[0].set_ylabel(metric)
    lines = {
        label: handle
        for axes in grid
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        lines.values(), lines, loc="outside lower center", ncols=min(4, max(1, columns * 2)), fontsize=8
    )


def _line(axes: Axes, reading: Reading, metric: str, method: str, turn: int, grey: str = "") -> None:
    """A method over the settings, with its 95 % band; in grey as a reference."""
    settings, x, _ = _places(reading)
    rows = [(p, reading.summary(method, metric, s)) for p, s in zip(x, settings, strict=True)]
    known = [(p, r.mean, r.low, r.high) for p, r in rows if r is not None and r.mean is not None]
    places, means = [k[0] for k in known], [k[1] for k in known]
    if grey:
        axes.plot(places, means, grey, color="#777777", lw=1.0)
        return
    colour = COLOURS[turn % len(COLOURS)]
    shape, dash = SHAPES[turn % len(SHAPES)], DASHES[turn // len(COLOURS) % len(DASHES)]
    axes.plot(places, means, dash, color=colour, marker=shape, ms=4.5, lw=1.4, label=folded(method))
    band = [k for k in known if k[2] is not None and k[3] is not None]
    if band:
        p, _, low, high = zip(*band, strict=True)
        axes.fill_between(p, low, high, color=colour, alpha=0.12, lw=0)


def _ordered(reading: Reading) -> bool:
    """Whether the settings lie on a scale, so that a line between two of them means something."""
    return numeric([s.get(reading.dials[0]) for s in reading.settings])


def _beside(reading: Reading, turn: int) -> float:
    """How far from a setting's place a method stands, so that methods stand beside each other; 0 on a scale."""
    n = len(reading.methods)
    return 0.0 if _ordered(reading) else (turn - (n - 1) / 2) * 0.7 / n


def _bars(axes: Axes, reading: Reading, metric: str, method: str, turn: int) -> None:
    """A method's mean and 95 % interval at every setting."""
    settings, x, _ = _places(reading)
    style: dict[str, Any] = {"color": COLOURS[turn % len(COLOURS)]}
    places, means = [], []
    for at, setting in zip(x, settings, strict=True):
        row = reading.summary(method, metric, setting)
        if row is None or row.mean is None:
            continue
        places.append(at + _beside(reading, turn))
        means.append(row.mean)
        if row.low is not None and row.high is not None:
            axes.plot([places[-1]] * 2, [row.low, row.high], lw=1.4, **style)
    axes.plot(places, means, SHAPES[turn % len(SHAPES)], ms=5, label=folded(method), **style)


def _ticks(axes: Axes, reading: Reading) -> None:
    settings, x, axis = _places(reading)
    if not numeric([s.get(d) for s in settings for d in reading.dials]) or len(reading.dials) > 1:
        axes.set_xticks(x, [", ".join(short(s.get(d)) for d in reading.dials) for s in settings])
    elif min(x) > 0 and max(x) >= 50 * min(x):
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{v:g}" for v in x])
        axes.minorticks_off()
    else:
        axes.set_xticks(x, [f"{v:g}" for v in x])
    if len(reading.methods) <= ONE_FRAME:
        axes.set_xlabel(axis)


def _frame(axes: Axes, reading: Reading, metric: str, note: bool = True) -> str:
    """Leave methods that are far from all others outside the frame, and say so; gives what is outside, in words."""
    means = {}
    for method in reading.methods:
        rows = [reading.summary(method, metric, s) for s in reading.settings]
        known = [r for r in rows if r is not None and r.mean is not None]
        if known:
            means[method] = (sum(r.mean or 0.0 for r in known) / len(known), known)
    if len(means) < 4:
        return ""
    middle = statistics.median(mean for mean, _ in means.values())
    spread = statistics.median(abs(mean - middle) for mean, _ in means.values())
    far = [m for m, (mean, _) in means.items() if abs(mean - middle) > FAR * spread]

    def ends(methods: Iterable[str]) -> tuple[float, float]:
        values = [v for m in methods for r in means[m][1] for v in (r.mean, r.low, r.high) if v is not None]
        return min(values), max(values)

    (low, high), (lowest, highest) = ends(m for m in means if m not in far), ends(means)
    if not far or high - low > FLAT * (highest - lowest):
        return ""
    margin = 0.05 * (high - low)
    sweep = len(reading.settings) > 1
    (axes.set_ylim if sweep else axes.set_xlim)(low - margin, high + margin)
    words = ", ".join(f"{m} ({means[m][0]:.3g})" for m in far)
    if note:
        axes.text(0.01, 0.01, f"beyond the frame: {words}", transform=axes.transAxes, fontsize=7, va="bottom")
    return words


def _places(reading: Reading) -> tuple[list[Setting], list[float], str]:
    dials, settings = reading.dials, list(reading.settings)
    if len(dials) == 1 and numeric([s.get(dials[0]) for s in settings]):
        settings.sort(key=lambda s: s[dials[0]])
        return settings, [float(s[dials[0]]) for s in settings], dials[0]
    return settings, [float(i) for i in range(len(settings))], ", ".join(dials)


def _points(figure: Figure, axes: Axes, reading: Reading, metric: str) -> None:
    """A point a method with its 95 % interval."""
    names = [m for m in reading.methods if reading.mean(m, metric, reading.settings[0]) is not None]
    for at, method in enumerate(names):
        row = reading.summary(method, metric, reading.settings[0])
        assert row is not None
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [at, at], color=COLOURS[0], lw=2)
        axes.plot(row.mean or 0.0, at, "o", color=COLOURS[0], ms=6)
    labels = [folded(name) for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.invert_yaxis()
    lines = sum(label.count("\n") + 1.6 for label in labels)
    figure.set_figheight(max(figure.get_figheight(), 1.3 + 0.16 * lines))
    axes.set_xlabel(metric)


def _published(
    axes: Axes, result: Reproduction, reading: Reading, metric: str, methods: Sequence[str]
) -> None:
    """The paper's figures as hollow marks, where they can be compared with ours."""
    cells = [c for c in result.verdict.cells if c.metric == metric and c.verdict != "not comparable"]
    if not cells:
        return
    if len(reading.settings) == 1:
        names = [m for m in reading.methods if reading.mean(m, metric, reading.settings[0]) is not None]
        shown = [(c.paper, names.index(c.method)) for c in cells if c.method in names]
        axes.plot(*_columns(shown), "o", mfc="none", mec="#b4541a", ms=7, label="paper")
        return
    settings, x, _ = _places(reading)
    place = {described(s): p for s, p in zip(settings, x, strict=True)}
    for turn, method in enumerate(reading.methods):
        aside = _beside(reading, turn) if len(reading.methods) <= ONE_FRAME else 0.0
        own = [(place[described(c.setting)] + aside, c.paper) for c in cells if c.method == method]
        if own and method in methods:
            colour, shape = COLOURS[turn % len(COLOURS)], SHAPES[turn % len(SHAPES)]
            label = "paper (hollow)" if method == cells[0].method else "_"  # "_": not in the legend
            axes.plot(
                *_columns(sorted(own)), shape, ls=":", lw=1, color=colour, mfc="none", ms=6, label=label
            )


def folded(method: str, width: int = 34) -> str:
    """A method's text in lines of about `width` characters, broken behind "+" and ":" where it must be."""
    lines = [""]
    for part in re.findall(r"[^+:]+[+:]?", method):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]
