"""What is measured of an impression, as columns that the doctor's models read.

Numbers are standardised, cut and bent as features are (`diagnostics.measured`), with an indicator of gaps beside them.
Categories with few values are a column a value; those with many are levels, as users and items are. Products of columns
of different sources stand beside them, group by group (numbers, numbers with categories, categories) as far as there is
room: what the context does to clicks is seldom a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconrec.data.context import MISSING, Context
from deconrec.data.dataset import Features, Log
from deconrec.diagnostics.measured import design

FEW = 40  # values up to which a category is a column a value
RARE = 20  # NOTE rows below which a value, or a product, has no column: it would say next to nothing
MOST = 200  # NOTE products


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of n rows of one log, or of several, one below another.

    Attributes
    ----------
    x: (n, k) float32: numbers, categories, then products, without a constant.
    group: (k,) 0 for a number or category, else the number, from 1, of the two sources that a product is of.
    codes: (n,) int64 codes of each factor with levels: users, items, categories with many values.
    sizes: levels of each factor.
    """

    x: np.ndarray
    group: np.ndarray
    codes: tuple[np.ndarray, ...]
    sizes: tuple[int, ...]

    def take(self, rows: np.ndarray | slice) -> Columns:
        """The columns of these rows."""
        return Columns(self.x[rows], self.group, tuple(c[rows] for c in self.codes), self.sizes)

    def __len__(self) -> int:
        return len(self.x)


def columns(logs: tuple[Log, ...], shape: tuple[int, int]) -> Columns:
    """The columns of the logs' rows, in their order; shape: (n_users, n_items)."""
    contexts = [log.context for log in logs if log.context is not None]
    assert len(contexts) == len(logs)  # impressions have a context, with or without columns
    context = contexts[0]
    for other in contexts[1:]:
        context = context.joined(other)
    codes = [
        np.concatenate([getattr(log, side) for log in logs]).astype(np.int64) for side in ("user", "item")
    ]
    sizes = [*shape]
    sources: list[tuple[str, np.ndarray, np.ndarray]] = []  # kind, columns, those of them that enter products
    numbers, plain = _numbers(context)
    sources += [("number", numbers[:, [k]], numbers[:, [k]]) for k in range(plain)]
    if numbers.shape[1] > plain:
        sources.append(("power", numbers[:, plain:], numbers[:, :0]))
    for k, category in enumerate(context.schema.categories):
        place = context.codes[:, k]
        if len(category.values) > FEW:
            codes.append(category.placed(place).astype(np.int64))
            sizes.append(category.size)
            continue
        values = [v for v in (MISSING, *range(len(category.values))) if (place == v).sum() >= RARE]
        shown = np.column_stack([place == v for v in values] or [np.zeros(len(place), bool)])
        sources.append(("category", shown.astype(np.float32), shown.astype(np.float32)))
    blocks = [np.zeros((len(context), 0), np.float32), *(s for _, s, _ in sources), *_products(sources)]
    group = np.repeat(
        np.maximum(np.arange(len(blocks)) - len(sources), 0), [block.shape[1] for block in blocks]
    )
    x = np.column_stack(blocks)
    kept = (x != 0).sum(0) >= RARE
    kept &= x.std(0) > 1e-6
    x = x[:, kept]
    x -= x.mean(0)
    x /= x.std(0)
    return Columns(x, group[kept], tuple(codes), tuple(sizes))


def _numbers(context: Context) -> tuple[np.ndarray, int]:
    """((n, k) numbers, gaps and powers, how many of them are not powers)."""
    given = context.inputs()
    if not given.shape[1]:
        return given, 0
    nothing = np.zeros(len(given), bool)
    x, plain = design(Features(tuple(map(str, range(given.shape[1]))), given, nothing), len(given))
    return x[:, 1:].astype(np.float32), plain


def _products(sources: list[tuple[str, np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """(n, k) products of the columns of two sources each: whole groups, while there are at most `MOST` columns."""
    kinds: dict[tuple[str, ...], list[np.ndarray]] = {}
    for a, (kind, _, left) in enumerate(sources):
        for other, _, right in sources[a + 1 :]:
            each = (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)
            kinds.setdefault(tuple(sorted((kind, other))), []).append(each)
    out: list[np.ndarray] = []
    for kind in (("number", "number"), ("category", "number"), ("category", "category")):
        found = [p for p in kinds.get(kind, []) if p.shape[1]]
        if sum(p.shape[1] for p in (*out, *found)) <= MOST:
            out += found
    return out
