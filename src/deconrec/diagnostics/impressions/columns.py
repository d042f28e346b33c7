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
MOST_VALUES = 150  # NOTE columns of categories; the larger categories beyond are levels
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
    sources: list[tuple[str, np.ndarray]] = []
    numbers, plain = _numbers(context)
    sources += [("number", numbers[:, [k]]) for k in range(plain)]
    sources.append(("power", numbers[:, plain:]))
    so_far = 0
    for k, category in sorted(enumerate(context.schema.categories), key=lambda one: len(one[1].values)):
        place = context.codes[:, k]
        so_far += len(category.values)
        if len(category.values) > FEW or so_far > MOST_VALUES:
            codes.append(category.placed(place).astype(np.int64))
            sizes.append(category.size)
            continue
        values = [v for v in (MISSING, *range(len(category.values))) if (place == v).sum() >= RARE]
        sources.append(("category", (place[:, None] == np.array(values, np.int32)).astype(np.float32)))
    blocks = [*(block for _, block in sources), *_products(sources)]
    number = np.maximum(np.arange(len(blocks)) - len(sources) + 1, 0)
    group = np.repeat(number, [block.shape[1] for block in blocks])
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


def _products(sources: list[tuple[str, np.ndarray]]) -> list[np.ndarray]:
    """(n, k) products of the columns of two sources each: whole groups, while there are at most `MOST` columns."""
    pairs: dict[tuple[str, ...], list[tuple[np.ndarray, np.ndarray]]] = {}
    for a, (kind, left) in enumerate(sources):
        for other, right in sources[a + 1 :]:
            pairs.setdefault(tuple(sorted((kind, other))), []).append((left, right))
    out: list[np.ndarray] = []
    size = 0
    for kinds in (("number", "number"), ("category", "number"), ("category", "category")):
        group = pairs.get(kinds, [])
        more = sum(left.shape[1] * right.shape[1] for left, right in group)
        if size + more > MOST:
            continue
        size += more
        out += [(left[:, :, None] * right[:, None, :]).reshape(len(left), -1) for left, right in group]
    return out
