"""Processes that train one model together. Every collective call of the library stands here.

Each process (a rank) draws the same global batch from the same generators and works on its part of it. What a loss
makes of a sample is made by `Pairs.expect` and `Rows.mean`, which sum over ranks, so that a term has the same value on
every rank: that of the global batch. All ranks together are one program, in which the derivative of a sum over ranks is
the sum of the derivatives. So terms that are no sums over rows (self-normalised weights, the square of a difference of
two means, a virtual step) have their own gradient, too; averaged over ranks, it is that of one process. Optimisers then
make the same move everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from deconrec.errors import WorkerLost

LARGE = 2**20  # NOTE elements of a table from which on its rows are exchanged alone, where few are touched

_CURRENT: ContextVar[Ranks | None] = ContextVar("ranks", default=None)


@dataclass(frozen=True)
class Ranks:
    """Where a process stands among those that train one model: `rank` in [0, size). All make the same calls."""

    rank: int
    size: int

    def part(self, n: int) -> slice:
        """What this rank has of n rows."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum(self, x: Tensor) -> Tensor:
        """The sum over ranks, differentiable (twice, too)."""
        total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]  # torch gives `apply` no types
        return total

    def mean(self, gradients: list[Tensor]) -> list[Tensor]:
        """The mean over ranks of each of these, the same bits on all."""
        large = [g.dim() > 0 and g.numel() >= LARGE for g in gradients]
        small = [g for g, is_large in zip(gradients, large, strict=True) if not is_large]
        out = []
        flat: Iterator[Tensor] = iter(())
        if small:
            joined = torch.cat([g.reshape(-1) for g in small])
            _call(dist.all_reduce, joined)
            flat = iter(torch.split(joined, [g.numel() for g in small]))
        for g, is_large in zip(gradients, large, strict=True):
            total = self._sum_of_touched(g) if is_large else next(flat).reshape(g.shape)
            out.append(total / self.size)
        return out

    def _sum_of_touched(self, g: Tensor) -> Tensor:
        """The sum of tables of which each rank has touched a few rows; only these travel."""
        rows = torch.nonzero((g != 0).reshape(len(g), -1).any(1))[:, 0]
        counts = self._gather(torch.tensor([len(rows)], device=g.device))
        most = max(int(n) for n in counts)
        if 2 * self.size * most >= len(g):
            g = g.contiguous()
            _call(dist.all_reduce, g)
            return g
        index, values = rows.new_zeros(most), g.new_zeros(most, *g.shape[1:])
        index[: len(rows)], values[: len(rows)] = rows, g[rows]
        total = torch.zeros_like(g)
        for n, where, what in zip(counts, self._gather(index), self._gather(values), strict=True):
            total.index_add_(0, where[: int(n)], what[: int(n)])  # in one order: the same bits on all ranks
        return total

    def _gather(self, x: Tensor) -> list[Tensor]:
        """Tensors of equal shape of all ranks."""
        found = [torch.empty_like(x) for _ in range(self.size)]
        _call(dist.all_gather, found, x.contiguous())
        return found

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """(m,) values of all ranks, one rank's after the other's; here are (n,) of them."""
        own = torch.from_numpy(np.ascontiguousarray(values))
        counts = [int(n) for n in self._gather(torch.tensor([len(own)]))]
        padded = own.new_zeros(max(counts))
        padded[: len(own)] = own
        return torch.cat([t[:n] for t, n in zip(self._gather(padded), counts, strict=True)]).numpy()

    def same(self, *tensors: Tensor) -> None:
        """Overwrite these by what rank 0 has."""
        for tensor in tensors:
            _call(dist.broadcast, tensor, 0)

    def same_nets(self, nets: nn.Module) -> None:
        """Overwrite networks by those of rank 0."""
        self.same(*(t.data for t in (*nets.parameters(), *nets.buffers())))

    def same_number(self, value: float) -> float:
        """The number that rank 0 has."""
        kept = torch.tensor([value], dtype=torch.float64)
        self.same(kept)
        return float(kept)

    def same_bytes(self, content: bytes) -> bytes:
        """The bytes that rank 0 has."""
        size = torch.tensor([len(content)])
        self.same(size)
        kept = torch.zeros(int(size), dtype=torch.uint8)
        if self.rank == 0:
            kept = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        self.same(kept)
        return kept.numpy().tobytes()


class _Sum(torch.autograd.Function):
    """The sum over ranks; its derivative is the sum over ranks of what each makes of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone(memory_format=torch.contiguous_format)
        _call(dist.all_reduce, total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradients[0])  # type: ignore[no-untyped-call]  # torch gives `apply` no types
        return total


def _call(collective: Callable[..., Any], *given: Any) -> None:
    try:
        collective(*given)
    except RuntimeError as error:  # what every backend raises when another process is gone
        said = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise WorkerLost(f"another process of this training went away: {said}") from error


# ---------------------------------------------------------------------- who trains together
def current() -> Ranks | None:
    """The ranks that train together here; None where this process trains alone."""
    return _CURRENT.get()


@contextmanager
def joined(rank: int, size: int, store: Any = None, device: str = "cpu") -> Iterator[Ranks | None]:
    """Train inside together with the other ranks, each of which calls this; None where there is no other.

    Parameters
    ----------
    store: a `torch.distributed` store that all ranks reach; None = torchrun's.
    device: "cuda" = the GPU of this machine whose turn it is, by LOCAL_RANK or the rank.

    Raises
    ------
    WorkerLost: the others did not come, or went away.
    """
    if size == 1:
        yield None
        return
    gpus = torch.cuda.device_count() if device.startswith("cuda") else 0
    local, here = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if gpus:
        torch.cuda.set_device(local % gpus)
    backend = "cpu:gloo,cuda:nccl" if gpus >= here else "gloo"  # a GPU has room for one rank of NCCL
    try:
        store = _of_torchrun() if store is None else store
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    except RuntimeError as error:
        raise WorkerLost(f"the processes of this training did not find each other: {error}") from error
    token = _CURRENT.set(Ranks(rank, size))
    try:
        yield _CURRENT.get()
    finally:
        _CURRENT.reset(token)
        dist.destroy_process_group()


def _of_torchrun() -> dist.Store | None:
    """The store of torchrun; a restart has a part of its own, because addresses of those that are gone stay in it."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    whole = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return dist.PrefixStore(f"deconrec/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", whole)
