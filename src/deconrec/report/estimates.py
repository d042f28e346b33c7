"""Off-policy estimates: a table for the screen, and one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deconrec.experiments.results import Estimated, Evaluation
from deconrec.report import plots
from deconrec.report.page import rendered, write_page
from deconrec.report.reading import NONE

if TYPE_CHECKING:
    from rich.table import Table


def table(found: Evaluation) -> Table:
    """Metrics with intervals, effective rows and grade."""
    from rich.table import Table

    out = Table(title=f"{found.method} on {found.dataset}, estimated by {found.estimator}", box=None)
    out.add_column("metric")
    for head in ("estimate", "95 % interval", "effective rows", "rows"):
        out.add_column(head, justify="right")
    out.add_column("grade")
    for row in found.estimates:
        out.add_row(row.metric, _value(row), _ends(row), f"{row.ess:,.0f}", f"{row.rows:,}", row.grade)
    return out


def render_estimates(found: Evaluation) -> str:
    """The page of a record.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    first = found.estimates[0]
    return rendered(
        "estimates.html",
        title="What a model is worth over all pairs",
        over=f"evaluate · {found.method} on {found.dataset}",
        finding=f"{first.metric} is {_value(first)} (95 % interval {_ends(first)}), estimated by {found.estimator}; "
        f"{first.grade}.",
        answer=[*found.notes, *(f"{row.metric}: {row.says}" for row in found.estimates if row.says)],
        figures=[
            (row.metric, _drawn(f"e{n}", row), f"{row.ess:,.0f} effective rows of {row.rows:,}: {row.grade}.")
            for n, row in enumerate(found.estimates)
            if row.estimate is not None
        ],
        rows=[
            [row.metric, _value(row), _ends(row), f"{row.ess:,.0f}", f"{row.rows:,}", row.grade]
            for row in found.estimates
        ],
        facts=[
            (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
            for name, value in found.log.items()
        ],
    )


def write_estimates(found: Evaluation, path: str | Path, pictures: str | Path | None = None) -> Path:
    """Write the page, and its figures as files where `pictures` names a folder; gives the page's path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    return write_page(lambda: render_estimates(found), path, pictures)


def _drawn(key: str, row: Estimated) -> str:
    mark = plots.Row(row.estimator, row.estimate, row.low, row.high, _value(row))
    return plots.forest(key, f"{row.metric} {_value(row)}, {_ends(row)}", [mark], row.metric)


def _value(row: Estimated) -> str:
    return NONE if row.estimate is None else f"{row.estimate:.4f}"


def _ends(row: Estimated) -> str:
    return NONE if row.low is None else f"{row.low:.4f} to {row.high:.4f}"
