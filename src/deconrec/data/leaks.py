"""Label leaks: one context column that alone predicts the click or the conversion.

A column is scored by its value, by whether it is missing, or, for categories, by the label's rate in its category over
the other half of the rows, so that a category of one row does not predict itself. An AUC of `LEAK` or more, either way
round, is what no honest feature reaches: such a column was written after the label was known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from deconrec.data.dataset import Log

LEAK = 0.98  # NOTE AUC; the best single features of click logs stay below 0.9
LEAST = 5  # NOTE rows of either label below which an AUC says nothing
MOST = 200_000  # rows that are looked at; more are thinned evenly


@dataclass(frozen=True)
class Leak:
    """What a column alone says of a label: a leak where its AUC is `LEAK` or more.

    Attributes
    ----------
    column: its name.
    label: "click" or "conversion" (among clicked rows).
    auc: of the column alone, in [0.5, 1].
    """

    column: str
    label: str
    auc: float

    def __str__(self) -> str:
        return (
            f"the context column '{self.column}' alone predicts the {self.label} with AUC {self.auc:.3f}: it "
            "seems to be written after the label is known, and a model that reads it will fail where it is served. "
            "Leave it out of `context`."
        )


def find_leaks(log: Log, click: np.ndarray) -> list[Leak]:
    """The leaks of an impression log: `log` holds all rows, click is (n,) bool."""
    return [found for found in alone(log, click) if found.auc >= LEAK]


def alone(log: Log, click: np.ndarray) -> list[Leak]:
    """What every column says of either label, leak or not; nothing of a label that hardly varies."""
    best: dict[tuple[str, str], Leak] = {}
    everything = np.arange(len(log))
    for label, rows, values in (
        ("click", everything, click),
        ("conversion", np.flatnonzero(click), log.rating),
    ):
        rows = rows[:: max(1, len(rows) // MOST)]
        y = np.asarray(values[rows] > 0)
        if min(y.sum(), (~y).sum()) < LEAST:
            continue
        for column, score in _scores(log, rows, y):
            value = _auc(score, y)
            leak = Leak(column, label, max(value, 1 - value))
            key = column, label
            if key not in best or best[key].auc < leak.auc:
                best[key] = leak
    return list(best.values())


def _scores(log: Log, rows: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(column, (n,) score) of every way in which a column may predict."""
    context = log.context
    assert context is not None  # an impression log has one
    for k, number in enumerate(context.schema.numbers):
        x = context.numbers[rows, k]
        gap = np.isnan(x)
        yield number.name, np.where(gap, np.float32(number.mean), x)
        if gap.any():
            yield number.name, gap.astype(np.float32)
    half = np.arange(len(rows)) % 2 == 0
    mean = float(y.mean())
    for k, category in enumerate(context.schema.categories):
        code = context.codes[rows, k] - context.codes[rows, k].min()
        score = np.empty(len(rows))
        for own, other in ((half, ~half), (~half, half)):
            n = np.bincount(code[other], minlength=int(code.max()) + 1)
            s = np.bincount(code[other], weights=y[other], minlength=int(code.max()) + 1)
            score[own] = ((s + mean) / (n + 1))[code[own]]
        yield category.name, score


def _auc(score: np.ndarray, y: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order, ties half, as `evaluation.rating.auc`."""
    _, place = np.unique(score, return_inverse=True)
    up, down = np.bincount(place, weights=y), np.bincount(place, weights=~y)
    below = np.cumsum(down) - down
    return float(up @ (below + down / 2) / (up.sum() * down.sum()))
