"""Jobs on Ray: equal results, a worker that is lost, an error as itself, and nothing left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

import deconrec as dc
from deconrec import batch
from deconrec.batch import predict_to, recommend_to
from deconrec.cli import main
from deconrec.errors import Error, FileError, MissingExtra, ParameterError, TrainingError
from deconrec.experiments import engine_ray
from deconrec.experiments.pool import Job, Workers, run_jobs
from deconrec.experiments.runs import Plan, run_one
from deconrec.methods.mf import MF

WORLD = "sim-pairs:n_users=60+n_items=30+exposure_rate=0.3+unbiased_share=0.2"
METHODS = ["mf:epochs=2", "mf-combined:epochs=2"]
WORLDS = """# deconrec reproduce worlds --json out.json
kind = "worlds"
title = "Small worlds"
says = "What a paper says."
worlds = ["sim-deconf:n_users=60+n_items=40+n_factors=8+n_features=2+exposure_rate=0.1"]
seeds = 2
metrics = ["users", "exposures/mean"]

[tolerance]
users = 0

[paper]
where = "Table 0"

[[paper.tables]]
metrics = ["users"]
[paper.tables.values]
"sim-deconf:n_users=60+n_items=40+n_factors=8+n_features=2+exposure_rate=0.1" = [60]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray with two CPUs, started once; jobs of this module are sent as they stand here."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    engine_ray.import_ray()
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    # Functions of this file go to workers whole, in memory: it is no module that they could import. No file is written.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:  # one run for all, so that workers are started once
        patch.setattr(engine_ray, "uuid4", lambda: UUID(int=1))
        yield ray
    ray.shutdown()


def results_of(jobs: list[Job], workers: int = 2) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    run_jobs(jobs, lambda job, result: found.update({job.label: result}) or [], workers, "ray")
    return found


def told(result: Any) -> Any:
    """A record without what may differ: seconds, and the environment."""

    def without(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: without(v) for k, v in node.items() if k not in ("seconds", "environment")}
        return [without(v) for v in node] if isinstance(node, list) else node

    return without(result.model_dump())


# ---------------------------------------------------------------------- jobs
def halved(n: int) -> int:
    return n // 2


def threads_and_run() -> tuple[str | None, ...]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "DECONREC_RUN")
    return (*(os.environ.get(name) for name in names), os.getcwd())


def noted(path: Path) -> int:
    """How often this was called so far."""
    with path.open("a") as file:
        file.write(".")
    return len(path.read_text())


def raises(path: Path, error: Exception) -> None:
    noted(path)
    raise error


def dies(path: Path, times: int) -> str:
    """End this process without a word, so often."""
    if noted(path) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def fitted_at_last(path: Path, plan: Plan, name: str, seed: int) -> Any:
    dies(path, 1)
    return run_one(plan, name, seed)


def sized(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 100_000)


@pytest.mark.usefixtures("cluster")
def test_results_ask_for_more() -> None:
    seen: list[tuple[str, int]] = []

    def then(job: Job, result: int) -> list[Job]:
        seen.append((job.label, result))
        return [Job(job.label + "'", halved, (result,))] if result > 1 else []

    run_jobs([Job("a", halved, (9,)), Job("b", halved, (3,))], then, 1, "ray")
    assert seen == [("a", 4), ("b", 1), ("a'", 2), ("a''", 1)]


@pytest.mark.usefixtures("cluster")
def test_workers_have_one_thread_this_folder_and_no_memory_of_other_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    omp, openblas, run, folder = results_of([Job(0, threads_and_run, ())])[0]
    assert (omp, openblas) == ("1", "1")
    assert Path(folder) == tmp_path.resolve()
    monkeypatch.setattr(engine_ray, "uuid4", uuid4)
    assert results_of([Job(0, threads_and_run, ())])[0][2] != run


@pytest.mark.usefixtures("cluster")
def test_results_do_not_live_in_the_store() -> None:
    found = results_of([Job(0, sized, (np.arange(3.0),))])[0]
    assert found.flags.owndata  # a view of the store's memory would end with Ray
    assert found.flags.writeable


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "error",
    [TrainingError("direct", 3, ["prediction"], float("nan")), FileError("no"), ZeroDivisionError("z")],
)
def test_an_error_arrives_as_itself_and_is_not_tried_again(tmp_path, error) -> None:
    jobs = [Job("a", halved, (4,)), Job("b", raises, (tmp_path / "tries", error)), Job("c", halved, (2,))]
    with pytest.raises(type(error)) as caught:
        results_of(jobs)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert caught.value.__dict__ == error.__dict__
    assert (tmp_path / "tries").read_text() == "."


@pytest.mark.usefixtures("cluster")
def test_a_lost_worker_costs_its_job_only(tmp_path) -> None:
    plan = Plan(WORLD, None, "pairs", "biased", ("auc", "mse"))
    lost, other = tmp_path / "lost", tmp_path / "other"
    found = results_of(
        [Job("lost", fitted_at_last, (lost, plan, METHODS[1], 4)), Job("other", noted, (other,))]
    )
    undisturbed = run_one(plan, METHODS[1], 4)
    assert found["lost"].run.metrics == undisturbed.run.metrics
    assert told(found["lost"].run) == told(undisturbed.run)
    assert (lost.read_text(), other.read_text()) == ("..", ".")


@pytest.mark.usefixtures("cluster")
def test_a_job_that_always_ends_its_worker(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(engine_ray, "RETRIES", 1)
    with pytest.raises(
        Error, match=r"a job's worker on Ray was lost, also when it was tried again \(up to 1"
    ):
        results_of([Job(0, dies, (tmp_path / "tries", 9))])
    assert (tmp_path / "tries").read_text() == ".."


# ---------------------------------------------------------------------- comparisons
def test_a_comparison_of_data_in_memory(cluster, monkeypatch) -> None:
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.3, unbiased_share=0.3, seed=1)
    put: list[Any] = []
    own = cluster.put
    monkeypatch.setattr(cluster, "put", lambda thing: put.append(thing) or own(thing))
    given: dict[str, Any] = {"seeds": 3, "metrics": ["auc", "ndcg@3/shown", "mse"]}
    found = dc.compare(data, METHODS, workers=2, engine="ray", **given)
    assert [thing is data for thing in put] == [True]  # once, not once a job
    assert found.environment["engine"] == "ray"
    assert told(found) == told(dc.compare(data, METHODS, **given))


@contextmanager
def pretended(workers: int) -> Iterator[Workers]:
    """In place of Ray: this process, where the latest job is done first."""
    asked: list[Job] = []

    class Here:
        ahead = 0

        def submit(self, job: Job) -> int:
            asked.append(job)
            return len(asked) - 1

        def done(self, tickets: Collection[int]) -> list[int]:
            return [max(tickets)]

        def result(self, ticket: int) -> Any:
            return asked[ticket].function(*asked[ticket].arguments)

    yield Here()
    assert asked


def valued(engine: Any, **given: Any) -> Any:
    shares = (0.0, 0.1, 0.3)
    return dc.value(WORLD, METHODS, shares=shares, seeds=2, metric="auc", engine=engine, **given)


def tuned(engine: Any, **given: Any) -> Any:
    return dc.tune(WORLD, "mf:epochs=2", trials=3, splits=2, confirm=2, engine=engine, **given)


@pytest.mark.parametrize("who", [valued, tuned])
def test_whoever_has_many_fits_takes_an_engine(who, monkeypatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setattr(engine_ray, "ray_workers", pretended)
    found = who("ray", workers=3)
    monkeypatch.undo()
    assert (found.environment["engine"], found.environment["workers"]) == ("ray", 3)
    assert told(found) == told(who("pool"))


@pytest.mark.parametrize("kind", ["runs", "worlds"])
def test_experiments_of_papers_take_an_engine(kind, monkeypatch, spec_file, tmp_path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    name = spec_file()
    if kind == "worlds":
        name.write_text(WORLDS)
    monkeypatch.setattr(engine_ray, "ray_workers", pretended)
    found = dc.reproduce(name, seeds=2, workers=3, engine="ray", results=tmp_path / "ray")
    monkeypatch.undo()
    assert found.environment["engine"] == "ray"
    there = dc.reproduce(name, seeds=2, run=False, results=tmp_path / "ray")
    assert "engine" not in there.environment
    again = dc.reproduce(name, seeds=2, results=tmp_path / "pool")
    assert told(found) == told(again) == told(there)


# ---------------------------------------------------------------------- refusals
@pytest.fixture
def no_ray(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.mark.usefixtures("no_ray")
def test_without_the_package(tmp_path, capsys) -> None:
    with pytest.raises(MissingExtra, match=r"engine='ray' needs 'ray'.*pip install 'deconrec\[ray\]'"):
        dc.compare(WORLD, METHODS, seeds=1, engine="ray")
    assert main(["value", WORLD, "--engine", "ray"]) == 2
    assert "pip install 'deconrec[ray]'" in capsys.readouterr().err
    saved = MF(dim=2, epochs=1).fit(dc.simulate.pairs(n_users=20, n_items=9, seed=0)[0]).save(tmp_path / "m")
    with pytest.raises(MissingExtra):
        recommend_to(saved, tmp_path / "o.csv", engine="ray")
    assert not (tmp_path / "o.csv").exists()


def test_engines_that_there_are_not(tmp_path) -> None:
    with pytest.raises(ParameterError, match="'engine' of compare must be one of pool, ray; got 'dask'"):
        dc.compare(WORLD, METHODS, seeds=1, engine="dask")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="'engine' of predict must be one of"):
        predict_to(tmp_path, tmp_path / "p.csv", tmp_path / "o.csv", engine="dask")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="'workers' of recommend must be at least 1; got 0"):
        recommend_to(tmp_path, tmp_path / "o.csv", workers=0)


def test_a_worker_of_another_version_is_refused() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(Error, match=r"has deconrec .* and the process that asked has 0\.0; install the same"):
        engine_ray._do("0.0", ".", halved, [4])


def test_a_list_on_the_screen_has_no_engine(tmp_path, capsys) -> None:
    assert main(["recommend", str(tmp_path), "--engine", "ray"]) == 2
    assert "add --out FILE" in capsys.readouterr().err


# ---------------------------------------------------------------------- answers to files
@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    data, _ = dc.simulate.pairs(n_users=90, n_items=40, exposure_rate=0.3, seed=0)
    return MF(dim=2, epochs=2).fit(data).save(tmp_path_factory.mktemp("models") / "m")


@contextmanager
def stopped_at(part: int, monkeypatch) -> Iterator[None]:
    """A kill at that part, as far as a test can: what was written stays."""
    put = batch._Work.put

    def fails(self: Any, number: int, frame: Any) -> None:
        if number == part:
            raise KeyboardInterrupt
        put(self, number, frame)

    monkeypatch.setattr(batch._Work, "put", fails)
    with pytest.raises(KeyboardInterrupt):
        yield
    monkeypatch.undo()


@pytest.mark.parametrize(("engine", "suffix"), [("pool", ".csv"), ("ray", ".csv"), ("ray", ".parquet")])
def test_answers_to_files_are_the_same_bytes_and_go_on(
    request, saved, tmp_path, monkeypatch, engine, suffix
) -> None:
    if engine == "ray":
        request.getfixturevalue("cluster")
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    done = recommend_to(saved, whole, k=7, part_rows=100)
    with stopped_at(2, monkeypatch):
        recommend_to(saved, out, k=7, part_rows=100)
    seen: list[tuple[int, int]] = []
    again = recommend_to(
        saved, out, k=7, part_rows=100, workers=2, engine=engine, advance=lambda *at: seen.append(at)
    )
    assert (again.rows, again.parts, again.counts) == (done.rows, done.parts, done.counts)
    assert again.resumed == 2
    assert seen == [(n, done.parts) for n in range(2, done.parts + 1)]
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([whole.name, out.name])


@pytest.mark.usefixtures("cluster")
def test_predictions_that_were_stopped_on_ray_go_on_in_this_process(saved, tmp_path, monkeypatch) -> None:
    model = dc.load_model(saved)
    rows = [f"{u},{i}" for u in [*model.users_.values, "stranger"] for i in model.items_.values[:9]]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    predict_to(saved, pairs, whole, part_rows=100)
    with stopped_at(4, monkeypatch):
        predict_to(saved, pairs, out, part_rows=100, workers=2, engine="ray")
    assert predict_to(saved, pairs, out, part_rows=100).resumed >= 3  # part 3 may have been on its way
    assert out.read_bytes() == whole.read_bytes()


def test_a_model_that_changes_meanwhile(saved, tmp_path) -> None:
    source = batch._Source(str(saved), None, None, batch.Columns(), "another seal", None, None)
    with pytest.raises(FileError, match="changed while its answers were computed"):
        batch._opened(source)


# ---------------------------------------------------------------------- what is left
SCRIPT = """
import time
from deconrec.experiments.pool import Job, run_jobs

def asleep(seconds):
    time.sleep(seconds)

if __name__ == "__main__":
    jobs = [Job(n, asleep, (0.0 if n < 2 else 600.0,)) for n in range(4)]
    run_jobs(jobs, lambda job, result: print("done", flush=True) or [], 2, "ray")
"""


def marked(mark: str) -> list[int]:
    """Processes whose environment has it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in text:
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("how", "where"),
    [
        (signal.SIGINT, "here"),
        pytest.param(signal.SIGINT, "a cluster", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "here", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "a cluster", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_left_on_ray(cluster, how, where, tmp_path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    mark = uuid4().hex
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"DECONREC_MARK": mark}
    if where == "a cluster":
        environment["RAY_ADDRESS"] = cluster.get_runtime_context().gcs_address
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "done\n"
    assert len(marked(mark)) > (2 if where == "a cluster" else 5)  # workers; and what makes a cluster
    child.send_signal(how)
    child.communicate(timeout=60)
    deadline = time.monotonic() + (
        120 if how == signal.SIGKILL else 30
    )  # its agents look for it now and then
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert marked(mark) == []
    assert results_of([Job(0, halved, (4,))]) == {0: 2}  # the cluster itself goes on
