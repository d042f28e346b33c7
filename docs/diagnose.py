"""Measures what the guide on diagnose says (some half an hour), and writes its table and figure; see measured.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from doctors import LEVEL, cell_of, cells_of, power_figure, power_table, size_table
from measured import Measured

import deconrec as dc
from deconrec.diagnostics.confounding import confounding, exposure_model

AGAIN = "200 x 60, again"
SMALL: dict[str, Any] = {"n_users": 200, "n_items": 60, "exposure_rate": 0.1}
SHAPES: dict[str, dict[str, Any]] = {
    "200 x 60": {**SMALL, "unbiased_share": 0.1},
    AGAIN: {**SMALL, "unbiased_share": 0.1},
    "400 x 150": {"n_users": 400, "n_items": 150, "unbiased_share": 0.03},
    "500 x 25": {"n_users": 500, "n_items": 25, "exposure_rate": 0.1, "unbiased_share": 0.06},
    "200 x 60, few random rows": {**SMALL, "unbiased_share": 0.01},
    "200 x 60, hardly any": {**SMALL, "unbiased_share": 0.005},
    "300 x 80, rare outcome (5 %)": {
        **{"n_users": 300, "n_items": 80, "exposure_rate": 0.1},
        **{"unbiased_share": 0.01, "outcome_rate": 0.05},
    },
}
# Worlds without hidden confounding.
SIZE = dict(zip(SHAPES, (400, 250, 100, 185, 185, 185, 150), strict=True))
POWERED = "200 x 60"  # the shape whose power is measured
DIALS = (0.1, 0.25, 0.5, 1.0)
SHARES = (0.01, 0.03, 0.1)
POWER = 20  # worlds a dial and share
FIRST = 30_000  # seed of the first world
EARLIER = (
    700_000  # ... and of the worlds of AGAIN, on which the form of the error was chosen: they stand apart
)


def world(shape: str, dial: float, seed: int, share: float | None = None) -> dict[str, Any]:
    """The test on one world."""
    settings = SHAPES[shape] | ({} if share is None else {"unbiased_share": share})
    data, _ = dc.simulate.pairs(confounding=dial, seed=seed if seed >= EARLIER else FIRST + seed, **settings)
    found = confounding(data, exposure_model(data), seed)
    assert found.gap is not None
    assert found.naive_low is not None
    assert found.naive_high is not None
    return {
        "shape": shape,
        "dial": dial,
        "share": settings["unbiased_share"],
        "seed": seed,
        "gap": found.gap,
        "error": found.error,
        "p": found.p,
        "rows": found.rows,
        "naive": found.naive,
        "naive_rejects": found.naive_low * found.naive_high > 0,
    }


def worlds() -> Iterator[tuple[str, float, int, float | None]]:
    """Everything that is drawn: (shape, dial, seed, share)."""
    for shape, most in SIZE.items():
        for seed in range(most):
            yield shape, 0.0, EARLIER + seed if shape == AGAIN else seed, None
    for share in SHARES:
        for dial in DIALS:
            for seed in range(POWER):
                yield POWERED, dial, 1_000 + seed, share


def measure() -> dict[str, Any]:
    """Size at dial 0, power over the dial and the randomised rows."""
    return record([world(*w) for w in worlds()])


def record(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of the worlds."""
    cells = cells_of(found, SHAPES, SHARES, DIALS)
    return {"level": LEVEL} | {name: [cell_of(drawn) for drawn in each] for name, each in cells.items()}


def table(m: dict[str, Any]) -> str:
    """The measured numbers as Markdown."""
    lines = [
        *size_table(m["size"], "usable randomised rows", "mean difference of the logs"),
        "",
        _together(m["size"]),
        "",
        *power_table(m["power"], "usable randomised rows"),
        "",
        f"Lower table: share of {m['power'][0]['worlds']} worlds ({POWERED}) a cell in which hidden confounding is "
        "found at 5 %, and the mean gap.",
    ]
    return "\n".join(lines) + "\n"


def _together(size: list[dict[str, Any]]) -> str:
    worlds, found = (
        sum(n) for n in zip(*((c["worlds"], c["rejected"] * c["worlds"]) for c in size), strict=True)
    )
    share = found / worlds
    spread = (share * (1 - share) / worlds) ** 0.5
    return (
        f"All {worlds:,} worlds together: {share:.1%} ± {spread:.1%}. *Again*: other seeds of the first row, on which "
        "the form of the error was chosen."
    )


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """Power over the dial, by file name."""
    title = f"sim-pairs, {POWERED.replace(' x ', ' users x ')} items."
    return {"diagnose-power.svg": power_figure(m, "randomised rows", title)}


GUIDE = Measured("diagnose", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
