"""How much inverse-propensity weights rest on few rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from deconrec.errors import DataError, OverlapWarning


@dataclass(frozen=True)
class Overlap:
    """How much the weights 1 / p rest on few rows.

    Attributes
    ----------
    n: observed rows.
    floored: rows whose propensity was raised to the floor.
    floor: the floor.
    ess: Kish's effective sample size of the weights, (sum w)^2 / sum w^2, in [1, n].
    largest: largest weight over the mean weight.
    tail: share of the sum of weights that the largest hundredth of them hold (at least one row), in (0, 1].
    """

    n: int
    floored: int
    floor: float
    ess: float
    largest: float
    tail: float = 0.0

    @property
    def floored_share(self) -> float:
        """Share of rows at the floor, in [0, 1]."""
        return self.floored / self.n if self.n else 0.0

    @property
    def ess_share(self) -> float:
        """Effective sample size over rows, in (0, 1]."""
        return self.ess / self.n if self.n else 0.0

    @classmethod
    def of(cls, p: np.ndarray, floor: float, w: np.ndarray | None = None) -> Overlap:
        """The overlap of unfloored propensities of the observed rows, (n,); `w` where it is not 1 / max(p, floor)."""
        w = 1.0 / np.maximum(p, floor) if w is None else w
        ess = float(w.sum() ** 2 / (w**2).sum()) if len(w) else 0.0
        largest = float(w.max() / w.mean()) if len(w) else 0.0
        top = max(1, len(w) // 100)
        tail = float(np.partition(w, len(w) - top)[-top:].sum() / w.sum()) if len(w) else 0.0
        return cls(len(p), int((p < floor).sum()), floor, ess, largest, tail)

    def warn(self, who: str) -> None:
        """Warn (OverlapWarning) where weighting rests on fewer rows than a tenth of them."""
        if self.n and self.ess_share < 0.1:
            warnings.warn(
                f"[OVERLAP] {who}: {self.floored_share:.1%} of observed pairs have a propensity below the floor "
                f"{self.floor:g}; effective sample size {self.ess:,.0f} of {self.n:,}. Weighting may add more variance "
                "than it removes bias: compare with 'mf'.",
                OverlapWarning,
                stacklevel=3,
            )

    def to_dict(self) -> dict[str, int | float]:
        """JSON-ready: n, floored (counts), floored_share, floor, ess, ess_share, largest, tail."""
        names = ("floored_share", "floor", "ess", "ess_share", "largest", "tail")
        return {"n": self.n, "floored": self.floored, **{name: float(getattr(self, name)) for name in names}}

    def __str__(self) -> str:
        return (
            f"effective sample size {self.ess:,.0f} of {self.n:,} rows ({self.ess_share:.0%}), "
            f"{self.floored:,} ({self.floored_share:.0%}) at the floor {self.floor:.3g}, largest weight "
            f"{self.largest:.1f} x the mean, the largest hundredth {self.tail:.0%} of the whole"
        )


def refuse_constant(p: np.ndarray, floor: float, who: str) -> None:
    """Refuse propensities that give every observed row the same weight.

    Parameters
    ----------
    p: (n,) unfloored propensities of the observed rows.

    Raises
    ------
    DataError.
    """
    kept = np.maximum(p, floor)
    if len(kept) > 1 and kept.max() - kept.min() <= 1e-6 * kept.max():
        raise DataError(
            f"the propensities of {who} must differ between observed rows; all are {kept[0]:.4g} (before the floor "
            f"{floor:.3g} they run from {p.min():.3g} to {p.max():.3g}), so that weighting would change nothing. Lower "
            "the floor, use another propensity, or use 'mf'."
        )
