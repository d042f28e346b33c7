"""`deconrec report RESULT.json --out FILE.html`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Quiet


def report(
    result: Annotated[str, typer.Argument(metavar="RESULT.json", help="The JSON of a comparison.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE.html", help="The report.")],
    quiet: Quiet = False,
) -> None:
    """Draw the HTML report of a comparison from its JSON."""
    from deconrec.experiments.results import Result
    from deconrec.report.html import write_report

    write_report(Result.read(result), out)
    output.say(f"report: {out}")
