"""`data describe | convert | split` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import deconrec as dc
from deconrec.cli import main

COLUMNS = ("--user", "visitor", "--item", "sku", "--rating", "stars", "--timestamp", "when")


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"ann-{k // 12},SKU {k % 12},{rng.integers(1, 6)},{k}\n" for k in rng.permutation(20 * 12)[:100]]
    path = tmp_path / "ratings.csv"
    path.write_text("visitor,sku,stars,when\n" + "".join(rows))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_csv_becomes_a_data_set(capsys: pytest.CaptureFixture[str], ratings: Path, tmp_path: Path) -> None:
    code, text, _ = run(capsys, "data", "describe", ratings, *COLUMNS, "--json", "-")
    assert code == 0
    assert json.loads(text)["logs"]["biased"]["rows"] == 100
    shop = tmp_path / "shop"
    task = ("--rating-range", 1, 5, "--binarize", 4, "--name", "the shop")
    code, _, said = run(capsys, "data", "convert", ratings, *COLUMNS, *task, "--out", shop)
    assert code == 0
    assert f"wrote {shop / 'data.toml'}; use it as {shop}" in said
    data = dc.load(shop)
    assert (data.name, data.task.binarize, data.task.rating_range) == ("the shop", 4, (1, 5))
    code, _, said = run(capsys, "data", "split", shop, "--out", tmp_path / "split", "--split", "time")
    assert code == 0
    assert "holdout 15" in said
    assert len(dc.load(tmp_path / "split" / "test").test) > 0
    assert run(capsys, "fit", "popularity", tmp_path / "split" / "train", "--out", tmp_path / "model")[0] == 0


def test_recbole_and_one_file(capsys: pytest.CaptureFixture[str], ratings: Path, tmp_path: Path) -> None:
    code, _, _ = run(capsys, "data", "convert", ratings, *COLUMNS, "--out", tmp_path / "a.inter", "-q")
    assert code == 0
    code, _, said = run(
        capsys, "data", "convert", tmp_path / "a.inter", "--out", tmp_path / "r", "--to", "inter"
    )
    assert code == 0
    for given in (tmp_path / "a.inter", tmp_path / "r"):
        code, text, _ = run(capsys, "data", "describe", given, "--json", "-")
        assert (code, json.loads(text)["users"]) == (0, 20)
    code, _, said = run(capsys, "data", "convert", tmp_path / "r", "--out", tmp_path / "a.inter")
    assert (code, "--overwrite" in said) == (2, True)
    assert (
        run(capsys, "data", "convert", tmp_path / "r", "--out", tmp_path / "a.inter", "--overwrite")[0] == 0
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["describe", "{ratings}"], "--user, --item and --rating"),
        (
            ["describe", "sim-pairs", "--user", "u"],
            "is a catalogue name, which says this itself: leave out columns",
        ),
        (["describe", "gone.csv"], "there is no data set 'gone.csv'"),
        (["convert", "{ratings}", "--out", "{ratings}"], "must not be written over"),
        (["convert", "sim-pairs", "--out", "{folder}/x", "--to", "csv"], "one of parquet, inter"),
        (["convert", "sim-pairs", "--out", "{folder}"], "left alone"),
        (["split", "sim-pairs", "--out", "{folder}/x", "--protocol", "rows"], "'pairs' or 'users'"),
    ],
)
def test_mistakes(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], ratings: Path, tmp_path: Path
) -> None:
    filled = [a.format(ratings=ratings, folder=tmp_path) for a in arguments]
    code, _, said = run(capsys, "data", *filled)
    assert code == 2
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "x").exists()
