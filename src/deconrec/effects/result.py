"""`Effects`: estimated effects beside the naive ones, and verdicts on what they rest on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from deconrec.errors import DataError
from deconrec.records import finite

Status = Literal["holds", "warns", "refuses", "assumed"]
NORMAL = 1.959963984540054  # 97.5 % quantile of the standard normal
SHOWN = 8  # rows of each kind that a printed result names


@dataclass(frozen=True)
class Verdict:
    """One thing that effects rest on.

    Attributes
    ----------
    code: its name, an anchor of the guide on effects.
    status: "holds", "warns", "refuses" (the estimates are no effects), or "assumed" (no data can tell).
    value, uncertainty, threshold: what was measured, its standard error, and what it was held against; None where
        there is none.
    says: what follows, one sentence.
    cannot_see: what this verdict does not cover.
    """

    code: str
    status: Status
    value: float | None
    uncertainty: float | None
    threshold: float | None
    says: str
    cannot_see: str

    def __str__(self) -> str:
        measured = "" if self.value is None else f" {self.value:.4g}"
        measured += "" if self.uncertainty is None else f" ± {self.uncertainty:.2g}"
        measured += "" if self.threshold is None else f" (threshold {self.threshold:g})"
        return f"[{self.code}] {self.status}{measured}: {self.says}"


@dataclass(frozen=True)
class SweepPoint:
    """Effects with one dimension of z.

    Attributes
    ----------
    dim: dimension K.
    p: the predictive check's overall p on users that were not trained on; None without a check.
    log_likelihood: held-out log-likelihood of exposures, nats a cell.
    behind: how far it is behind the best dimension, nats a user, and `behind_error` the paired standard error.
    linear_share: R2(z | a).
    own: mean effect of an item's exposure on its own outcome.
    moved: root mean square difference of the own effects from the naive ones.
    chosen: whether this dimension gave the result.
    """

    dim: int
    p: float | None
    log_likelihood: float | None
    behind: float | None
    behind_error: float | None
    linear_share: float | None
    own: float | None
    moved: float | None
    chosen: bool


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of exposing causes on the outcomes of items.

    Attributes
    ----------
    causes, items: raw ids of the J exposed items and of the I items whose outcome is looked at.
    naive, adjusted: (J, I) effects without and with the substitute confounder; NaN where the rows do not give one.
    error: (J, I) standard error of `adjusted` from a bootstrap over users that refits z; None without a bootstrap.
    error_known_z: (J, I) least-squares standard error as if z were known, for comparison; None for networks.
    unit: "outcome" (the outcome's own unit), "logit" or "probability".
    settings: how it was computed: outcome, treatments, kind, at, dim, bootstrap, users, seed, ...
    sweep: effects over the dimension of z.
    verdicts: what they rest on.
    """

    causes: pl.Series
    items: pl.Series
    naive: np.ndarray
    adjusted: np.ndarray
    error: np.ndarray | None
    error_known_z: np.ndarray | None
    unit: str
    settings: dict[str, Any]
    sweep: tuple[SweepPoint, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    even_if_refused: bool = False
    seconds: float = field(default=0.0)

    @property
    def refused(self) -> bool:
        """Whether a verdict refuses: `adjusted` is then what the fit says, and no effect."""
        return any(v.status == "refuses" for v in self.verdicts)

    @property
    def shown(self) -> bool:
        """Whether tables, JSON and report hold the adjusted numbers."""
        return self.even_if_refused or not self.refused

    @property
    def low(self) -> np.ndarray | None:
        """(J, I) lower ends of the 95 % intervals, or None."""
        return None if self.error is None else self.adjusted - NORMAL * self.error

    @property
    def high(self) -> np.ndarray | None:
        """(J, I) upper ends of the 95 % intervals, or None."""
        return None if self.error is None else self.adjusted + NORMAL * self.error

    def own(self, what: Literal["naive", "adjusted", "error"] = "adjusted") -> np.ndarray:
        """(n,) effects of items' exposure on their own outcome, for items that are cause and item, in `items` order."""
        values = getattr(self, what)
        if values is None:
            raise DataError("these effects have no intervals: ask for them with bootstrap=50.")
        place = {c: j for j, c in enumerate(self.causes.to_list())}
        pairs = [(place[i], at) for at, i in enumerate(self.items.to_list()) if i in place]
        return np.array([values[j, i] for j, i in pairs])

    def frame(self) -> pl.DataFrame:
        """cause_id, item_id, naive, adjusted, low, high, own: a row a pair that has an estimate.

        Raises
        ------
        DataError: a verdict refuses, and even_if_refused was not asked for.
        """
        if not self.shown:
            raise DataError(
                "these estimates are no effects: "
                + " ".join(str(v) for v in self.verdicts if v.status == "refuses")
                + " even_if_refused=True shows what the fit says."
            )
        return self._frame()

    def _frame(self) -> pl.DataFrame:
        j, i = np.nonzero(np.isfinite(self.naive) | np.isfinite(self.adjusted))
        causes, items = self.causes.gather(j), self.items.gather(i)

        def column(values: np.ndarray | None) -> pl.Series:
            if values is None:
                return pl.Series([None] * len(j), dtype=pl.Float64)
            return pl.Series(values[j, i].astype(np.float64)).fill_nan(None)

        return pl.DataFrame(
            {
                "cause_id": causes,
                "item_id": items,
                "naive": column(self.naive),
                "adjusted": column(self.adjusted if self.shown else None),
                "low": column(self.low if self.shown else None),
                "high": column(self.high if self.shown else None),
                "own": (causes == items),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, null for what is not known; adjusted effects are null where a verdict refuses."""
        rows = self._frame().to_dicts()
        return {
            "kind": "effects",
            "unit": self.unit,
            "refused": self.refused,
            "settings": self.settings,
            "verdicts": [finite(asdict(v)) for v in self.verdicts],
            "sweep": [finite(asdict(p)) for p in self.sweep] if self.shown else [],
            "summary": self.summary(),
            "effects": [finite(row) for row in rows],
            "seconds": self.seconds,
        }

    def summary(self) -> dict[str, float | int | None]:
        """Means over own effects and over effects on other items, naive beside adjusted."""
        frame = self._frame()
        out: dict[str, float | int | None] = {}
        for name, rows in (("own", frame.filter(pl.col("own"))), ("other", frame.filter(~pl.col("own")))):
            out[f"{name}_pairs"] = len(rows)
            for column in ("naive", "adjusted"):
                value = rows[column].mean() if len(rows) else None
                out[f"{name}_{column}"] = float(value) if isinstance(value, float) else None
        return out

    def to_json(self) -> str:
        """JSON without NaN."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def write(self, path: str | Path) -> None:
        """Write the JSON to a file, whole at the end."""
        from deconrec.data.writing import write_file

        write_file(Path(path), self.to_json() + "\n")

    def __str__(self) -> str:
        lines = [self.headline(), *(f"  {v}" for v in self.verdicts)]
        frame = self._frame()
        if self.shown:
            ranked = frame.sort(pl.col("adjusted").abs(), descending=True, nulls_last=True)
            for own, title in ((True, "own effects"), (False, "effects on other items")):
                rows = ranked.filter(pl.col("own") == own).head(SHOWN)
                if len(rows):
                    lines.append(
                        f"  largest {title} ({self.unit}): cause -> item, naive, adjusted, 95 % interval"
                    )
                for row in rows.iter_rows(named=True):
                    lines.append("    " + _line(row))
        return "\n".join(lines)

    def headline(self) -> str:
        """The result in a sentence."""
        if not self.shown:
            codes = ", ".join(v.code for v in self.verdicts if v.status == "refuses")
            return f"No effects are given: refused by {codes}."
        s = self.summary()
        said = "What the fit says, which is NOT an effect" if self.refused else "Effects"
        parts = []
        for name, words in (("own", "of an item's exposure on its own outcome"), ("other", "on other items")):
            adjusted, naive = s[f"{name}_adjusted"], s[f"{name}_naive"]
            if adjusted is not None and naive is not None:
                parts.append(f"{words} {adjusted:+.3f} on average (naive {naive:+.3f})")
        unsure = [v.code for v in self.verdicts if v.status == "warns"]
        tail = f"; doubtful: {', '.join(unsure)}" if unsure else ""
        return f"{said} ({self.unit}): {'; '.join(parts) or 'no pair has enough rows'}{tail}."


def _line(row: dict[str, Any]) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:+.3f}"

    between = "–" if row["low"] is None else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
    return (
        f"{row['cause_id']} -> {row['item_id']}  {number(row['naive'])}  {number(row['adjusted'])}  {between}"
    )
