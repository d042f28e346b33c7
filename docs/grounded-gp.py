"""Measures how often intervals of grounded-gp hold the truth (25 minutes), and writes the guide's table: measured.py.

Worlds of `sim-pairs`, with and without causes that belong to one pair alone, and of `sim-deconf` with a randomised log.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from measured import Measured

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth

SEEDS = range(600, 610)
LEVEL, PAIRS = 0.9, 3000
SMALL = {"n_users": 800, "n_items": 300, "unbiased_share": 0.02}
DECONF = {"n_factors": 30, "weight_scale": 2 / np.sqrt(30), "exposure_rate": 0.05}
World = Callable[[int], tuple[Dataset, Truth]]


def pairs(confounding: float, idiosyncratic: float) -> World:
    """A world of `sim-pairs` by its seed."""
    return lambda seed: dc.simulate.pairs(
        confounding=confounding, idiosyncratic=idiosyncratic, seed=seed, **SMALL
    )


def deconf(gamma_theta: float) -> World:
    """A world of `sim-deconf` by its seed; with 30 factors, weights are scaled to give scores of the same size."""
    return lambda seed: dc.simulate.deep_deconf(gamma_theta=gamma_theta, seed=seed, **SMALL, **DECONF)


WORLDS: dict[str, World] = {
    **{f"`sim-pairs`, confounding {c:g}, nothing of one pair alone": pairs(c, 0.0) for c in (0.0, 1.0, 2.0)},
    **{
        f"`sim-pairs`, confounding {c:g}, half of it of one pair alone": pairs(c, 0.5)
        for c in (0.0, 1.0, 2.0)
    },
    **{f"`sim-deconf`, gamma_theta {g:g}": deconf(g) for g in (0.1, 0.5, 0.9)},
}


def held(table: Any, truth: np.ndarray) -> float:
    """Share of true values inside their intervals."""
    return float(((table["low"].to_numpy() <= truth) & (truth <= table["high"].to_numpy())).mean())


def measure() -> dict[str, Any]:
    """Shares of item means, user means and pairs inside their intervals, one of each a world."""
    rows = []
    for name, world in WORLDS.items():
        for seed in SEEDS:
            data, truth = world(seed)
            model = dc.GroundedGP(seed=seed).fit(data, refit=True)
            outcome = np.asarray(truth.outcome, np.float64)
            rng = np.random.default_rng(seed)
            u, i = (rng.integers(0, n, PAIRS) for n in data.shape)
            asked = data.users.decode(u), data.items.decode(i)
            of_pairs = model.intervals(asked, level=LEVEL)
            # In `sim-deconf` a pair's outcome is its rating; in `sim-pairs` it is the probability of one.
            of_ratings = (
                None if data.outcome_scale.binary else model.intervals(asked, level=LEVEL, of="rating")
            )
            rows.append(
                {
                    "world": name,
                    "seed": seed,
                    "items": held(model.means("items", level=LEVEL), outcome.mean(0)),
                    "users": held(model.means("users", level=LEVEL), outcome.mean(1)),
                    "pairs": held(of_pairs, outcome[u, i]),
                    "ratings": None if of_ratings is None else held(of_ratings, outcome[u, i]),
                }
            )
    return {"level": LEVEL, "worlds": len(SEEDS), "size": SMALL, "rows": rows}


def table(m: dict[str, Any]) -> str:
    """Mean shares and the least of a world."""
    size = m["size"]
    lines = [
        f"{m['worlds']} worlds each ({size['n_users']} users, {size['n_items']} items, {size['unbiased_share']:.0%} of "
        f"all pairs randomised). Share of true values inside intervals of {m['level']:.0%}, and the least of a world.",
        "",
        "| world | item means | user means | pairs | single ratings |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(r["world"] for r in m["rows"]):
        cells = []
        for what in ("items", "users", "pairs", "ratings"):
            values = [r[what] for r in m["rows"] if r["world"] == name and r[what] is not None]
            cells.append(f"{np.mean(values):.2f} ({min(values):.2f})" if values else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


GUIDE = Measured("grounded-gp", measure, table, lambda m: {})

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
