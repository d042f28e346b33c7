"""The command line as a user meets it: real entry point, real files, exit codes, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from deconrec.cli import main


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 200-user log as CSV files with string ids, a randomised bucket and a TOML data file."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}") for u in range(40) for i in rng.choice(25, 8, replace=False)]
    rating = rng.integers(1, 6, len(rows))
    log = pl.DataFrame({"user_id": [u for u, _ in rows], "item_id": [i for _, i in rows], "rating": rating})
    log.write_csv(folder / "log.csv")
    rows = [(f"u{u}", f"i{i}") for u in range(40) for i in rng.choice(25, 5, replace=False)]
    bucket = pl.DataFrame(
        {
            "user_id": [u for u, _ in rows],
            "item_id": [i for _, i in rows],
            "rating": rng.integers(1, 6, len(rows)),
        }
    )
    bucket.write_parquet(folder / "randomised.parquet")
    (folder / "data.toml").write_text(
        '[biased]\npath = "log.csv"\n[unbiased]\npath = "randomised.parquet"\n'
        "[task]\nbinarize = 4.0\nunbiased_split = [0.2, 0.2, 0.6]\n[log]\nrating_range = [1, 5]\n"
    )
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_methods_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "methods", "--json", "-")
    rows = json.loads(out)
    assert code == 0
    assert set(rows[0]) == {
        "name",
        "paper",
        "title",
        "needs_unbiased",
        "uses_features",
        "shape",
        "impressions",
    }
    by_name = {r["name"]: r for r in rows}
    assert by_name["res-dr"]["needs_unbiased"] is True
    assert by_name["mf"]["needs_unbiased"] is False
    assert by_name["mf-uniform"]["needs_unbiased"] is True
    assert by_name["deep-deconf"]["shape"] == "rows"


def test_fit_predict_recommend(capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    code, _, err = run(
        *(capsys, "fit", "res-ips:policy=joint", world / "data.toml", "--out", model),
        *("--set", "epochs=3", "--set", "dim=4", "--json", tmp_path / "fit.json"),
    )
    assert code == 0, err
    record = json.loads((tmp_path / "fit.json").read_text())
    assert record["params"]["policy"] == "joint"
    assert record["params"]["epochs"] == 3
    assert record["unbiased_rows"] == 200

    pairs = tmp_path / "pairs.csv"
    pl.DataFrame({"user_id": ["u0", "u1", "stranger"], "item_id": ["i0", "nothing", "i3"]}).write_csv(pairs)
    scores = tmp_path / "scores.parquet"
    assert run(capsys, "predict", model, pairs, "--out", scores)[0] == 0
    frame = pl.read_parquet(scores)
    assert frame.columns == ["user_id", "item_id", "score", "source"]
    assert frame["source"].to_list() == ["model", "fallback", "fallback"]
    assert frame["score"].is_between(0, 1).all()

    history = tmp_path / "history.csv"
    pl.DataFrame({"user_id": ["stranger"] * 2, "item_id": ["i0", "i1"], "rating": [5, 1]}).write_csv(history)
    assert run(capsys, "predict", model, pairs, "--out", scores, "--history", history)[0] == 0
    assert pl.read_parquet(scores)["source"].to_list() == ["model", "fallback", "fold-in"]

    recs = tmp_path / "recs.parquet"
    assert run(capsys, "recommend", model, "--k", 4, "--out", recs)[0] == 0
    frame = pl.read_parquet(recs)
    assert frame.columns == ["user_id", "item_id", "rank", "score"]
    assert frame["user_id"].n_unique() == 40
    assert frame["rank"].min() == 1
    assert frame["rank"].max() == 4
    seen = pl.read_csv(world / "log.csv").select("user_id", "item_id")
    assert frame.join(seen, on=["user_id", "item_id"]).is_empty()
    assert run(capsys, "recommend", model, "--k", 25, "--include-seen", "--out", recs)[0] == 0
    assert len(pl.read_parquet(recs)) == 40 * 25


def test_fit_keeps_the_diagnosis(capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path) -> None:
    from deconrec.saving import read_about

    for options, kept in (([], False), (["--diagnose"], True)):
        out = tmp_path / f"m{kept}"
        code, _, err = run(
            *(capsys, "fit", "popularity", world / "data.toml", "--out", out, "--json", tmp_path / "f.json"),
            *options,
        )
        assert code == 0, err
        about = read_about(out)["about"]
        record = json.loads((tmp_path / "f.json").read_text())
        assert about["data"]["fingerprint"] == record["fingerprint"]
        assert (about["diagnosis"] is not None) is kept
        if kept:
            assert record["diagnosis"] == about["diagnosis"]
            assert {"answer", "confounding", "overlap", "verdicts"} <= set(about["diagnosis"])
            assert all({"code", "says", "cannot_see"} <= set(v) for v in about["diagnosis"]["verdicts"])
            assert about["diagnosis"]["answer"][0] in err


def test_recommend_on_the_screen_is_for_a_few(
    capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    assert run(capsys, "fit", "popularity", world / "data.toml", "--out", model)[0] == 0
    code, out, _ = run(capsys, "recommend", model, "--k", 3)
    assert code == 0
    assert sum(line.startswith("u") and line[1:2].isdigit() for line in out.splitlines()) == 5
    assert (
        run(capsys, "recommend", model, "--features", world / "log.csv", "--out", tmp_path / "o.csv")[0] == 2
    )
    assert run(capsys, "predict", model, world / "log.csv", "--out", tmp_path / "o.xls")[0] == 2
    assert run(capsys, "predict", tmp_path, world / "log.csv", "--out", tmp_path / "o.csv")[0] == 2


def test_compare_json_and_report(capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    code, out, err = run(
        capsys, "compare", world / "data.toml", "--methods", "mf:epochs=3,ips:epochs=3", "--seeds", 2,
        "--json", "-", "--report", report,
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(out)
    assert {"dataset", "protocol", "runs", "summary", "tests", "environment"} <= set(result)
    assert len(result["runs"]) == 4
    for run_ in result["runs"]:
        assert {"method", "seed", "setting", "metrics", "seconds", "unbiased_rows", "params"} <= set(run_)
    assert result["runs"][0]["method"] == "mf:epochs=3"
    keys = {"a", "b", "metric", "setting", "difference", "low", "high", "p", "p_holm", "test", "unit"}
    assert keys <= set(result["tests"][0])
    assert report.read_text().startswith("<!doctype html>") or "<html" in report.read_text()[:200]
    again = tmp_path / "again.html"
    (tmp_path / "result.json").write_text(out)
    assert run(capsys, "report", tmp_path / "result.json", "--out", again)[0] == 0
    assert again.read_text() == report.read_text()


def test_simulate_then_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "sim"
    small = [
        "--set",
        "n_users=60",
        "--set",
        "n_items=30",
        "--set",
        "exposure_rate=0.2",
        "--set",
        "unbiased_share=0.1",
    ]
    assert run(capsys, "simulate", "sim-pairs", *small, "--out", out, "--seed", 3)[0] == 0
    names = {p.name for p in out.iterdir()}
    assert {
        "log.parquet",
        "randomised.parquet",
        "users.parquet",
        "items.parquet",
        "data.toml",
        "truth",
    } <= names
    code, text, _ = run(capsys, "data", "describe", out / "data.toml", "--json", "-")
    assert code == 0
    json.loads(text)
    assert run(capsys, "fit", "mf:epochs=2", out / "data.toml", "--out", tmp_path / "m")[0] == 0


MISTAKES = [
    (["fit", "mff", "coat", "--out", "m"], "did you mean 'mf'"),
    (["fit", "mf:dims=3", "sim-pairs", "--out", "m"], "did you mean 'dim'"),
    (["fit", "mf:dim=x", "sim-pairs", "--out", "m"], "whole number"),
    (["fit", "mf:lr=-1", "sim-pairs", "--out", "m"], "must be a number > 0"),
    (["fit", "mf", "sim-pair", "--out", "m"], "did you mean 'sim-pairs'"),
    (["fit", "mf", "sim-pairs", "--out", "m", "--set", "epochs"], "NAME=VALUE"),
    (["fit", "mf", "nowhere.toml", "--out", "m"], "nowhere.toml"),
    (["compare", "sim-pairs", "--methods", "mf,mf", "--seeds", "1"], "each method once"),
    (["compare", "sim-pairs", "--methods", "mf", "--metrics", "aucc"], "did you mean 'auc'"),
    (["compare", "sim-pairs", "--methods", "mf", "--select", "test"], "biased, unbiased, within-exposure"),
    (["compare", "sim-pairs:confound=2", "--methods", "mf"], "did you mean 'confounding'"),
    (["predict", "no-model", "pairs.csv", "--out", "s.parquet"], "no saved model"),
    (["recommend", "no-model", "--out", "r.txt"], ".parquet or .csv"),
    (["report", "none.json", "--out", "r.html"], "writes with --json; it cannot be read"),
    (["simulate", "coat", "--out", "x"], "no simulator"),
    (["frobnicate"], "frobnicate"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), MISTAKES, ids=[" ".join(a[:2]) + f"#{k}" for k, (a, _) in enumerate(MISTAKES)]
)
def test_mistakes(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2, (out, err)
    assert says in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [], "a mistake wrote something"


def test_foreign_folder_is_left_alone(
    capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("ten years")
    code, _, err = run(capsys, "fit", "mf:epochs=1", world / "data.toml", "--out", tmp_path / "mine")
    assert code == 2
    assert "left alone" in err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "ten years"


def test_divergence_is_exit_1(capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path) -> None:
    code, _, err = run(
        capsys,
        "fit",
        "mf:lr=1e30+error=squared+epochs=30+patience=0",
        world / "data.toml",
        "--out",
        tmp_path / "m",
    )
    assert code == 1
    assert "diverged" in err
    assert "epoch 0" in err
    assert not (tmp_path / "m").exists()


def test_entry_point_and_quiet(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "deconrec"
    out = subprocess.run(
        [program, "info", "--json", "-", "--quiet"], capture_output=True, text=True, check=True
    )
    facts = json.loads(out.stdout)
    assert facts["deconrec"]
    assert out.stderr == ""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("deconrec ")


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        "methods",
        "fit",
        "predict",
        "recommend",
        "compare",
        "report",
        "simulate",
        "demo",
        "info",
    ):
        code, out, _ = run(capsys, command, "--help")
        assert code == 0
        assert len(out) > 100
