"""Lines of results: whole or not at all, later ones count, and per-user values come back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deconrec.errors import FileError
from deconrec.experiments.store import COARSE, FINE, Store, key_of, packed, unpacked


def test_a_key_follows_from_the_values_alone() -> None:
    # Written down: a change of it would make every kept result worthless.
    assert (
        key_of(data="abc", method="mf", params={"dim": 8, "l2": 0.1}, setting={}, seed=3)
        == "3e1d5fb5c96693a2"
    )
    assert key_of(seed=3, method="mf") == key_of(method="mf", seed=3)
    assert key_of(seed=3, method="mf") != key_of(seed=4, method="mf")
    assert key_of(x=np.float64(0.5)) == key_of(x=0.5)


def test_lines_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "a.jsonl")
    assert store.get("k") is None
    store.add("k", {"kind": "run", "seconds": 1.5, "score": float("nan")})
    store.add("l", {"kind": "run"})
    store.add("k", {"kind": "run", "seconds": 2.5})
    again = Store(tmp_path / "deep" / "a.jsonl")
    assert again.get("k") == {"key": "k", "kind": "run", "seconds": 2.5}
    assert list(again.lines) == ["k", "l"]
    assert len((tmp_path / "deep" / "a.jsonl").read_text().splitlines()) == 3
    again.rewrite()
    assert len((tmp_path / "deep" / "a.jsonl").read_text().splitlines()) == 2
    assert Store(tmp_path / "deep" / "a.jsonl").lines == again.lines


def test_lines_of_the_experiments_beside_it_are_read_and_left_alone(tmp_path: Path) -> None:
    Store(tmp_path / "b.jsonl").add("k", {"kind": "run", "seconds": 1.0})
    Store(tmp_path / "b.jsonl").add("l", {"kind": "run"})
    (tmp_path / "c.jsonl").write_text("no record\n")
    before = (tmp_path / "b.jsonl").read_bytes()
    said: list[str] = []
    store = Store(tmp_path / "a.jsonl", said.append)
    assert len(said) == 1
    assert "c.jsonl: left aside" in said[0]
    assert store.get("k") == {"key": "k", "kind": "run", "seconds": 1.0}
    store.add("k", {"kind": "run", "seconds": 2.0})
    assert store.get("k")["seconds"] == 2.0
    store.rewrite()
    assert list(Store(tmp_path / "a.jsonl").lines) == ["k"]
    assert (tmp_path / "b.jsonl").read_bytes() == before


def test_a_torn_last_line_is_told_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    Store(path).add("k", {"kind": "run"})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key":"l","kind":"ru')
    said: list[str] = []
    store = Store(path, said.append)
    assert list(store.lines) == ["k"]
    assert len(said) == 1
    assert "torn" in said[0]
    store.add("l", {"kind": "run"})
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["k", "l"]


def test_a_bad_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"key":"k"}\n<<<<<<< HEAD\n{"key":"l"}\n')
    with pytest.raises(FileError, match="line 2"):
        Store(path)


@pytest.mark.parametrize(("n", "steps"), [(333, FINE), (500, FINE), (501, COARSE), (900, COARSE)])
def test_per_user_values_come_back_within_half_a_step(n: int, steps: int) -> None:
    rng = np.random.default_rng(0)
    users = rng.permutation(1_000)[:n]
    values = rng.random(n)
    values[:2] = 0, 1
    text = packed({"ndcg@5/shown": (users, values)}, 1_000)
    back_users, back = unpacked(json.loads(json.dumps(text)), 1_000)["ndcg@5/shown"]
    order = np.argsort(users)
    np.testing.assert_array_equal(back_users, users[order])
    assert np.abs(back - values[order]).max() <= 0.5 / steps + 1e-12
    again = packed({"ndcg@5/shown": (back_users, back)}, 1_000)
    assert again == text
    assert unpacked(packed({"x": (np.zeros(0, int), np.zeros(0))}, 4), 4)["x"][0].size == 0


def test_lines_stay_small() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(1_411)
    assert len(json.dumps(packed({"ndcg@50/shown": (np.arange(1_411), values)}, 1_411))) < 2_200
    hits = rng.integers(0, 6, 290) / 5
    assert len(json.dumps(packed({"recall@5/shown": (np.arange(290), hits)}, 290))) < 500
