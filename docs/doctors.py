"""What both doctors' guides share: cells of worlds, the table of sizes, and power over the dial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from measured import drawing, svg

LEVEL = 0.05
Cell = dict[str, Any]


def cell_of(drawn: Sequence[Cell]) -> Cell:
    """What is kept of the worlds of one setting; those in which the test declined (p None) are counted apart."""
    tested = [w for w in drawn if w["p"] is not None]
    gap, error, p = (np.array([w[k] for w in tested]) for k in ("gap", "error", "p"))
    rejected = float((p < LEVEL).mean())
    return {
        "shape": tested[0]["shape"],
        "dial": tested[0]["dial"],
        "share": tested[0]["share"],
        "worlds": len(tested),
        "declined": len(drawn) - len(tested),
        "rows": round(float(np.mean([w["rows"] for w in tested]))),
        "rejected": rejected,
        "rejected_error": float(np.sqrt(rejected * (1 - rejected) / len(tested))),
        "naive_rejected": float(np.mean([w["naive_rejects"] for w in tested])),
        "naive": float(np.mean([w["naive"] for w in tested])),
        "gap": float(gap.mean()),
        "spread": float(gap.std(ddof=1)),
        "error": float(error.mean()),
    }


def cells_of(
    found: Sequence[Cell], shapes: Iterable[str], shares: Iterable[float], dials: Iterable[float]
) -> dict[str, Any]:
    """Size at dial 0 by shape, and power by share of randomised rows and dial: (the worlds of each cell)."""
    return {
        "size": [[w for w in found if w["shape"] == s and w["dial"] == 0] for s in shapes],
        "power": [
            [w for w in found if w["dial"] == dial > 0 and w["share"] == share]
            for share in shares
            for dial in dials
        ],
    }


def size_table(size: Sequence[Cell], rows: str, naive: str) -> list[str]:
    """The table of sizes; `rows` and `naive` name what is counted, and what is compared without the test."""
    return [
        f"| no hidden confounding | worlds | {rows} | {naive} | ... called found | mean gap | its spread over worlds, "
        "mean standard error | **hidden confounding called found** |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {c['shape']} | {c['worlds']} | {c['rows']:,} | {c['naive']:+.3f} | {c['naive_rejected']:.0%} | "
            f"{c['gap']:+.4f} | {c['spread']:.4f}, {c['error']:.4f} | **{c['rejected']:.1%}** ± "
            f"{c['rejected_error']:.1%} |"
            for c in size
        ),
    ]


def power_table(power: Sequence[Cell], rows: str) -> list[str]:
    """Shares called found, a line a number of randomised rows, a column a dial."""
    dials = list(dict.fromkeys(c["dial"] for c in power))
    lines = [
        f"| {rows} | " + " | ".join(f"dial {d:g}" for d in dials) + " |",
        "| --- |" + " --- |" * len(dials),
    ]
    for cells in _by_share(power):
        found = " | ".join(f"{c['rejected']:.0%} (gap {c['gap']:+.3f})" for c in cells)
        lines.append(f"| {_rows(cells):,} | {found} |")
    return lines


def power_figure(record: dict[str, Any], rows: str, title: str) -> bytes:
    """Power over the dial as SVG, a line a number of randomised rows."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    with drawing():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        zero = record["size"][0]
        for colour, cells in zip(COLOURS, _by_share(record["power"]), strict=False):
            x, y = [c["dial"] for c in cells], [c["rejected"] for c in cells]
            if cells[0]["share"] == zero["share"]:
                x, y = [0.0, *x], [zero["rejected"], *y]
            axes.plot(x, y, "o-", color=colour, label=f"{_rows(cells):,} {rows}")
        axes.axhline(record["level"], color="#999999", lw=0.8, ls="--")
        axes.set(
            xlabel="confounding (0 = none)",
            ylabel="hidden confounding called found",
            ylim=(0, 1.03),
            xticks=[0, *dict.fromkeys(c["dial"] for c in record["power"])],
        )
        axes.set_title(f"{title} Dashed: 5 %.", fontsize=9, loc="left")
        axes.legend(frameon=False, loc="lower right")
        return svg(figure)


def _by_share(power: Sequence[Cell]) -> list[list[Cell]]:
    return [[c for c in power if c["share"] == s] for s in dict.fromkeys(c["share"] for c in power)]


def _rows(cells: Sequence[Cell]) -> int:
    return round(float(np.mean([c["rows"] for c in cells])))
