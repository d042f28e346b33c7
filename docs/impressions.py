"""Measures what the guide on impressions says of methods (some twenty minutes), and writes its table and figure.

Fresh simulated worlds at each dial of hidden confounding; the error of pCVR against the truth over held-out
impressions, clicked or not. See measured.py.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from measured import Measured, drawing, svg

from deconrec.evaluation.statistics import holm, paired_t, t_interval
from deconrec.experiments.compare import compare

WORLD = "n_impressions=4000+n_users=120+n_items=40+click_rate=0.25+unbiased_share=1"
DIALS = (0.0, 1.0, 2.0)
WORLDS = 10
DIM = 8
METHODS = ("mf", "mf-combined", "ips", "esmm", "escm2-ips", "escm2-dr", "res-ips", "res-dr")
FLOORS = ("mf", "mf-combined")
METRIC = "mse/pcvr/truth"
LEVEL = 0.05


def runs(dial: float, seeds: Sequence[int], methods: Sequence[str] = METHODS) -> dict[str, list[float]]:
    """The error of every method in every world."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compare(data(dial), [f"{m}:dim={DIM}" for m in methods], seeds=seeds, metrics=[METRIC])
    of = {(r.method.partition(":")[0], r.seed): r.metrics[METRIC] for r in found.runs}
    return {m: [float(of[m, seed] or 0.0) for seed in seeds] for m in methods}


def data(dial: float) -> str:
    """The world's name, as `compare` takes it."""
    return f"sim-impressions:confounding={dial:g}+{WORLD}"


def measure() -> dict[str, Any]:
    """Errors by dial, method and world."""
    return {
        "data": data(1.0),
        "dim": DIM,
        "metric": METRIC,
        "worlds": WORLDS,
        "errors": {f"{dial:g}": runs(dial, range(WORLDS)) for dial in DIALS},
    }


def tests(m: dict[str, Any], floor: str) -> dict[tuple[str, str], tuple[float, float, float, float]]:
    """(difference to a floor, its interval, p corrected over methods and dials) by dial and method."""
    found = {
        (dial, method): paired_t(values, errors[floor])
        for dial, errors in m["errors"].items()
        for method, values in errors.items()
        if method != floor
    }
    corrected = holm([c.p for c in found.values()])
    return {
        key: (c.difference, c.low, c.high, float(p))
        for (key, c), p in zip(found.items(), corrected, strict=True)
    }


def table(m: dict[str, Any]) -> str:
    """Errors, and differences to the floors."""
    dials = list(m["errors"])
    lines = [
        f"Mean squared error of pCVR against the truth, times 1000: mean over {m['worlds']} worlds a dial with its 95 "
        "% interval.",
        "",
        "| method | " + " | ".join(f"dial {d}" for d in dials) + " |",
        "| --- |" + " --- |" * len(dials),
    ]
    for method in m["errors"][dials[0]]:
        cells = []
        for dial in dials:
            i = t_interval(m["errors"][dial][method])
            cells.append(f"{1000 * i.mean:.1f} ({1000 * i.low:.1f} to {1000 * i.high:.1f})")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    for floor in FLOORS:
        found = tests(m, floor)
        lines += [
            "",
            f"Difference to `{floor}`, times 1000 (below 0: better), with its 95 % interval; p of the paired t-test "
            f"over worlds, Holm-corrected over the {len(found)} comparisons of this table; bold where it is below "
            f"{LEVEL:g}.",
            "",
            f"| method against `{floor}` | " + " | ".join(f"dial {d}" for d in dials) + " |",
            "| --- |" + " --- |" * len(dials),
        ]
        for method in m["errors"][dials[0]]:
            if method == floor:
                continue
            cells = []
            for dial in dials:
                difference, low, high, p = found[dial, method]
                said = f"{1000 * difference:+.1f} ({1000 * low:+.1f} to {1000 * high:+.1f}), " + (
                    "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
                )
                cells.append(f"**{said}**" if p < LEVEL else said)
            lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """Gain over `mf` by dial and method, as SVG by file name."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    found = tests(m, "mf")
    methods = [name for name in m["errors"]["0"] if name != "mf"]
    with drawing():
        figure = Figure(figsize=(6.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for turn, dial in enumerate(m["errors"]):
            at = np.arange(len(methods)) + 0.22 * (turn - 1)
            cells = np.array([found[dial, name][:3] for name in methods]) * 1000
            axes.errorbar(
                at,
                cells[:, 0],
                yerr=[cells[:, 0] - cells[:, 1], cells[:, 2] - cells[:, 0]],
                fmt="o",
                ms=4,
                lw=1.2,
                color=COLOURS[turn],
                label=f"dial {dial}",
            )
        axes.axhline(0, color="#888888", lw=0.8, ls="--")
        axes.set_xticks(range(len(methods)), methods, fontsize=8)
        axes.set_ylabel("error less that of mf, times 1000")
        axes.set_title("Below the line: better than mf. 95 % intervals over worlds.", fontsize=9, loc="left")
        axes.legend(frameon=False)
        return {"impressions-gain.svg": svg(figure)}


GUIDE = Measured("impressions", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
