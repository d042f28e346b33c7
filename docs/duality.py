"""Measures what the guide on red and blue lovers says (about three minutes), and draws it; see measured.py.

The toy is the guide's own code: its blocks are run, so that nothing is said twice.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from functools import cache
from typing import Any

import numpy as np
from measured import GUIDES, Measured, drawing, svg

SEEDS = range(10)
LEVELS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
EXPLORED = (0.0, 0.02, 0.05, 0.1, 0.2)
METHODS = ("mf", "wmf:reads=exposures", "deconf-mf", "concat-vae", "deep-deconf")
RED, BLUE = "#c8503c", "#3b6fb6"


@cache
def toy() -> dict[str, Any]:
    """What the guide's code defines."""
    names: dict[str, Any] = {}
    text = (GUIDES / "duality.md").read_text(encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
            exec(compile(block, "duality.md", "exec"), names)
    return names


def measure() -> dict[str, Any]:
    """Both signals and the methods over the level and, at level 1, over the share of random exposure."""
    lovers, before, fitted = (toy()[name] for name in ("lovers", "before", "fitted"))
    signals = {name: toy()[f"by_{name}"] for name in ("ratings", "exposures")}

    def row(level: float, explore: float) -> dict[str, Any]:
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in SEEDS:
            exposed, rating = lovers(level, explore, seed=seed)
            hated = ~exposed & (rating == 1)
            for name, signal in signals.items():
                found.setdefault(name, []).append((before(signal(exposed, rating), exposed, rating), 0.0))
            for name in METHODS:
                guess = fitted(name, exposed, rating, seed)
                found.setdefault(name, []).append((before(guess, exposed, rating), guess[hated].mean()))
        mean = {name: np.mean(values, 0) for name, values in found.items()}
        return {
            "level": level,
            "explore": explore,
            "before": {name: round(float(v[0]), 4) for name, v in mean.items()},
            "hated": {name: round(float(mean[name][1]), 4) for name in METHODS},
        }

    return {
        "seeds": len(SEEDS),
        "levels": [row(level, 0.0) for level in LEVELS],
        "explored": [row(1.0, share) for share in EXPLORED],
    }


def table(m: dict[str, Any]) -> str:
    """The measured numbers as Markdown."""

    def rows(key: str, dial: str, shown: str) -> list[str]:
        lines = []
        for row in m[key]:
            cells = [f"{row['before'][name]:.2f} / {row['hated'][name]:.1f}" for name in METHODS]
            lines.append(f"| {row[dial]:{shown}} | {' | '.join(cells)} |")
        return lines

    head = f"{' | '.join(f'`{name}`' for name in METHODS)} |"
    rule = f"|{' --- |' * (len(METHODS) + 1)}"
    return "\n".join(
        [
            "Loved before hated, and the rating predicted for what is hated (the truth is 1); means of "
            f"{m['seeds']} draws.",
            "",
            f"| level | {head}",
            rule,
            *rows("levels", "level", "g"),
            "",
            "The same at level 1, where a share of what is shown is drawn at random:",
            "",
            f"| random | {head}",
            rule,
            *rows("explored", "explore", ".0%"),
            "",
        ]
    )


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """The log at both ends, and the two forces."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    out = {}
    with drawing():
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        for axes, level, words in zip(
            figure.subplots(1, 2),
            (0, 1),
            ("no confounding: both ratings are seen", "full: only fives"),
            strict=True,
        ):
            exposed, rating = (a[:10, :16] for a in toy()["lovers"](level))
            for u, i in np.argwhere(exposed):
                axes.text(i, u, f"{rating[u, i]:.0f}", ha="center", va="center", color="white", fontsize=7.5)
            colour = np.ones((*exposed.shape, 3))
            for parity, tint in ((0, BLUE), (1, RED)):
                rgb = [int(tint[k : k + 2], 16) / 255 for k in (1, 3, 5)]
                colour[exposed & (np.arange(16) % 2 == parity)] = rgb
            axes.imshow(colour)
            axes.set(xlabel="item", title=words, xticks=[], yticks=range(10))
            axes.set_yticklabels(["blue lover", "red lover"] * 5, fontsize=7)
            axes.tick_params(length=0)
            for side in ("left", "bottom"):
                axes.spines[side].set_visible(False)
        out["duality-log.svg"] = svg(figure)

        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        x = [row["level"] for row in m["levels"]]
        for name, words, colour, style in (
            ("ratings", "ratings alone", COLOURS[1], "s--"),
            ("exposures", "exposures alone", COLOURS[2], "^--"),
            ("deep-deconf", "deep-deconf", COLOURS[0], "o-"),
        ):
            y = [row["before"][name] for row in m["levels"]]
            left.plot(x, y, style, color=colour, label=words, ms=4)
        left.axhline(0.5, color="#999999", lw=0.8)
        left.set(xlabel="level of confounding", ylabel="loved before hated", ylim=(0.45, 1.03))
        left.legend(frameon=False, loc="center right")
        for name, colour in zip(
            ("mf", "deconf-mf", "deep-deconf"), (COLOURS[3], COLOURS[4], COLOURS[0]), strict=True
        ):
            right.plot(x, [row["hated"][name] for row in m["levels"]], "o-", color=colour, label=name, ms=4)
        right.axhline(1.0, color="#999999", lw=0.8)
        right.set(xlabel="level of confounding", ylabel="rating predicted for what is hated", ylim=(0.8, 5.2))
        right.annotate("truth", (0.45, 0.96), fontsize=8, color="#666666", va="top")
        right.legend(frameon=False, loc="upper left")
        out["duality-forces.svg"] = svg(figure)
    return out


GUIDE = Measured("duality", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
