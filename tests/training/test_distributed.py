"""Processes that train together: as one, bit for bit the same on all, and exchanging no more than was touched."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deconrec.errors import ParameterError
from deconrec.methods import METHODS, make
from deconrec.torch_estimator import not_shared
from deconrec.training import distributed
from deconrec.training.distributed import Ranks
from training import together

FAST = (
    *("mf", "large", "snips", "autodebias", "impressions escm2-dr"),
    *("res-dr:agreement=loss+shared=true", "deep-deconf:variational=true+hidden=8"),
)


def fit_all(size: int, folder: Path, cases: tuple[str, ...]) -> None:
    """The cases, fitted by so many processes."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, together.__file__, str(rank), str(size), str(port), str(folder), *cases],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        for process in ranks:
            said = process.communicate(timeout=500)[1]
            assert process.returncode == 0, said
    finally:
        for process in ranks:
            process.kill()


def learned(folder: Path, case: str, rank: int) -> dict[str, np.ndarray]:
    """What a rank learned, without what took time."""
    with np.load(folder / f"{together.file_of(case)}.{rank}.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if not name.endswith("seconds")}


@pytest.mark.parametrize(
    ("size", "cases"),
    [
        (2, FAST),
        pytest.param(3, FAST, marks=pytest.mark.slow),
        pytest.param(2, tuple(together.cases()), marks=pytest.mark.slow),
    ],
    ids=["two", "three", "every method"],
)
def test_some_are_as_one(size: int, cases: tuple[str, ...], tmp_path: Path) -> None:
    """The same global batches: what is learned differs by the order of sums alone, and on no rank from another's."""
    fit_all(1, tmp_path / "one", cases)
    fit_all(size, tmp_path / "some", cases)
    for case in cases:
        alone, first = learned(tmp_path / "one", case, 0), learned(tmp_path / "some", case, 0)
        for rank in range(1, size):
            other = learned(tmp_path / "some", case, rank)
            assert all(np.array_equal(first[name], other[name]) for name in first), f"{case}: rank {rank}"
        for name, value in alone.items():
            np.testing.assert_allclose(first[name], value, rtol=0, atol=1e-5, err_msg=f"{case}: {name}")


def test_every_method_that_can_has_a_case() -> None:
    assert {name for name in METHODS if not not_shared(make(name))} <= set(together.cases())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wmf", "is not trained by gradient steps"),
        ("vsr-vae", "compares the users of a batch with one another"),
    ],
)
def test_who_cannot(name: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{why}, and several workers can only share steps" in not_shared(make(name))
    if name == "vsr-vae":
        monkeypatch.setattr("deconrec.torch_estimator.current", lambda: Ranks(0, 2))
        with pytest.raises(ParameterError, match=why):
            make(name).fit(together.fixtures.rows_world())


# ---------------------------------------------------------------------- parts and exchanges
@pytest.mark.parametrize("n", [0, 1, 5, 6, 1000])
def test_parts_are_all_there_is(n: int) -> None:
    rows = np.arange(n)
    assert np.concatenate([rows[Ranks(rank, 3).part(n)] for rank in range(3)]).tolist() == rows.tolist()


class Gather:
    """`Ranks._gather` where the other rank has what is given; counts the numbers that are sent."""

    def __init__(self, *others: torch.Tensor) -> None:
        self.others, self.sent = list(others), 0

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        self.sent += x.numel()
        return [x, self.others.pop(0)]


def test_rows_that_nobody_touched_stay_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = torch.zeros(1000, 4), torch.zeros(1000, 4)
    mine[[3, 5]], other[[5, 7, 999]] = 1.0, 2.0
    where = torch.tensor([5, 7, 999])
    monkeypatch.setattr(distributed, "LARGE", 100)
    monkeypatch.setattr(Ranks, "_gather", gather := Gather(torch.tensor([3]), where, other[where]))
    total = Ranks(0, 2).mean([mine])[0]
    torch.testing.assert_close(total, (mine + other) / 2, rtol=0, atol=0)
    assert gather.sent == 1 + 3 + 3 * 4
