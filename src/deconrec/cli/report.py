"""`deconrec report RESULT.json --out FILE.html`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Pictures, Quiet


def report(
    result: Annotated[
        str, typer.Argument(metavar="RESULT.json", help="The JSON of a comparison or a reproduction.")
    ],
    out: Annotated[str, typer.Option("--out", metavar="FILE.html", help="The report.")],
    pictures: Pictures = None,
    quiet: Quiet = False,
) -> None:
    """Draw the HTML report of a comparison from its JSON."""
    from deconrec.experiments.results import Reproduction, Result
    from deconrec.report.html import write_report
    from deconrec.report.paper import sections

    read = Result.read(result)
    if isinstance(read, Reproduction):
        write_report(read, out, title=read.title, extra=sections(read), pictures=pictures)
    else:
        write_report(read, out, pictures=pictures)
    output.say(f"report: {out}")
