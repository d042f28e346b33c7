"""Measures what a fit costs by its ratings, users and items (10 minutes), and writes the guide's tables: measured.py.

Processor time and memory of passes over random logs of two or more sizes, each in a process of its own, solved for what
one rating, one user and one parameter cost. Beside that what processes that train together pay for an exchange, and
what a checkpoint costs.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measured import Measured

SEED, BATCH, DIM = 0, 8192, 32
VAE_USERS, WIDTH = 200, 100  # users in a step, hidden width: the defaults of `concat-vae`
ALS_DIM = 64
GIB = 2**30
MACHINE = 16 * GIB
PAPER = (10**6, 10**7, 10**8, 10**9)  # users
RATINGS, ITEMS = 50, 10**5  # of a user; of the catalogue

# (users, items, ratings): the first of a family, then one with more ratings, one with more users, one with more items.
SIZES = {
    "pairs": [(100_000, 10_000, 10**6), (100_000, 10_000, 2 * 10**6), (200_000, 10_000, 10**6)],
    "rows": [
        *((4000, 2000, 200_000), (4000, 2000, 400_000), (8000, 2000, 400_000)),
        (4000, 8000, 200_000),
    ],
    "als": [(50_000, 10_000, 10**6), (50_000, 10_000, 2 * 10**6), (150_000, 10_000, 10**6)],
    "gp": [(10_000, 2000, 200_000), (10_000, 2000, 400_000), (30_000, 2000, 200_000)],
}
ROUNDS = 2, 5  # passes of the two fits whose difference is timed


def log(n_users: int, n_items: int, n: int) -> Any:
    """A random log, with every user and item in its vocabularies."""
    import deconrec as dc

    return dc.Dataset.from_frames(
        rows(n_users, n_items, n),
        users=pl.DataFrame({"user_id": np.arange(n_users)}),
        items=pl.DataFrame({"item_id": np.arange(n_items)}),
    )


def rows(n_users: int, n_items: int, n: int) -> pl.DataFrame:
    """The log's table."""
    rng = np.random.default_rng(SEED)
    cells = np.unique(rng.integers(0, n_users * n_items, n + n // 10))
    cells = np.sort(rng.permutation(cells)[:n])
    frame = pl.DataFrame({"user_id": cells // n_items, "item_id": cells % n_items})
    return frame.with_columns(rating=pl.Series(rng.integers(0, 2, len(cells)).astype(np.float32)))


def method(family: str, rounds: int) -> Any:
    """The family's plainest method, that makes so many passes."""
    import deconrec as dc

    return {
        "pairs": lambda: dc.MF(dim=DIM, batch=BATCH, epochs=rounds, patience=0),
        "rows": lambda: dc.ConcatVAE(batch=VAE_USERS, hidden=(WIDTH,), epochs=rounds, patience=0),
        "als": lambda: dc.WMF(dim=ALS_DIM, iterations=rounds),
        "gp": lambda: dc.GroundedGP(burn=2, draws=4 * rounds, kept=4),
    }[family]()


def seconds(family: str, size: tuple[int, int, int]) -> float:
    """Processor seconds of a pass."""
    import torch

    torch.set_num_threads(1)
    data = log(*size)
    method(family, 1).fit(log(50, 40, 400))  # what is imported and compiled the first time
    taken = []
    for rounds in ROUNDS:
        each = []
        for _ in range(2):
            started = time.process_time()
            method(family, rounds).fit(data)
            each.append(time.process_time() - started)
        taken.append(min(each))  # of a machine that does other things too
    passes = (ROUNDS[1] - ROUNDS[0]) * (4 if family == "gp" else 1)
    return (taken[1] - taken[0]) / passes


def peak(family: str, path: str) -> int:
    """Bytes that reading a log and a fit take at most, beyond the libraries."""
    import deconrec as dc

    method(family, 1).fit(log(50, 40, 400))
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    method(family, 1).fit(dc.Dataset.from_frames(path))
    return memory("VmHWM") - before


def cost(family: str, size: tuple[int, int, int]) -> dict[str, float]:
    """Both, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/log.parquet"
        rows(*size).write_parquet(path)
        return {"seconds": apart(seconds, family, size), "bytes": apart(peak, family, path)}


def memory(name: str) -> int:
    """Bytes that this process has (VmRSS) or had at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


def exchange(rank: int, port: int) -> dict[str, float]:
    """Seconds of a sum of one number over two processes of this machine, and of a float32 in a large one."""
    import torch
    from torch.distributed import TCPStore

    from deconrec.training.distributed import joined

    torch.set_num_threads(1)
    with joined(rank, 2, TCPStore("127.0.0.1", port, is_master=rank == 0)) as ranks:
        assert ranks is not None

        def of(n: int, times: int) -> float:
            x, taken = torch.ones(n), []
            for _ in range(times):
                started = time.perf_counter()
                ranks.sum(x)
                taken.append(time.perf_counter() - started)
            return float(np.median(taken))

        of(1, 50)
        return {"call": of(1, 500), "number": of(4 * 10**6, 20) / (4 * 10**6)}


def checkpoint() -> dict[str, float]:
    """Seconds of a byte of a checkpoint of 128 MB, and bytes of one by parameter."""
    import deconrec as dc
    from deconrec.training.checkpoints import Checkpoint, keeping

    written: list[tuple[float, int]] = []

    class Noted(Checkpoint):
        """Writes twice."""

        @property
        def due(self) -> bool:
            return len(written) < 2

        def write(self, path: Path, *given: Any) -> None:
            super().write(path, *given)
            written.append((self._took, path.stat().st_size))

    data, dim = log(200_000, 10_000, 100_000), DIM
    with tempfile.TemporaryDirectory() as folder, keeping(Noted(Path(folder) / "kept", {})):
        dc.MF(dim=dim, epochs=1, patience=0, batch=10**5).fit(data)
    took, size = written[0]
    parameters = 210_000 * (dim + 1) + 1
    return {"seconds": took / size, "bytes": size / parameters, "size": float(size)}


def apart(function: Callable[..., Any], *given: Any) -> Any:
    """The call, in a process of its own: its peak of memory is that of nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def measure() -> dict[str, Any]:
    """Costs by family and size, of an exchange, and of a checkpoint."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    families: dict[str, list[dict[str, float]]] = {}
    for family, sizes in SIZES.items():
        families[family] = [cost(family, size) for size in sizes]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        first, _ = (pool.submit(exchange, rank, port) for rank in range(2))
        exchanged = first.result()
    return {
        "sizes": SIZES,
        "families": families,
        "exchange": exchanged,
        "checkpoint": apart(checkpoint),
        "batch": BATCH,
    }


# ---------------------------------------------------------------------- from the record
def constants(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Seconds of a pass and bytes of a fit, by what they are counted in.

    A pass of pairs: seconds = rating x R + parameter x steps x P, P parameters in tables that every step goes over.
    Of rows: rating x R + user x U + cell x U I. Of als and gp: rating x R + id x (U + I). Bytes are solved alike.
    """
    out = {}
    for family, found in record["families"].items():
        columns: list[tuple[float, ...]] = []
        counts: list[tuple[float, ...]] = []
        for users, items, ratings in record["sizes"][family]:
            if family == "pairs":
                parameters = (users + items) * (DIM + 1)
                columns.append((ratings, np.ceil(ratings * 0.85 / record["batch"]) * parameters))
                counts.append((ratings, parameters))
            elif family == "rows":
                columns.append((ratings, users, users * items))
                counts.append((ratings, items))
            else:
                columns.append((ratings, users + items))
                counts.append((ratings, users + items))
        names = {"pairs": ("rating", "parameter"), "rows": ("rating", "user", "cell")}.get(
            family, ("rating", "id")
        )
        taken = least(columns, [f["seconds"] for f in found])
        memory_names = {"pairs": ("rating", "parameter"), "rows": ("rating", "item")}.get(
            family, ("rating", "id")
        )
        held = least(counts, [f["bytes"] for f in found])
        out[family] = {f"s/{n}": float(v) for n, v in zip(names, taken, strict=True)}
        out[family] |= {f"B/{n}": float(v) for n, v in zip(memory_names, held, strict=True)}
    return out


def least(columns: list[tuple[float, ...]], values: list[float]) -> np.ndarray:
    """Non-negative least squares of relative errors."""
    from scipy.optimize import nnls

    a, y = np.asarray(columns, float), np.asarray(values, float)
    scale = a.max(0)
    return nnls(a / scale / y[:, None], np.ones(len(y)))[0] / scale


def room(c: dict[str, dict[str, float]], family: str, users: float) -> float:
    """Bytes of a fit with `RATINGS` of each user and `ITEMS`."""
    found, ids = c[family], users + ITEMS
    return (
        users * RATINGS * found["B/rating"]
        + {
            "pairs": lambda: ids * (DIM + 1) * found["B/parameter"],
            "rows": lambda: ITEMS * found["B/item"],
            "als": lambda: ids * found["B/id"],
            "gp": lambda: ids * found["B/id"],
        }[family]()
    )


def work(c: dict[str, dict[str, float]], family: str, users: float) -> float:
    """Processor seconds of a pass over the same; pairs in batches at which tables cost as much as ratings."""
    found = c[family]
    ratings = users * RATINGS * found["s/rating"]
    return {
        "pairs": lambda: 2 * ratings,
        "rows": lambda: ratings + users * found["s/user"] + users * ITEMS * found["s/cell"],
        "als": lambda: ratings + (users + ITEMS) * found["s/id"],
        "gp": lambda: ratings + (users + ITEMS) * found["s/id"],
    }[family]()


def most_users(c: dict[str, dict[str, float]], family: str) -> float:
    """Users that a machine holds; memory is linear in them."""
    each = (room(c, family, 1e6) - room(c, family, 0)) / 1e6
    return (MACHINE - room(c, family, 0)) / each


def rounded(x: float, unit: str = "") -> str:
    """Two digits."""
    if x == 0:
        return "0"
    for factor, prefix in (
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1, ""),
        (1e-3, "m"),
        (1e-6, "µ"),
        (1e-9, "n"),
        (0, "p"),
    ):
        if x >= factor:
            return f"{float(f'{x / (factor or 1e-12):.2g}'):g} {prefix}{unit}"
    raise AssertionError(x)


def placed(took: float) -> str:
    """A time that a person can place."""
    for size, name in ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if took >= size:
            return f"{float(f'{took / size:.2g}'):g} {name}"
    return f"{float(f'{took:.2g}'):g} s"


def table(m: dict[str, Any]) -> str:
    """Constants; what a machine holds; the same on paper."""
    c, size = constants(m), m["exchange"]
    about = {
        "pairs": f"pairs (`mf`, `dim` {DIM})",
        "rows": f"rows (`concat-vae`, width {WIDTH})",
        "als": f"als (`wmf`, `dim` {ALS_DIM})",
        "gp": "gp (`grounded-gp`), a draw",
    }
    lines = [
        "| family | a pass takes, processor time | reading and fitting hold |",
        "| --- | --- | --- |",
    ]
    for family, text in about.items():
        parts = []
        for sign, unit in (("s/", "s"), ("B/", "B")):
            values = {k.removeprefix(sign): v for k, v in c[family].items() if k.startswith(sign)}
            each = {"parameter": "parameter and step"} if sign == "s/" else {}
            parts.append(", ".join(f"{rounded(v, unit)} a {each.get(k, k)}" for k, v in values.items() if v))
        lines.append(
            f"| {text} | {' | '.join(parts)} |".replace("a item", "an item").replace("a id", "a user or item")
        )
    rows, balance = c["rows"], c["pairs"]["s/parameter"] / c["pairs"]["s/rating"]
    lines += [
        "",
        f"Tables cost a pair method as much as its ratings where `batch` is "
        f"{balance:.1%} of the parameters: "
        f"{rounded(balance * (DIM + 1) * (10**6 + ITEMS))} ratings for a million users. "
        f"The decoder's products of the rows run at {6 * WIDTH / rows['s/cell'] / 1e9:.0f} GFLOP/s, optimiser and "
        "likelihood included.",
        "",
        f"An exchange between two processes of one machine: {rounded(size['call'], 's')} a call, and "
        f"{rounded(size['number'], 's')} a number. A checkpoint: {m['checkpoint']['bytes']:.0f} B a parameter, "
        f"{rounded(m['checkpoint']['seconds'] * 1e6, 's')} a megabyte; at the usual 30 seconds "
        f"{30 / m['checkpoint']['seconds'] * 0.05 / m['checkpoint']['bytes']:.2g} parameters take the 5 % that it may.",
        "",
        f"With {RATINGS} ratings of each user and {ITEMS:,} items, one machine of 16 GB holds:",
        "",
        "| family | users | ratings | a pass, one core |",
        "| --- | --- | --- | --- |",
    ]
    for family, text in about.items():
        users = most_users(c, family)
        lines.append(
            f"| {text} | {rounded(users)} | {rounded(users * RATINGS)} | {placed(work(c, family, users))} |"
        )
    lines += [
        "",
        "On paper, memory of each machine, and processor time of a pass:",
        "",
        "| users | " + " | ".join(about.values()) + " |",
        "| --- |" + " --- |" * len(about),
    ]
    for users in PAPER:
        cells = [f"{rounded(room(c, f, users), 'B')}, {placed(work(c, f, users))}" for f in about]
        lines.append(f"| {users:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


GUIDE = Measured("cost-model", measure, table, lambda m: {})

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
