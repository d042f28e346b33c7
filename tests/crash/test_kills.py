"""Commands that are killed by SIGKILL lose nothing but the work that was under way."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import deconrec as dc
from crash.kills import Command, survives
from deconrec.data.files import write_tables
from deconrec.methods import make

WORLD = "sim-pairs:n_users=60+n_items=30+exposure_rate=0.3+unbiased_share=0.2"
SPEC = """# deconrec reproduce small.toml
title = "A small table"
says = "Two methods on a made-up log."
dataset = "data/data.toml"
seeds = 2
metrics = ["auc"]
methods = ["mf", "ease"]

[set]
epochs = 2

[search]
trials = 2
splits = 2

[tolerance]
auc = 0.01

[paper]
where = "Table 0"

[[paper.tables]]
metrics = ["auc"]
values = { mf = [0.2], ease = [0.6] }
"""
SEARCH = "--trials 3 --splits 1 --confirm 1 --set epochs=2 --json t.json --report t.html"


def made(line: str, earlier: str | None = None) -> Command:
    return Command(line.split(), None if earlier is None else earlier.split())


COMMANDS = {
    "fit": made(
        "fit mf data/data.toml --out m --set epochs=20 --json m.json --quiet",
        "fit ease data/data.toml --out m --json m.json --quiet",
    ),
    "compare": made(
        f"compare {WORLD} --methods mf:epochs=2,ease,random --seeds 4 --json c.json --report c.html --pictures p",
        f"compare {WORLD} --methods mf:epochs=1,random --seeds 2 --json c.json --report c.html --pictures p",
    ),
    "reproduce": made("reproduce small.toml --results kept --json r.json"),
    "tune": made(
        f"tune mf data/data.toml --storage sqlite:///t.db --out m {SEARCH}",
        f"tune mf data/data.toml --out m {SEARCH} --seed 1",
    ),
    "recommend": made(
        "recommend model --users users.csv --out r.parquet", "recommend model --k 3 --out r.parquet"
    ),
    "compare with workers": made(
        f"compare {WORLD} --methods mf:epochs=2,ease,random --seeds 4 --workers 2 --json c.json"
    ),
    "reproduce with workers": made("reproduce small.toml --results kept --workers 2"),
    "tune with workers": made(f"tune mf data/data.toml --storage sqlite:///t.db --workers 2 {SEARCH}"),
    "recommend with workers": made("recommend model --users users.csv --out r.csv --workers 2"),
}
FAST = ("fit", "compare", "reproduce", "tune", "recommend")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data folder, an experiment, a saved model, and more users than one part of an answer holds."""
    folder = tmp_path_factory.mktemp("given")
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.2, unbiased_share=0.3, seed=1)
    (folder / "data").mkdir()
    write_tables(data, folder / "data")
    (folder / "small.toml").write_text(SPEC)
    make("popularity").fit(data).save(folder / "model")
    pl.DataFrame({"user_id": range(40_000)}).write_csv(folder / "users.csv")
    return {name: folder / name for name in ("data", "small.toml", "model", "users.csv")}


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        *((name, 1) for name in FAST),
        *(pytest.param(name, 20 if name in FAST else 6, marks=pytest.mark.slow) for name in COMMANDS),
    ],
)
def test_killed_at_random_moments(name: str, kills: int, given: dict[str, Path], tmp_path: Path) -> None:
    command = COMMANDS[name]
    if kills == 1:
        command = replace(command, earlier=None)
    struck = survives(command, given, tmp_path, kills, here=kills == 1)
    assert struck > kills // 4, "hardly a kill found it at work"
