"""Checkpoints: what was killed goes on to the same bits; what is of another fit is not used."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deconrec as dc
from deconrec.cli import main
from deconrec.errors import FileError, FitWarning
from deconrec.training import checkpoints
from deconrec.training.checkpoints import MARKER, Checkpoint
from training import killed

PAIRS = "sim-pairs:n_users=40+n_items=30+unbiased_share=0.2"
ROWS = "sim-deconf:n_users=120+n_items=40+n_factors=8+n_features=2+exposure_rate=0.15"
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("mf:epochs=20+batch=16+patience=0", PAIRS),
        ("deep-deconf:epochs=6+batch=20+exposure.epochs=4+exposure.batch=20", ROWS),
        ("res-dr:epochs=24+batch=300+scheme=jl", PAIRS),
        pytest.param("autodebias:epochs=8+batch=300+delay=2", PAIRS, marks=slow),
        pytest.param(
            "vsr-vae:epochs=8+warmup=4+batch=20+exposure.epochs=3+exposure.batch=20", ROWS, marks=slow
        ),
    ],
)
def test_killed_and_gone_on(method: str, data: str, tmp_path: Path) -> None:
    """A pair method, one over rows with a model fitted first, one of several phases; each then on all rows."""
    command = [sys.executable, killed.__file__, method, data, str(tmp_path), "0"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    whole, *attempts, last = json.loads(told.stdout)
    assert [one["status"] for one in attempts] == [signal.SIGKILL] * len(attempts)
    assert (whole["status"], last["status"]) == (0, 0)
    arrays, again = ((tmp_path / name / "arrays.safetensors").read_bytes() for name in ("whole", "killed"))
    assert arrays == again
    done = sum(one["steps"] for one in attempts) + last["steps"]
    # A kill costs the steps since the last write, and those of the write that it came in.
    assert done <= whole["steps"] + 2 * killed.EVERY * len(attempts)
    assert last["steps"] < whole["steps"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "count",
        "killed",
        "killed.json",
        "whole",
        "whole.json",
    ]
    assert json.loads((tmp_path / "killed.json").read_text())["resumed"] is True


# ---------------------------------------------------------------------- whose it is
@pytest.fixture
def half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of a fit of `fitted` that was stopped half way."""
    write, writes = Checkpoint.write, []

    def stops(*given: object) -> None:
        write(*given)
        writes.append(given)
        if len(writes) == 9:
            raise InterruptedError

    folder = tmp_path / "kept"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", stops)
        patch.setattr(Checkpoint, "due", True)
        with pytest.raises(InterruptedError):
            fitted(checkpoint=folder)
    assert sorted(p.name for p in folder.iterdir()) == [MARKER, "run-0.safetensors"]
    return folder


def fitted(seed: int = 0, world: int = 0, **given: object) -> dc.MF:
    data, _ = dc.simulate.pairs(n_users=30, n_items=20, seed=world)
    return dc.MF(epochs=5, batch=16, seed=seed).fit(data, **given)


def test_in_python(half_done: Path, tmp_path: Path) -> None:
    model = fitted(checkpoint=half_done)
    assert model.checkpoint_ is not None
    assert model.checkpoint_.resumed
    np.testing.assert_array_equal(model.score(), fitted().score())
    assert half_done.is_dir()  # until the model is saved
    model.save(tmp_path / "model")
    assert not half_done.exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seed": 1}, "other parameters, data"),  # the seed draws the hold-out
        ({"world": 1}, "other data"),
        ({"refit": True}, "other refit"),
    ],
)
def test_of_another_fit(half_done: Path, given: dict[str, object], says: str) -> None:
    with pytest.warns(
        FitWarning, match=f"is of another fit \\({says}\\); training starts from the beginning"
    ):
        model = fitted(checkpoint=half_done, **given)
    assert model.checkpoint_ is not None
    assert not model.checkpoint_.resumed
    np.testing.assert_array_equal(model.score(), fitted(**given).score())


def test_of_another_version(half_done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "version", lambda package: "0")
    with pytest.warns(FitWarning, match="other versions"):
        fitted(checkpoint=half_done)


def test_damaged(half_done: Path) -> None:
    path = half_done / "run-0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(FitWarning, match="is damaged"):
        model = fitted(checkpoint=half_done)
    np.testing.assert_array_equal(model.score(), fitted().score())


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(FileError, match="holds other files"):
        fitted(checkpoint=tmp_path)
    assert (tmp_path / "letters.txt").read_text() == "mine"


# ---------------------------------------------------------------------- what it costs
def test_a_quick_fit_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: 0.0)  # quick whatever the machine does besides
    fitted(checkpoint=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "Checkpoint", None)  # nothing may ask for one
    arguments = ["fit", "mf:epochs=2", PAIRS, "--out", str(tmp_path / "m"), "--checkpoint-every", "0", "-q"]
    assert main(arguments) == 0


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    kept = Checkpoint(tmp_path / "kept", {}, every=10.0, _wrote=now)
    now = 9.0
    assert not kept.due
    now = 10.0
    assert kept.due
    kept._wrote, kept._took = 10.0, 2.0  # a large network
    now = 49.0
    assert not kept.due
    now = 50.0
    assert kept.due
