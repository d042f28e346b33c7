"""Comparisons that are stopped go on where they were, and end as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deconrec as dc
from deconrec.errors import FileError
from deconrec.experiments import compare as module
from deconrec.experiments.judge import Outcome
from deconrec.experiments.memory import Memory, _read, _written
from deconrec.experiments.results import Run
from deconrec.experiments.search import Tried
from deconrec.experiments.value import value

WORLD = "sim-pairs:n_users=60+n_items=30+exposure_rate=0.3+unbiased_share=0.2"
METHODS = ["mf:epochs=2", "mf-combined:epochs=2"]


def told(result: Any) -> Any:
    """A record without what may differ: seconds, and the environment."""

    def without(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: without(v) for k, v in node.items() if k not in ("seconds", "environment")}
        return [without(v) for v in node] if isinstance(node, list) else node

    return without(json.loads(result if isinstance(result, str) else result.to_json()))


def test_results_are_read_back_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    run = Run(
        method="mf",
        seed=3,
        metrics={"auc": 0.1 + 0.2, "mse": None},
        seconds=1.5,
        unbiased_rows=7,
        params={"hidden": [3, 4], "l2": 1e-17},
        history={"score": [0.1, None]},
        best_epoch=1,
        overlap={"rows": 3, "ess": 0.3},
        skipped_users={"ndcg@5/shown": 2},
    )
    outcome = Outcome(run, {"ndcg@5/shown": (np.array([2, 9]), rng.random(2))})
    for result in (outcome, Tried((0.1, float("nan")), 2.0), Tried((), 0.0, "no")):
        again = _read(json.loads(json.dumps(_written(result)).replace("NaN", "null")))
        assert repr(again) == repr(result)
    users, values = _read(_written(outcome)).per_user["ndcg@5/shown"]  # type: ignore[union-attr]
    assert np.array_equal(users, [2, 9])
    assert np.array_equal(values, outcome.per_user["ndcg@5/shown"][1])


@pytest.mark.parametrize("options", [{}, {"trials": 3}], ids=["defaults", "search"])
def test_stopped_and_gone_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    data = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.3, unbiased_share=0.2, seed=0)[0]
    whole = dc.compare(data, METHODS, seeds=2, **options)
    path, real, made = tmp_path / "runs.jsonl", module.run_one, []

    def failing(*arguments: Any) -> Outcome:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments)
        return real(*arguments)

    failing.__name__ = "run_one"  # a job is known by its function
    monkeypatch.setattr(module, "run_one", failing)
    with pytest.raises(KeyboardInterrupt):
        dc.compare(data, METHODS, seeds=2, resume=path, **options)
    monkeypatch.setattr(module, "run_one", real)
    again = dc.compare(data, METHODS, seeds=2, resume=path, **options)
    assert again.environment["resumed"] >= 2
    assert told(again) == told(whole)
    third = dc.compare(data, METHODS, seeds=2, resume=path, **options)
    assert third.environment["resumed"] >= 4
    assert told(third) == told(whole)


def test_what_is_kept_counts_for_the_same_job_only(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    first = {"seeds": 1, "metrics": ["auc"], "resume": path}
    assert dc.compare(WORLD, METHODS, **first).environment["resumed"] == 0
    assert dc.compare(WORLD, METHODS[:1], **first).environment["resumed"] == 1
    for changed in (
        {"seeds": [1]},
        {"metrics": ["mse"]},
        {"refit": False},
        {"select": "unbiased"},
    ):
        assert dc.compare(WORLD, METHODS[:1], **(first | changed)).environment["resumed"] == 0, changed
    assert dc.compare(WORLD, ["mf:epochs=3"], **first).environment["resumed"] == 0
    assert dc.compare(WORLD + "+confounding=2", METHODS[:1], **first).environment["resumed"] == 0


def test_value_goes_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shares": [0.0, 0.2], "seeds": 2, "metric": "auc"}
    whole = value(WORLD, ["mf-combined:epochs=1"], **options)
    value(WORLD, ["mf-combined:epochs=1"], **(options | {"seeds": 1}), resume=tmp_path / "v.jsonl")
    again = value(WORLD, ["mf-combined:epochs=1"], **options, resume=tmp_path / "v.jsonl")
    assert again.environment["resumed"] == 2
    assert told(again) == told(whole)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text("what\n")
    with pytest.raises(FileError, match="line 1"):
        Memory(path, {})
    with pytest.raises(FileError, match="damaged"):
        _read({"key": "k", "kind": "outcome", "run": {}, "per_user": {}})


def test_other_files_beside_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "huge.jsonl").write_text("no record of ours\n")
    assert Memory(tmp_path / "runs.jsonl", {}).store.beside == {}  # type: ignore[union-attr]
