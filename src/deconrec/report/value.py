"""The value of randomised ratings: a picture, a table for the screen, and one HTML page; no network, no script."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from deconrec.data.files import write_file
from deconrec.errors import ParameterError
from deconrec.experiments.results import Value, higher_is_better
from deconrec.report import plots
from deconrec.report.page import rendered
from deconrec.report.pictures import COLOURS, SHAPES, figure_files
from deconrec.report.reading import NONE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

SUFFIXES = (".png", ".svg")


def table(found: Value) -> Table:
    """Methods by numbers of randomised rows, for the screen."""
    from rich.table import Table

    out = Table(title=f"{found.metric} by randomised rows that train ({found.dataset})")
    out.add_column("method")
    for rows in found.sizes:
        out.add_column(f"{rows:,}", justify="right")
    for name in found.methods:
        out.add_row(name, *(_cell(found, name, rows, interval=False) for rows in found.sizes))
    return out


def _cell(found: Value, method: str, rows: int, *, interval: bool = True) -> str:
    point = found.point(method, rows)
    if point is None or point.mean is None:
        return NONE
    ends = "" if point.low is None or not interval else f" [{point.low:.3f}, {point.high:.3f}]"
    return f"{point.mean:.3f}{ends}"


def check_picture(path: str | None) -> None:
    """Refuse a picture of another kind before anything is computed.

    Raises
    ------
    ParameterError.
    """
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise ParameterError(f"--picture must end in {' or '.join(SUFFIXES)}; got '{path}'.")


def write_picture(found: Value, path: str | Path) -> Path:
    """The curves as a .png or .svg file.

    Raises
    ------
    MissingExtra: matplotlib is not installed.  ParameterError: another suffix.  FileError: it cannot be written.
    """
    check_picture(str(path))
    contents = figure_files((5.6, 4.0), lambda figure: _draw(figure, found))
    write_file(path, contents[Path(path).suffix.lower().lstrip(".")])
    return Path(path)


def _draw(figure: Figure, found: Value) -> None:
    axes = figure.add_subplot()
    for turn, name in enumerate(found.methods):
        points = [p for p in found.points if p.method == name and p.mean is not None]
        x, y = [p.rows for p in points], [float(p.mean or 0.0) for p in points]
        colour, shape = COLOURS[turn % len(COLOURS)], SHAPES[turn % len(SHAPES)]
        axes.plot(x, y, color=colour, marker=shape, lw=1.6, ms=5, label=name)
        band = [(p.rows, p.low, p.high) for p in points if p.low is not None and p.high is not None]
        if band:
            rows, low, high = zip(*band, strict=True)
            axes.fill_between(rows, low, high, color=colour, alpha=0.12, lw=0)
    axes.set_xscale("symlog", linthresh=max(1, next((s for s in found.sizes if s), 1)))
    axes.set_xticks(found.sizes, [f"{s:,}" for s in found.sizes])
    axes.minorticks_off()
    axes.set_xlabel("randomised ratings that train")
    arrow = "higher is better" if higher_is_better(found.metric) else "lower is better"
    axes.set_ylabel(f"{found.metric} ({arrow})")
    name = textwrap.shorten(found.dataset.replace("+", " +"), 70, placeholder=" ...")
    figure.suptitle(f"What randomised ratings are worth\n{name}", fontsize=9, x=0.01, ha="left")
    axes.legend(loc="best")


def render_value(found: Value) -> str:
    """The page of a record.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    direction = "higher is better ↑" if higher_is_better(found.metric) else "lower is better ↓"
    lines = []
    for name in found.methods:
        each = [found.point(name, rows) for rows in found.sizes]
        lines.append([(None, None, None) if p is None else (p.mean, p.low, p.high) for p in each])
    drawn = plots.sweep(
        "value",
        f"{found.metric} over randomised ratings that train, a line a method",
        [f"{rows:,}" for rows in found.sizes],
        lines,
        "randomised ratings that train",
        direction,
    )
    protocol = found.protocol
    facts = {
        "data": f"{protocol['data']['users']:,} users x {protocol['data']['items']:,} items, "
        f"{protocol['data']['rows']:,} biased rows",
        "test rows": f"{protocol['counts']['test']:,}, the same for every size",
        "seeds": f"{len(protocol['seeds'])} ({protocol['world']})",
        "selection": "biased hold-out; defaults of the methods, no search",
        "versions": ", ".join(f"{k} {v}" for k, v in found.environment["versions"].items()),
    }
    gains = [
        [
            g.method,
            f"{g.over:,} → {g.rows:,}",
            NONE if g.difference is None else signed(g.difference),
            NONE if g.low is None or g.high is None else f"{signed(g.low)} to {signed(g.high)}",
            NONE if g.p_holm is None else f"{g.p_holm:.3g}",
        ]
        for g in found.gains
    ]
    return rendered(
        "value.html",
        title="What randomised ratings are worth",
        over=f"value · {found.dataset}",
        finding=found.answer[0],
        metric=found.metric,
        answer=found.answer[1:],
        missing=[*found.missing, *protocol["notes"]],
        figure=drawn,
        key=[(plots.swatch(f"value-{n}", n), name) for n, name in enumerate(found.methods)],
        sizes=[f".{rows:,}" for rows in found.sizes],
        rows=[[name, *(_cell(found, name, rows) for rows in found.sizes)] for name in found.methods],
        gains=gains,
        facts=facts,
    )


def write_value(found: Value, path: str | Path) -> Path:
    """Write the page, whole at the end, and give its path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: the file cannot be written.
    """
    write_file(path, render_value(found))
    return Path(path)


def signed(x: float) -> str:
    """With its sign and four decimals; what rounds to 0 has no sign."""
    return f"{x:+.4f}" if round(x, 4) else "0.0000"
