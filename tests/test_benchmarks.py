"""Benchmarks run on tiny settings and keep complete records. Nothing here looks at how long anything took."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
KEYS = {
    "case",
    "says",
    "setting",
    "repetitions",
    "threads",
    "ours",
    "peer",
    "peer_name",
    "ratio",
    "unit",
    "rss_mb",
    "target",
    "sides",
    "date",
    "versions",
    "machine",
}
CASES = sorted(p.stem.removeprefix("bench_") for p in (ROOT / "benchmarks").glob("bench_*.py"))


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/measure.py, importable as from the root of the repository."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import measure

    return measure


def check_record(record: dict[str, Any]) -> None:
    assert set(record) == KEYS
    assert record["peer_name"] in record["sides"]
    for side in record["sides"].values():
        assert set(side) - {"found"} == {"seconds", "median_seconds", "ratio", "peak_mib", "target"}
        assert len(side["seconds"]) == record["repetitions"]
        assert min(side["seconds"]) > 0
    assert record["sides"][record["peer_name"]]["ratio"] == 1
    assert record["ratio"] == pytest.approx(record["peer"] / record["ours"])
    assert record["ratio"] in [side["ratio"] for side in record["sides"].values()]
    assert record["unit"] == "s"
    assert set(record["machine"]) == {"system", "architecture", "processor", "processors"}
    assert {"python", "deconrec", "torch", "numpy"} <= set(record["versions"])
    text = json.dumps(record, allow_nan=False)
    for private in (platform.node(), os.path.expanduser("~"), str(ROOT)):
        assert len(private) < 3 or private not in text


def test_the_cases_are_the_modules(measure: ModuleType) -> None:
    assert sorted(measure.CASES) == CASES


@pytest.mark.parametrize("case", CASES)
def test_a_tiny_setting_runs(measure: ModuleType, case: str, tmp_path: Path) -> None:
    from benchmarks import peer

    needed = getattr(measure.case_module(case), "PEER", None)
    if needed is not None and not peer.ready(needed):
        pytest.skip(f"the environment of {needed} is made by `make bench`, and not for the tests")
    record = measure.run(case, tiny=True, memory=False)
    check_record(record)
    assert record["setting"] == measure.case_module(case).TINY
    path = measure.keep(record, tmp_path)
    assert measure.last(case, tmp_path / "results") == json.loads(path.read_text()) == record
    assert len(measure.lines(record, record)) == 2 + len(record["sides"])


def test_earlier_records_go_to_the_history(measure: ModuleType, tmp_path: Path) -> None:
    for date in ("first", "second", "third"):
        measure.keep({"case": "steps", "date": date}, tmp_path)
    found = {
        p.relative_to(tmp_path).as_posix(): json.loads(p.read_text())["date"]
        for p in tmp_path.rglob("*.json")
    }
    assert found == {
        "results/steps.json": "third",
        "history/steps-1.json": "first",
        "history/steps-2.json": "second",
    }


def test_the_change_is_that_of_the_ratio(measure: ModuleType) -> None:
    def record(ours: float) -> dict[str, Any]:
        sides = {"ours": {"seconds": [ours], "peak_mib": 1.0}, "peer": {"seconds": [1.0], "peak_mib": None}}
        said = {"case": "c", "says": "s", "setting": {}, "repetitions": 1, "date": "d"}
        return said | measure.judged(sides, "ours", "peer", {"ours": 4.0})

    text = "\n".join(measure.lines(record(0.2), record(0.3)))
    assert "x 5.00  (reaches 4)  (+50% since d)" in text
    assert "x 3.33  (BELOW 4)" in "\n".join(measure.lines(record(0.3), None))
    assert "since" not in "\n".join(measure.lines(record(0.3), record(0.2) | {"peer_name": "other"}))
    assert "since" not in "\n".join(measure.lines(record(0.3), None))


def test_sides_that_disagree_are_refused(measure: ModuleType) -> None:
    same = {"ndcg": 0.5, "recall": 0.5}
    with pytest.raises(AssertionError, match="disagree"):
        measure.case_module("ranking").agree({"deconrec": same, "polars join": same | {"ndcg": 0.6}})


def test_memory_is_measured_in_a_child(measure: ModuleType) -> None:
    peak = measure.peak("vae", "deconrec", tiny=True)
    assert peak is None if platform.system() != "Linux" else peak >= 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda p: p.stem
)
def test_kept_records_are_complete(path: Path) -> None:
    record = json.loads(path.read_text())
    check_record(record)
    assert record["case"] == path.stem
