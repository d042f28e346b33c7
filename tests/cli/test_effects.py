"""`deconrec effects` and `deconrec recommend --explore` on files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

import deconrec as dc
from deconrec.catalogue import open_data
from deconrec.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("effects")
    data, truth = dc.simulate.effects(n_users=400, n_items=16, n_confounders=2, seed=0)
    exposure = dc.VAEExposure(dim=2, epochs=2, check_draws=10)
    dc.DeepDeconf(epochs=2, hidden=(8,), exposure=exposure).fit(data).save(folder / "model")
    user, item = (x.ravel() for x in np.indices(data.shape))
    table = pl.DataFrame({"user_id": user, "item_id": item, "rating": truth.rating.ravel()})
    table.write_parquet(folder / "outcomes.parquet")
    return folder


def test_effects_of_outcomes(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    code, out, err = run(
        *(capsys, "effects", model / "model", "--outcomes", model / "outcomes.parquet", "--dims", "1,2"),
        *("--bootstrap", 3, "--json", model / "e.json", "--report", model / "e.html"),
    )
    assert code == 0, err
    assert "[SINGLE_CAUSE] assumed" in out
    record = json.loads((model / "e.json").read_text())
    assert record["settings"]["dims"] == [1, 2]
    assert len(record["effects"]) == 16 * 16
    assert record["effects"][0]["low"] < record["effects"][0]["adjusted"] < record["effects"][0]["high"]
    assert "<svg" in (model / "e.html").read_text()


def test_from_a_simulated_world_to_effects(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`simulate sim-effects` writes the outcomes that `effects` reads, and the truth apart."""
    sets = [w for s in ("n_users=300", "n_items=14", "n_confounders=1") for w in ("--set", s)]
    world, model = tmp_path / "world", tmp_path / "model"
    code, _, err = run(capsys, "simulate", "sim-effects", *sets, "--out", world, "--seed", 2)
    assert code == 0, err
    data, truth = open_data("sim-effects:n_users=300+n_items=14+n_confounders=1").draw(2)
    assert truth is not None
    outcomes = pl.read_parquet(world / "outcomes.parquet")
    assert outcomes.columns == ["user_id", "item_id", "rating"]
    wide = outcomes.sort("user_id", "item_id")["rating"].to_numpy().reshape(data.shape)
    assert np.array_equal(wide, truth.rating)
    assert {"log.parquet", "data.toml", "outcomes.parquet", "truth"} <= {p.name for p in world.iterdir()}
    secrets = load_file(world / "truth" / "truth.safetensors")
    assert np.array_equal(secrets["extra.effects"], truth.extra["effects"])
    code, _, err = run(capsys, "fit", "concat-vae:epochs=1", world / "data.toml", "--out", model)
    assert code == 0, err
    code, out, err = run(
        *(
            capsys,
            "effects",
            model,
            "--outcomes",
            world / "outcomes.parquet",
            "--dims",
            "1",
            "--bootstrap",
            0,
        ),
        *("--json", "-"),
    )
    assert code == 0, err
    own = [r["adjusted"] for r in json.loads(out)["effects"] if r["own"]]
    assert np.abs(np.array(own) - np.diag(truth.extra["effects"])).mean() < 0.25


def test_effects_of_the_network_are_refused(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    options = ("--items", "3,4", "--causes", "3", "--users", "0,1,2", "--kind", "difference")
    code, out, err = run(capsys, "effects", model / "model", *options, "--json", "-")
    assert code == 0, err
    record = json.loads(out)
    assert record["refused"] is True
    assert [r["adjusted"] for r in record["effects"]] == [None, None]
    code, out, _ = run(capsys, "effects", model / "model", *options, "--even-if-refused")
    assert code == 0
    assert "NOT an effect" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--dims", "1,b"), "--dims must be whole numbers"),
        (("--at", "one"), "'mean' or 'zero'"),
        (("--items", "99"), "1 of 1 item ids"),
        (("--outcome", "tree"), "'network', 'linear' or 'net'"),
        (("--treatments", "one"), "does not read treatments"),
    ],
)
def test_mistakes(
    capsys: pytest.CaptureFixture[str], model: Path, options: tuple[str, ...], says: str
) -> None:
    code, _, err = run(capsys, "effects", model / "model", *options)
    assert code == 2
    assert says in err


def test_recommend_explores(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    out = model / "shown.parquet"
    explored = ("recommend", model / "model", "--k", 3, "--out", out, "--include-seen", "--seed", 4)
    code, _, err = run(capsys, *explored, "--explore", "plackett-luce", "--temperature", 0.5)
    assert code == 0, err
    shown = pl.read_parquet(out)
    assert shown.columns == ["user_id", "item_id", "rank", "score", "propensity"]
    assert shown["propensity"].is_between(0, 1, closed="right").all()
    assert shown.group_by("user_id").len()["len"].to_list() == [3] * 400
    code, _, err = run(capsys, *explored, "--explore", "luck")
    assert code == 2
    assert "'epsilon-greedy', 'plackett-luce' or 'posterior'" in err


def test_a_users_draw_is_its_own(model: Path) -> None:
    fitted = dc.load_model(model / "model")
    every = fitted.recommend(k=3, explore="epsilon-greedy", epsilon=0.5, seed=2)
    some = fitted.recommend([7, 30], k=3, explore="epsilon-greedy", epsilon=0.5, seed=2)
    assert every.filter(pl.col("user_id").is_in([7, 30])).equals(some)
    assert not every.equals(fitted.recommend(k=3, explore="epsilon-greedy", epsilon=0.5, seed=3))
    assert fitted.recommend([], k=3, explore="epsilon-greedy").columns[-1] == "propensity"
    assert fitted.recommend(k=3).columns == ["user_id", "item_id", "rank", "score"]
