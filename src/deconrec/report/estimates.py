"""Off-policy estimates for the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deconrec.experiments.results import Evaluation
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
        ends = NONE if row.low is None else f"{row.low:.4f} to {row.high:.4f}"
        value = NONE if row.estimate is None else f"{row.estimate:.4f}"
        out.add_row(row.metric, value, ends, f"{row.ess:,.0f}", f"{row.rows:,}", row.grade)
    return out
