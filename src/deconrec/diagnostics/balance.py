"""Whether weights bring the exposed pairs to look like all pairs, in what is measured of them.

    d = (mean over the biased rows - mean over all pairs) / standard deviation over all pairs

before weighting, and with every biased row weighted. Beside the features stand how active the user and how popular the
item is, as the log of 1 + rows, which are there without any feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconrec.data.dataset import Dataset

LARGE = 0.1  # standardised differences from which covariates are usually called out of balance


@dataclass(frozen=True)
class Covariate:
    """One column.

    Attributes
    ----------
    side: "user" or "item". name: the column's.
    before: d without weights. after: d with each set of weights, by its name.
    """

    side: str
    name: str
    before: float
    after: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"side": self.side, "name": self.name, "before": self.before, "after": dict(self.after)}


def balance(data: Dataset, weights: Mapping[str, np.ndarray]) -> tuple[Covariate, ...]:
    """Every measured column that varies; `weights`: (n,) of the biased rows, by name."""
    out = []
    for side, name, column, known in _columns(data):
        own = (data.biased.user if side == "user" else data.biased.item).astype(np.int64)
        kept = known[own]
        mean, spread = float(column[known].mean()), float(column[known].std())
        if not spread > 1e-9 or not kept.any():
            continue
        x = column[own[kept]]
        after = {k: float(w[kept] @ x / w[kept].sum()) for k, w in weights.items()}
        out.append(
            Covariate(
                side,
                name,
                float((x.mean() - mean) / spread),
                {k: (v - mean) / spread for k, v in after.items()},
            )
        )
    return tuple(out)


def _columns(data: Dataset) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(side, name, (n,) values, (n,) bool known) of every column."""
    for side, code, n, features in (
        ("user", data.biased.user, data.n_users, data.user_features),
        ("item", data.biased.item, data.n_items, data.item_features),
    ):
        rows = np.bincount(code, minlength=n)
        yield side, "rows", np.log1p(rows), np.ones(n, bool)
        for k, name in enumerate(features.names if features is not None else ()):
            assert features is not None
            yield side, name, features.values[:, k].astype(np.float64), ~features.missing
