"""Serve, log, evaluate, retrain: the whole loop over the real interfaces, with a simulator as the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.cli import main
from deconrec.propensity import Known
from deconrec.serving.ranker import Policy

K = 8


def test_the_loop(tmp_path: Path, server: Any) -> None:
    """What the commands say: the served lists judge the model rightly, and teach a better one."""
    data, truth = dc.simulate.pairs(
        n_users=300, n_items=40, confounding=2.0, exposure_rate=0.1, unbiased_share=0, seed=1
    )
    settings: dict[str, Any] = {"dim": 3, "epochs": 25, "seed": 0}
    first = dc.MF(**settings).fit(data)
    folder = first.save(tmp_path / "model")
    client = server(folder, Policy("epsilon-greedy", epsilon=0.5), tmp_path / "served", seed=0)

    clicks = []
    for user in data.users.values:
        for row in client.get(f"/recommend?user={user}&k={K}").json()["items"]:
            if truth.rating[user, row["item_id"]]:  # type: ignore[index]
                clicks.append((user, row["item_id"], 1.0))
    outcomes = pl.DataFrame(clicks, schema=["user_id", "item_id", "rating"], orient="row")
    outcomes.write_csv(tmp_path / "clicks.csv")

    log = str(tmp_path / "log.parquet")
    arguments = ["--outcomes", str(tmp_path / "clicks.csv"), "--unrated", "0", "--out", log]
    assert main(["served", str(tmp_path / "served"), *arguments]) == 0
    (tmp_path / "log.toml").write_text(
        '[biased]\npath = "log.parquet"\n[task]\nbinarize = 0.5\n', encoding="utf-8"
    )

    # Evaluate: the truth of the model over what it was not given lies in the interval of the served log.
    found = dc.evaluate(str(folder), str(tmp_path / "log.toml"), metrics=["mse"], estimator="snips")
    mse = found.estimates[0]
    outside = first.seen_.toarray() == 0
    assert truth.rating is not None
    assert truth.outcome is not None
    exact = ((first.score() - truth.rating) ** 2)[outside].mean()
    assert found.log["propensity"] == "known"
    assert found.log["rows_used"] == 300 * K
    assert mse.low is not None
    assert mse.low < exact < mse.high
    assert found.mass["low"] < 1 < found.mass["high"]
    # Without the propensities, rows of the model's own choice stand for all: that misses.
    shown = pl.read_parquet(log)
    score = first.predict(shown.select("user_id", "item_id"))
    plain = (score - shown["rating"].to_numpy()) ** 2
    assert abs(plain.mean() - exact) > 2 * abs(mse.estimate - exact)

    # Retrain on what was served, by the known propensities.
    ids = {
        "users": pl.DataFrame({"user_id": data.users.values}),
        "items": pl.DataFrame({"item_id": data.items.values}),
    }
    again = dc.Dataset.from_frames(shown, binarize=0.5, rating_range=(0, 1), **ids)
    assert again.biased.propensity is not None
    second = dc.IPS(propensity=Known(), **settings).fit(again)
    errors = [float(((m.score() - truth.outcome) ** 2).mean()) for m in (first, second)]
    assert errors[1] < 0.7 * errors[0]

    # And it serves.
    second.save(folder)
    assert client.post("/reload").status_code == 200
    rows = client.get("/recommend?user=3&k=5&explore=none").json()["items"]
    assert [r["item_id"] for r in rows] == second.recommend([3], 5)["item_id"].to_list()


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy", [Policy("epsilon-greedy", epsilon=0.3), Policy("plackett-luce", temperature=0.3)]
)
def test_intervals_of_served_logs_hold_the_truth(policy: Policy) -> None:
    """Over 40 worlds, the 95 % interval of a served log holds the model's exact error."""
    from deconrec.serving.ranker import Asked, Ranker

    held, off = 0, []
    for seed in range(40):
        data, truth = dc.simulate.pairs(
            n_users=200, n_items=30, confounding=2.0, exposure_rate=0.1, unbiased_share=0, seed=seed
        )
        model = dc.METHODS["wmf"](dim=3, iterations=3, seed=seed).fit(data)
        ranker, rng, rows = Ranker(model), np.random.default_rng(seed), []
        assert truth.rating is not None
        for user in ranker.users.values:
            listed = ranker.recommend(Asked(user, 6), policy, rng)
            rows += [
                (user, int(i), float(truth.rating[int(user), i]), p)
                for i, p in zip(listed.code, listed.propensity, strict=True)
            ]
        frame = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "propensity"], orient="row")
        log = dc.Dataset.from_frames(frame, binarize=0.5, rating_range=(0, 1))
        found = dc.evaluate(model, log, metrics=["mse"], estimator="snips").estimates[0]
        exact = float(((model.score() - truth.rating) ** 2)[model.seen_.toarray() == 0].mean())
        assert found.low is not None
        assert found.high is not None
        assert found.estimate is not None
        held += found.low <= exact <= found.high
        off.append((found.estimate - exact) / exact)
    assert held >= 34  # of 40 with 95 %: fewer happens once in a hundred times
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(len(off)) + 0.01
