"""The value of randomised ratings: a picture, a table for the screen, and one HTML page; no network, no script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deconrec.experiments.results import Value, higher_is_better
from deconrec.report import plots
from deconrec.report.page import rendered, write_page
from deconrec.report.reading import NONE

if TYPE_CHECKING:
    from rich.table import Table


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


def render_value(found: Value) -> str:
    """The page of a record.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    direction = "higher is better ↑" if higher_is_better(found.metric) else "lower is better ↓"
    lines = {}
    for name in found.methods:
        each = [found.point(name, rows) for rows in found.sizes]
        lines[name] = [(None, None, None) if p is None else (p.mean, p.low, p.high) for p in each]
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


def write_value(found: Value, path: str | Path, pictures: str | Path | None = None) -> Path:
    """Write the page, and its figures as files where `pictures` names a folder; gives the page's path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    return write_page(lambda: render_value(found), path, pictures)


def signed(x: float) -> str:
    """With its sign and four decimals; what rounds to 0 has no sign."""
    return f"{x:+.4f}" if round(x, 4) else "0.0000"
