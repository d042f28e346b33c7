"""Sums of table rows, weighted: a sparse matrix of rows times a table, and its gradient.

    out_b = sum_n w_n t_i(n),  n in row b        d / d t_i = sum_n w_n g_b(n),  n with item i

The gradient is the same sum over the transposed matrix, so that both are read in order; automatic differentiation would
sort the entries again and add them up one by one. Entries of weight 0 (dropped ones) are left out of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from deconrec.pairs import Rows


def weighted_sums(table: Tensor, rows: Rows, weight: Tensor) -> Tensor:
    """(B, k) of each row's entries.

    Parameters
    ----------
    table: (n_items, k).
    weight: (nnz,), one for each entry of `rows`; takes no gradient.
    """
    if table.device.type != "cpu":
        return _bags(table, rows.item, rows.offset, weight)
    value: Tensor = _Sums.apply(table, rows, weight)
    return value


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Rows, weight: Tensor) -> Tensor:
        item, offset = rows.item, rows.offset
        kept = weight.nonzero()[:, 0]
        if len(kept) < len(weight):
            offset = torch.searchsorted(kept, offset)
            item, weight = item.index_select(0, kept), weight.index_select(0, kept)
        ctx.save_for_backward(item, offset, weight)
        ctx.n_items = len(table)
        return _bags(table, item, offset, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        item, offset, weight = (t.numpy() for t in ctx.saved_tensors)
        by_item = csr_matrix((weight, item, offset), shape=(len(offset) - 1, ctx.n_items)).tocsc()
        user, start = (torch.from_numpy(a.astype(np.int64)) for a in (by_item.indices, by_item.indptr))
        return _bags(g.contiguous(), user, start, torch.from_numpy(by_item.data)), None, None


def _bags(table: Tensor, index: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return embedding_bag(
        index, table, offset, mode="sum", per_sample_weights=weight, include_last_offset=True
    )
