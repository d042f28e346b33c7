"""`deconrec evaluate`: a saved model, a log from an exploring policy, and the training log."""

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
    """A model on disk (m), the log it was trained on (train.toml), and a rated exploring log (explored.toml)."""
    folder = tmp_path_factory.mktemp("evaluate")
    data, truth = dc.simulate.pairs(n_users=80, n_items=30, exposure_rate=0.2, unbiased_share=0.05, seed=2)
    ids = {
        "user_id": pl.format("person-{}", pl.col("user_id")),
        "item_id": pl.format("i{}", pl.col("item_id")),
    }
    data.frame(data.biased).with_columns(**ids).write_csv(folder / "train.csv")
    task = "[task]\nbinarize = 0.5\n[log]\nrating_range = [0, 1]\n"
    (folder / "train.toml").write_text(f'[biased]\npath = "train.csv"\n{task}')
    assert (
        main(["fit", "mf:epochs=3", str(folder / "train.toml"), "--out", str(folder / "m"), "--quiet"]) == 0
    )
    shown = ["recommend", str(folder / "m"), "--k", "6", "--explore", "epsilon-greedy", "--epsilon", "0.6"]
    assert main([*shown, "--out", str(folder / "shown.csv"), "--quiet"]) == 0
    table = pl.read_csv(folder / "shown.csv")
    user = table["user_id"].str.strip_prefix("person-").cast(pl.Int64).to_numpy()
    item = table["item_id"].str.strip_prefix("i").cast(pl.Int64).to_numpy()
    rated = table.rename({"propensity": "chance"})
    rated.with_columns(pl.Series("rating", truth.rating[user, item])).write_csv(folder / "explored.csv")
    columns = '[columns]\npropensity = "chance"\n'
    (folder / "explored.toml").write_text(f'[biased]\npath = "explored.csv"\n{columns}{task}')
    return folder


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_an_exploring_log_judges_with_its_own_propensities(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, estimator: str
) -> None:
    out = tmp_path / "e.json"
    arguments = ["evaluate", str(folder / "m"), str(folder / "explored.toml"), "--estimator", estimator]
    assert (
        main(
            [
                *arguments,
                "--imputation",
                "mf:epochs=1",
                "--metrics",
                "mse,ndcg@6,recall@6",
                "--json",
                str(out),
            ]
        )
        == 0
    )
    rows = json.loads(out.read_text())
    assert [r["metric"] for r in rows] == ["mse", "ndcg@6/full/pooled", "recall@6/full/pooled"]
    for row in rows:
        assert row["estimator"] == estimator
        assert row["log"]["propensity"] == "known"
        assert row["log"]["rows_used"] == 474
        assert row["low"] <= row["estimate"] <= row["high"]
        assert np.isfinite(row["ess"])
    captured = capsys.readouterr()
    assert "effective rows" in captured.out
    assert "Judged by 474 of 474 rows" in captured.err
    assert "person-" not in out.read_text() + captured.out + captured.err


def test_the_training_log_is_refused(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["evaluate", str(folder / "m"), str(folder / "train.toml"), "--json", "-"]) == 2
    captured = capsys.readouterr()
    assert "this is the log that the model was trained on" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (("--estimator", "dm"), "'estimator' must be one of ips, snips, dr"),
        (("--propensity", "nonsense"), "there is no propensity 'nonsense'"),
        (("--metrics", "mrr@5"), "there is no metric that can be estimated 'mrr@5'"),
        (("--metrics", "auc@5"), "must be written auc"),
    ],
)
def test_what_evaluate_refuses(
    capsys: pytest.CaptureFixture[str], folder: Path, extra: tuple[str, ...], says: str
) -> None:
    assert main(["evaluate", str(folder / "m"), str(folder / "explored.toml"), *extra]) == 2
    assert says in capsys.readouterr().err


def test_propensities_outside_0_1_are_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    table = pl.read_csv(folder / "explored.csv").with_columns(chance=pl.lit(0.0))
    table.write_csv(tmp_path / "explored.csv")
    (tmp_path / "d.toml").write_text((folder / "explored.toml").read_text())
    assert main(["evaluate", str(folder / "m"), str(tmp_path / "d.toml")]) == 2
    assert "must be propensities in (0, 1]; 474 of 474 are not" in capsys.readouterr().err
