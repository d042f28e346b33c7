"""Whether weights bring the clicked impressions to look like all impressions, in what is measured of them.

    d = (mean over the clicked rows - mean over all impressions) / standard deviation over all impressions

before weighting, and with every clicked row weighted. Beside the context stand how many impressions the user and the
item have, as the log of 1 + rows. A category is a column a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from deconrec.data.context import MISSING
from deconrec.data.impressions import Impressions, unit_weight
from deconrec.diagnostics.balance import Covariate

LEAST = 0.01  # NOTE share of impressions below which a value, or a gap, is no column
MOST = 30  # NOTE values of a category that are looked at, the most frequent


def balance(shown: Impressions, weights: Mapping[str, np.ndarray]) -> tuple[Covariate, ...]:
    """Every measured column that varies; `weights`: (n_clicked,) by name, sample weights and all."""
    out = []
    base, own = shown.weight.astype(np.float64), unit_weight(shown.clicked).astype(np.float64)
    for side, name, column, known in _columns(shown):
        kept = known[shown.click]
        if not kept.any():
            continue
        mean = float(np.average(column[known], weights=base[known]))
        spread = float(np.sqrt(np.average((column[known] - mean) ** 2, weights=base[known])))
        if not spread > 1e-9:
            continue
        x = column[shown.click][kept]
        before, *after = (
            (float(np.average(x, weights=w[kept])) - mean) / spread for w in (own, *weights.values())
        )
        out.append(Covariate(side, name, before, dict(zip(weights, after, strict=True))))
    return tuple(out)


def _columns(shown: Impressions) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(side, name, (n,) values, (n,) bool known) of every column."""
    everything = np.ones(len(shown), bool)
    for side, code in (("user", shown.log.user), ("item", shown.log.item)):
        yield side, "rows", np.log1p(np.bincount(code))[code], everything
    context, least = shown.context, LEAST * len(shown)
    for k, number in enumerate(context.schema.numbers):
        x = context.numbers[:, k].astype(np.float64)
        known = np.isfinite(x)
        yield "context", number.name, np.where(known, x, 0.0), known
        if least <= (~known).sum() <= len(shown) - least:
            yield "context", f"{number.name} missing", (~known).astype(np.float64), everything
    for k, category in enumerate(context.schema.categories):
        code = context.codes[:, k]
        count = np.bincount(np.maximum(code, 0)[code >= 0], minlength=len(category.values))
        for v in np.argsort(-count, kind="stable")[:MOST]:
            if count[v] >= least:
                yield "context", f"{category.name}={category.values[int(v)]}", (code == v) * 1.0, everything
        if (code == MISSING).sum() >= least:
            yield "context", f"{category.name} missing", (code == MISSING) * 1.0, everything
