"""The same seed gives the same bits in every process, records say what they are of, and other data are noticed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import deconrec as dc
from crash.kills import outputs, said
from deconrec.data.files import write_dataset

METHODS = ("mf-combined:epochs=2", "res-dr:epochs=2", "concat-vae:epochs=2")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    drawn, _ = dc.simulate.pairs(n_users=50, n_items=25, exposure_rate=0.3, unbiased_share=0.3, seed=1)
    write_dataset(drawn, "data")
    return tmp_path


def elsewhere(*lines: str) -> None:
    """Commands in a process of their own, whose sets and dictionaries of text have another order."""
    code = "import sys; from deconrec.cli import main; sys.exit(any(main(line.split()) for line in sys.argv[1:]))"
    other = {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    subprocess.run([sys.executable, "-c", code, *lines], env=os.environ | other, check=True)


def arrays(folder: str) -> str:
    return hashlib.sha256((Path(folder) / "arrays.safetensors").read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bits_in_every_process(data: Path) -> None:
    lines = {key: f"fit {key} data --quiet --seed 3 --out" for key in METHODS}
    compared = f"compare data --methods {','.join(METHODS[:2])} --seeds 2 --quiet --json"
    elsewhere(*(f"{line} one-{n}" for n, line in enumerate(lines.values())), f"{compared} one.json")
    for n, line in enumerate(lines.values()):
        assert said(f"{line} two-{n}".split())[0] == 0
        assert said([*line.replace("seed 3", "seed 4").split(), f"other-{n}"])[0] == 0
        assert arrays(f"one-{n}") == arrays(f"two-{n}")
        assert arrays(f"one-{n}") != arrays(f"other-{n}")
    assert said(f"{compared} two.json --workers 2".split())[0] == 0
    found = outputs(data, {})
    assert found["one.json"] == found["two.json"]


def test_records_say_what_they_were_made_of_and_with(data: Path) -> None:
    fingerprint = dc.load("data").fingerprint
    for words in (
        "compare data --methods random,popularity --seeds 2",
        "tune mf data --trials 1 --splits 1 --confirm 0 --set epochs=1",
        "value data --methods mf-combined:epochs=1 --shares 0,0.2 --seeds 1",
    ):
        assert said([*words.split(), "--json", "r.json"])[0] == 0
        record = json.loads(Path("r.json").read_text())
        assert record["protocol"]["data"]["fingerprint"] == fingerprint, words
        versions = record["environment"]["versions"]
        assert {"deconrec", "numpy", "torch"} <= set(versions), words
    assert said(["fit", "popularity", "data", "--out", "m", "--json", "f.json"])[0] == 0
    assert json.loads(Path("f.json").read_text())["fingerprint"] == fingerprint
    about = json.loads(Path("m/model.json").read_text())
    assert about["about"]["data"]["fingerprint"] == fingerprint
    assert about["deconrec"] == dc.__version__


def changed() -> None:
    """One rating of the data is another; its names and sizes are as before."""
    path = Path("data/log.parquet")
    log = pl.read_parquet(path)
    first = pl.Series("rating", [1.0 - log["rating"][0], *log["rating"][1:]], log["rating"].dtype)
    log.with_columns(first).write_parquet(path)


KEPT = {
    "compare": ("compare data --methods random,popularity --seeds 2 --json r.json", ".r.json.runs.jsonl"),
    "value": (
        "value data --methods mf-combined:epochs=1 --shares 0,0.2 --seeds 1 --json r.json",
        ".r.json.runs.jsonl",
    ),
}


@pytest.mark.parametrize("command", KEPT)
def test_another_data_file_under_the_same_name_is_noticed(
    command: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept of the earlier file counts for nothing."""
    words, kept = KEPT[command][0].split(), Path(KEPT[command][1])
    unlink = Path.unlink

    def keep(self: Path, missing_ok: bool = False) -> None:  # as if it had been killed just before its end
        if self.name != kept.name:
            unlink(self, missing_ok=missing_ok)

    def resumed() -> Any:
        assert said(words)[0] == 0
        return json.loads(Path("r.json").read_text())["environment"]["resumed"]

    monkeypatch.setattr(Path, "unlink", keep)
    assert resumed() == 0
    assert resumed() > 0
    changed()
    assert resumed() == 0


def test_a_store_of_trials_is_of_its_data(data: Path) -> None:
    words = (
        "tune mf data --trials 1 --splits 1 --confirm 0 --set epochs=1 --storage sqlite:///t.db --json r.json"
    )

    def resumed() -> Any:
        assert said(words.split())[0] == 0
        return json.loads(Path("r.json").read_text())["environment"]["resumed"]

    assert [resumed(), resumed()] == [0, 1]
    changed()
    assert resumed() == 0


def test_parts_of_answers_are_of_their_inputs(data: Path) -> None:
    """The folder that keeps parts is named by the bytes of the inputs and the model's seal."""
    from deconrec.batch import _work

    assert said(["fit", "popularity", "data", "--out", "m"])[0] == 0
    Path("pairs.csv").write_text("user_id,item_id\n1,2\n")

    def folder() -> str:
        with _work(
            "o.csv", "m", "predict", {}, {"pairs": "pairs.csv", "history": None, "features": None}
        ) as work:
            return work.folder.name

    first = folder()
    assert folder() == first
    Path("pairs.csv").write_text("user_id,item_id\n1,3\n")
    other = folder()
    assert other != first
    assert said(["fit", "random", "data", "--out", "m"])[0] == 0
    assert folder() not in (first, other)
