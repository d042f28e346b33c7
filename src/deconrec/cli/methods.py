"""`deconrec methods`: what there is, and what each method needs."""

from __future__ import annotations

from typing import Any

from deconrec.cli import output
from deconrec.cli.options import Json, Quiet


def methods(json: Json = None, quiet: Quiet = False) -> None:
    """List the methods: what each is, its paper, and what it needs."""
    rows = method_rows()
    if json:
        output.write_json(rows, json)
        return
    from rich.table import Table

    table = Table(
        "name",
        "method",
        "paper",
        "needs unbiased",
        "features",
        "impressions",
        "shape",
        box=None,
        pad_edge=False,
    )
    for row in rows:
        yes = {True: "yes", False: ""}
        table.add_row(
            row["name"],
            row["title"],
            row["paper"],
            yes[row["needs_unbiased"]],
            yes[row["uses_features"]],
            yes[row["impressions"]],
            row["shape"],
        )
    output.show(table)


def method_rows() -> list[dict[str, Any]]:
    """One record a method, with its default parameters, and the aliases."""
    from deconrec.methods import ALIASES, METHODS, make

    rows = []
    for name in [*METHODS, *ALIASES]:
        model = make(name)
        tags = model.tags
        title = type(model).title + (f" ({ALIASES[name].partition(':')[2]})" if name in ALIASES else "")
        rows.append(
            {
                "name": name,
                "paper": type(model).paper,
                "title": title,
                "needs_unbiased": tags.needs_unbiased,
                "uses_features": tags.uses_features,
                "shape": tags.shape,
                "impressions": tags.impressions,
            }
        )
    return rows
