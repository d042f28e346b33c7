"""A linear decoder over all items and the likelihood of a user's row behind it, in one step.

With logits l = h W' + b, a row's log-likelihood has the gradient a - sigma(l), or n - N softmax(l), in l. Written down
while the logits are in the cache, it takes their place in the one (B, n_items) block that there is, where automatic
differentiation keeps several. What is left are three matrix products, which bfloat16 makes 3 to 4 times faster on
processors that have it; parameters, biases, likelihoods and the optimiser's state keep their own precision.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deconrec.losses.elbo import multinomial_log_likelihood
from deconrec.pairs import Rows

PRECISIONS = ("auto", "float32", "bfloat16")
SMALL = 2**16  # NOTE weights of a decoder below which reduced precision saves nothing worth its rounding
NATIVE = ("amx_bf16", "avx512_bf16", "bf16")  # as torch names it on x86 and ARM
CELLS = 2**17  # NOTE logits worked on at once: with a spare copy they stay in the processor's cache


def decoded_bernoulli(h: Tensor, decode: nn.Linear, rows: Rows, precision: str = "auto") -> Tensor:
    """(B,) sum_i a log s_i + (1 - a) log(1 - s_i), s = sigma(decode(h)): `losses.elbo.bernoulli_log_likelihood`.

    Parameters
    ----------
    h: (B, K) what is decoded.
    precision: of the matrix products: "float32" (that of the parameters), "bfloat16", or "auto": bfloat16 for single
        precision where the processor has it and the decoder is large.
    """
    return _likelihood(h, decode, rows, None, precision)


def decoded_multinomial(
    h: Tensor, decode: nn.Linear | None, rows: Rows, count: Tensor, precision: str = "auto"
) -> Tensor:
    """(B,) sum_i n_i log softmax(decode(h))_i with counts n (nnz,) on the exposed items:
    `losses.elbo.multinomial_log_likelihood`. Parameters as of `decoded_bernoulli`; without a decoder, h are the logits.
    """
    if decode is None:
        return multinomial_log_likelihood(h, rows, count)
    return _likelihood(h, decode, rows, count, precision)


def dtype_of(precision: str, weight: Tensor) -> torch.dtype:
    """The type that a decoder's products are made in."""
    if weight.dtype != torch.float32 or precision == "float32":
        return weight.dtype
    if precision == "bfloat16" or (weight.numel() >= SMALL and native(weight.device.type)):
        return torch.bfloat16
    return torch.float32


@cache
def native(device: str) -> bool:
    """Whether a kind of device multiplies matrices of bfloat16 faster than of float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    if found.get("avx512_fp16", False) and not found.get("amx_bf16", False):
        return False  # NOTE such processors have bfloat16 as a vector instruction of half the rate: slower than float32
    return any(found.get(name, False) for name in NATIVE)


def _likelihood(h: Tensor, decode: nn.Linear, rows: Rows, count: Tensor | None, precision: str) -> Tensor:
    dtype = dtype_of(precision, decode.weight)
    value: Tensor = _Likelihood.apply(h, decode.weight, decode.bias, rows, count, dtype)
    return value


class _Likelihood(torch.autograd.Function):
    """Log-likelihood of rows under decoded logits; without `count`, of their exposures."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor,
        rows: Rows,
        count: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        own, n_items = weight.dtype, weight.shape[0]
        where = rows.row * n_items + rows.item
        h, weight = h.to(dtype), weight.to(dtype)
        block = h @ weight.T  # logits less their bias; slopes take their place
        n = bias.new_ones(len(rows.item)) if count is None else count.to(own)
        by_row = torch.zeros(len(rows), dtype=own, device=h.device)
        seen = block.view(-1).index_select(0, where).to(own) + bias.index_select(0, rows.item)
        value = by_row.index_add(0, rows.row, seen * n)
        total = by_row.index_add(0, rows.row, n)[:, None]

        size = len(rows) if h.device.type != "cpu" else min(len(rows), max(1, CELLS // n_items))
        spare = torch.empty(2, size, n_items, dtype=own, device=h.device)
        for start in range(0, len(rows), max(size, 1)):
            part = block[start : start + size]
            l, t = spare[0, : len(part)], spare[1, : len(part)]
            # The bias is added in its own precision: in 8 bits, logits of rare items would share few values.
            torch.add(part.to(own), bias, out=l)
            if count is None:
                # softplus(l) = max(l, 0) - log max(s, 1 - s): s is needed anyway, and nothing cancels.
                norm = torch.clamp(l, min=0.0, out=t).sum(1)
                torch.sub(1.0, l.sigmoid_(), out=t)
                norm -= torch.maximum(l, t, out=t).log_().sum(1)
                part.copy_(l.neg_())
                value[start : start + size] -= norm
            else:
                n_u = total[start : start + size]
                top = l.amax(1, keepdim=True)
                mass = l.sub_(top).exp_().sum(1, keepdim=True)
                value[start : start + size] -= (n_u * (top + mass.log()))[:, 0]
                part.copy_(l.mul_(-n_u / mass))
        block.view(-1).scatter_add_(0, where, n.to(dtype))
        ctx.save_for_backward(h, weight, block)
        ctx.own = own
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        h, weight, slope = ctx.saved_tensors
        to_h, to_weight, to_bias = ctx.needs_input_grad[:3]
        by_row = gradient.to(slope.dtype)[:, None]  # scales the narrow side, never the block
        return (
            (slope @ weight).to(ctx.own) * gradient[:, None] if to_h else None,
            (slope.T @ (h * by_row)).to(ctx.own) if to_weight else None,
            (by_row.T @ slope)[0].to(ctx.own) if to_bias else None,
            None,
            None,
            None,
        )
