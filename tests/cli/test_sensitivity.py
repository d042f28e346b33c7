"""`deconrec sensitivity` from saved models to a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two saved models (good, poor) of one half of a log, and the other half (log.toml), with ids of people."""
    folder = tmp_path_factory.mktemp("sensitivity")
    data, _ = dc.simulate.pairs(n_users=90, n_items=40, exposure_rate=0.2, seed=4)
    ids = {
        "user_id": pl.format("person-{}", pl.col("user_id")),
        "item_id": pl.format("i{}", pl.col("item_id")),
    }
    half = np.random.default_rng(1).random(len(data.biased)) < 0.5
    for name, rows in (("train", half), ("log", ~half)):
        data.frame(data.biased.take(rows)).with_columns(**ids).write_csv(folder / f"{name}.csv")
        (folder / f"{name}.toml").write_text(
            f'[biased]\npath = "{name}.csv"\n[task]\nbinarize = 0.5\n[log]\nrating_range = [0, 1]\n'
        )
    for name, method in (("good", "mf:epochs=8+dim=4"), ("poor", "mf:epochs=1+dim=1")):
        arguments = ["fit", method, str(folder / "train.toml"), "--out", str(folder / name), "--quiet"]
        assert main(arguments) == 0
    return folder


def test_two_models(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "s.json", tmp_path / "s.html"
    arguments = ["sensitivity", str(folder / "good"), str(folder / "poor"), str(folder / "log.toml")]
    arguments += [
        "--propensity",
        "popularity",
        "--gammas",
        "1,1.5,2",
        "--metrics",
        "mse,recall@5",
        "--k",
        "5",
    ]
    assert main([*arguments, "--json", str(out), "--report", str(page)]) == 0
    record = json.loads(out.read_text())
    assert record["methods"] == ["mf (good)", "mf (poor)"]
    assert [t["metric"] for t in record["tipping"]] == ["mse", "recall@5/full/pooled"]
    captured = capsys.readouterr()
    assert "mf (good)" in captured.out
    assert record["answer"][0] in captured.err
    for text in (out.read_text(), page.read_text(), captured.out, captured.err):
        assert "person-" not in text


def test_a_log_alone(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["sensitivity", str(folder / "log.toml"), "--propensity", "popularity", "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["methods"] == []
    assert len(record["items"]) == 10


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (("--gammas", "1,lots"), "--gammas must be numbers"),
        (("--gammas", "0.5"), "must be a finite number of at least 1"),
        (("--metrics", "auc"), "has no exact bounds"),
    ],
)
def test_what_it_refuses(
    capsys: pytest.CaptureFixture[str], folder: Path, extra: tuple[str, ...], says: str
) -> None:
    assert main(["sensitivity", str(folder / "good"), str(folder / "log.toml"), *extra]) == 2
    assert says in capsys.readouterr().err


def test_the_training_log_judges_nothing(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["sensitivity", str(folder / "good"), str(folder / "train.toml")]) == 2
    assert "this is the log that the model was trained on" in capsys.readouterr().err
