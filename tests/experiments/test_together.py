"""A fit by several processes: launchers, a process that is killed, and errors as themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from deconrec.checks import fixtures
from deconrec.cli import main
from deconrec.errors import ParameterError, TrainingError, WorkerLost
from deconrec.experiments import together
from deconrec.experiments.together import run_together
from training.together import diverging, dying

WORLD = "sim-pairs:n_users=60+n_items=30+exposure_rate=0.3+unbiased_share=0.2"
METHOD = "res-dr:epochs=3+patience=0+batch=400"


def steps(folder: Path, rank: int) -> list[int]:
    """Of each attempt that ended or was killed."""
    return [int(line) for line in (folder / f"steps.{rank}").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], int]:
    """What `dying` learns where nothing dies, and its number of steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    learned = run_together(dying, (fixtures.confounded()[0], folder, 0), 2, "torch")
    return learned, steps(folder, 0)[0]


def test_a_killed_worker_costs_what_came_since_the_last_checkpoint(
    undisturbed: tuple[dict[str, np.ndarray], int], tmp_path: Path
) -> None:
    """Rank 1 is killed twice, at its tenth step; the other one ends, and both go on from the ninth."""
    learned = run_together(dying, (fixtures.confounded()[0], tmp_path, 2), 2, "torch")
    whole, n = undisturbed
    assert all(np.array_equal(learned[name], whole[name]) for name in whole)
    assert steps(tmp_path, 1) == [9, 9, n - 18]


def test_it_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "RETRIES", 1)
    with pytest.raises(WorkerLost, match=r"ended abruptly|went away"):
        run_together(dying, (fixtures.confounded()[0], tmp_path, 9), 2, "torch")
    assert steps(tmp_path, 1) == [9, 9]


def test_an_error_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "RETRIES", 0)
    with pytest.raises(TrainingError):
        run_together(diverging, (), 2, "torch")


# ---------------------------------------------------------------------- the command
def arrays(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "arrays.safetensors")


def same(one: Path, other: Path) -> None:
    a, b = arrays(one), arrays(other)
    for name, value in a.items():
        np.testing.assert_allclose(b[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", METHOD, WORLD, "--out", str(tmp_path / "one"), "-q"]) == 0
    told = str(tmp_path / "told.json")
    assert main(["fit", METHOD, WORLD, "--out", str(tmp_path / "two"), "--workers", "2", "--json", told]) == 0
    assert capfd.readouterr().err.count("ResDR fitted in") == 1  # rank 0 speaks
    same(tmp_path / "one", tmp_path / "two")
    assert json.loads(Path(told).read_text())["method"] == METHOD
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "told.json", "two"]


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    assert main(["fit", METHOD, WORLD, "--out", str(tmp_path / "one"), "-q"]) == 0
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "deconrec"]
    command = [*run, "fit", METHOD, WORLD, "--out", str(tmp_path / "two"), "-q"]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    same(tmp_path / "one", tmp_path / "two")


KILLED = """
import os, signal, sys
from deconrec.cli import main
from deconrec.training.program import Mover

move, steps = Mover.move, 0

def moved(*given):
    global steps
    steps += 1
    if steps == 30 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return move(*given)

Mover.move = moved
main()
"""


@pytest.mark.slow
def test_torchrun_starts_again(tmp_path: Path) -> None:
    """A worker that is killed once: the others are ended by torchrun, and all go on from the checkpoint."""
    (tmp_path / "killed.py").write_text(KILLED)
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    told = {}
    for name, program in (("whole", ["-m", "deconrec"]), ("killed", [str(tmp_path / "killed.py")])):
        out, record = tmp_path / name, str(tmp_path / f"{name}.json")
        options = ["--out", str(out), "-q", "--checkpoint-every", "1e-9", "--json", record]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*run, *program, "fit", METHOD, WORLD, *options], check=True, timeout=300, env=environment
        )
        told[name] = json.loads(Path(record).read_text())
    assert "resumed" not in told["whole"]
    assert told["killed"]["resumed"] is True
    assert all(
        np.array_equal(arrays(tmp_path / "killed")[n], v) for n, v in arrays(tmp_path / "whole").items()
    )


@pytest.mark.slow
def test_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers of Ray on this machine, of which one is killed once."""
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    learned = run_together(dying, (fixtures.confounded()[0], tmp_path, 1), 2, "ray")
    whole = run_together(dying, (fixtures.confounded()[0], tmp_path, 0), 2, "torch")
    assert all(np.array_equal(learned[name], whole[name]) for name in whole)
    assert steps(tmp_path, 1)[0] == 9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["wmf", "--workers", "2"], "WMF is not trained by gradient steps"),
        (["mf", "--engine", "pool"], "'engine' of a fit must be one of torch, ray; got 'pool'"),
        (["mf:epochs=-1", "--workers", "2"], "'epochs'"),
    ],
)
def test_refused_before_any_process_is_started(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method, *options = arguments
    assert main(["fit", method, WORLD, "--out", str(tmp_path / "m"), *options]) == 2
    assert says in capsys.readouterr().err


def test_no_such_engine() -> None:
    with pytest.raises(ParameterError, match="'engine' of a fit"):
        together.check_together("spark", 2)
