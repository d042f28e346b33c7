"""Drawn lists, their propensities, and the log that holds both."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.errors import DataError, FileError, MissingData, ParameterError
from deconrec.evaluation.policy import draw
from deconrec.serving.log import ListLog
from deconrec.serving.ranker import Policy
from deconrec.serving.served import read_lists, served_log

POLICIES = [Policy("epsilon-greedy", epsilon=0.4), Policy("plackett-luce", temperature=0.3)]


def enumerated(policy: Policy, scores: dict[int, float], k: int) -> dict[tuple[int, ...], float]:
    """P(list) of every list of k, from the definitions."""
    best = sorted(scores, key=lambda i: (-scores[i], i))
    out = {}
    for chosen in itertools.permutations(best, k):
        p, left = 1.0, list(best)
        for i in chosen:
            if policy.explore == "epsilon-greedy":
                p *= policy.epsilon / len(left) + (1 - policy.epsilon) * (i == left[0])
            else:
                w = {j: np.exp(scores[j] / policy.temperature) for j in left}
                p *= w[i] / sum(w.values())
            left.remove(i)
        out[chosen] = p
    return out


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_propensities_against_every_list(policy: Policy, models: Any, server: Any, tmp_path: Path) -> None:
    """Six candidates, two places: what is served and logged is what enumeration says, as often as it says."""
    client = server("mf", policy, tmp_path / "log", seed=3)
    allow = [2, 5, 7, 11, 13, 29]
    question = {"user": 1, "k": 2, "allow": allow, "exclude_seen": False}
    score = dict(zip(allow, dc.load_model(models["mf"]).predict(([1] * 6, allow)), strict=True))
    lists = enumerated(policy, score, 2)
    assert sum(lists.values()) == pytest.approx(1)
    inside = {i: sum(p for chosen, p in lists.items() if i in chosen) for i in allow}
    n, found = 400, dict.fromkeys(lists, 0)
    for _ in range(n):
        rows = client.post("/recommend", json=question).json()["items"]
        found[tuple(row["item_id"] for row in rows)] += 1
        for row in rows:
            assert row["propensity"] == pytest.approx(inside[row["item_id"]], rel=1e-6)
    # A chi-squared of 29 degrees of freedom exceeds 58 once in a thousand.
    chi = sum((found[chosen] - n * p) ** 2 / (n * p) for chosen, p in lists.items())
    assert chi < 58
    frame, torn = read_lists(tmp_path / "log")
    assert (frame["list_id"].n_unique(), torn) == (n, 0)
    assert frame["context"].n_unique() == 1
    assert np.allclose(frame["propensity"], [inside[i] for i in frame["item_id"]], rtol=1e-6)


def test_the_server_draws_as_recommend_does(models: Any, server: Any) -> None:
    """The same scores and the same stream give the same list."""
    client, model = server("mf", POLICIES[1], seed=0), dc.load_model(models["mf"])
    rng = np.random.default_rng(0)
    for user in (3, 8, 3):
        scores = model.score([user]).astype(np.float32)
        scores[0, model.seen_[model.users_.encode([user])[0]].indices] = -np.inf
        shown = draw("plackett-luce", scores, 5, [rng], temperature=0.3)
        rows = client.get("/recommend", params={"user": user, "k": 5}).json()["items"]
        assert [row["item_id"] for row in rows] == model.items_.decode(shown.item[0]).to_list()
        assert np.allclose([row["propensity"] for row in rows], shown.propensity[0], rtol=1e-4)


def test_a_request_may_ask_for_another_policy(server: Any, tmp_path: Path) -> None:
    client = server("mf", POLICIES[0], tmp_path / "log")
    client.get("/recommend?user=1&k=3")
    client.get("/recommend?user=1&k=3&epsilon=0.9")
    client.get("/recommend?user=1&k=3&explore=none")
    client.get("/recommend?user=1&k=3&explore=plackett-luce&temperature=2")
    lines = [json.loads(x) for p in (tmp_path / "log").iterdir() for x in p.read_text().splitlines()]
    assert [(x["explore"], x.get("epsilon"), x.get("temperature")) for x in lines] == [
        ("epsilon-greedy", 0.4, None),
        ("epsilon-greedy", 0.9, None),
        ("none", None, None),
        ("plackett-luce", None, 2.0),
    ]
    assert len({x["context"] for x in lines}) == 4
    assert client.get("/recommend?user=1&explore=posterior").status_code == 422


def test_posterior(tmp_path: Path, server: Any) -> None:
    data, _ = dc.simulate.pairs(n_users=40, n_items=15, exposure_rate=0.3, unbiased_share=0.1, seed=0)
    folder = dc.METHODS["grounded-gp"](draws=20).fit(data).save(tmp_path / "gp")
    client = server(folder, Policy("posterior"), tmp_path / "log", seed=0)
    model = dc.load_model(folder)
    draws = model._posterior(np.array([5]))[:, 0]
    hidden = model.seen_[5].indices
    draws[:, hidden] = -np.inf
    lists = [set(np.argsort(-d, kind="stable")[:3]) for d in draws]
    for _ in range(5):
        rows = client.get("/recommend?user=5&k=3").json()["items"]
        for row in rows:
            assert row["propensity"] == pytest.approx(np.mean([row["item_id"] in chosen for chosen in lists]))
    fallback = client.get("/recommend?user=nobody&k=3").json()
    assert (fallback["source"], {row["propensity"] for row in fallback["items"]}) == ("fallback", {1.0})
    history = {"user": "new", "k": 3, "history": [{"item_id": 1, "rating": 1}]}
    assert client.post("/recommend", json=history).json()["source"] == "fold-in"


# ---------------------------------------------------------------------- the log
def line(n: int, user: Any, items: list[Any], p: float | list[float], **options: Any) -> dict[str, Any]:
    chances = p if isinstance(p, list) else [p] * len(items)
    return {
        "list_id": f"l{n}",
        "model": "m",
        "user_id": user,
        "source": "model",
        "explore": "epsilon-greedy",
        "context": "c",
        "item_id": items,
        "score": [0.5] * len(items),
        "propensity": chances,
    } | options


def test_a_log_is_whole_lines_in_parts(tmp_path: Path) -> None:
    clock = (datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC) for second in itertools.cycle(range(60)))
    log = ListLog(tmp_path / "log", size=500, now=lambda: next(clock))
    for n in range(12):
        log.write(line(n, n, [1, 2], 0.5))
        whole = b"".join(p.read_bytes() for p in sorted((tmp_path / "log").iterdir()))
        assert whole.count(b"\n") == n + 1  # there at once, without a close
    log.close()
    assert len(list((tmp_path / "log").glob("served-*.jsonl"))) > 3
    frame, torn = read_lists(tmp_path / "log")
    assert (len(frame), torn) == (24, 0)
    assert frame["rank"].to_list() == [1, 2] * 12
    another = ListLog(tmp_path / "log")  # another process in the same folder
    another.write(line(99, 1, [3], 0.5))
    another.close()
    assert len(read_lists(tmp_path / "log")[0]) == 25


def test_torn_and_spoilt_lines(tmp_path: Path) -> None:
    log = ListLog(tmp_path)
    for n in range(3):
        log.write(line(n, n, [1], 0.5))
    log.close()
    path = next(tmp_path.glob("*.jsonl"))
    path.write_bytes(path.read_bytes()[:-5])
    frame, torn = read_lists(tmp_path)
    assert (len(frame), torn) == (2, 1)
    path.write_bytes(path.read_bytes().replace(b'"user_id"', b'"user"', 1))
    with pytest.raises(DataError, match="line 1 is no served list"):
        read_lists(tmp_path)
    with pytest.raises(MissingData, match="no log of served lists"):
        read_lists(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        ListLog(tmp_path / "file")


def test_first_lists_and_all_lists(tmp_path: Path) -> None:
    log = ListLog(tmp_path)
    log.write(line(0, 1, [10], 1.0, explore="none", context="greedy"))
    log.write(line(1, 1, [10, 20], [0.5, 0.25]))
    log.write(line(2, 1, [20, 30], [0.25, 0.1]))
    log.write(line(3, 1, [40, 10], 0.7, context="other"))
    log.write(line(4, 2, [10, 20], [0.5, 0.25]))
    log.close()
    outcomes = pl.DataFrame({"user_id": [1, 1, 1, 9], "item_id": [10, 20, 20, 9], "rating": [1, 5, 0, 1]})
    first = served_log(tmp_path, outcomes)
    assert first.table.rows() == [(1, 10, 1.0, 0.5), (1, 20, 0.0, 0.25)]
    assert (first.lists, first.kept_lists, first.unexplored, first.later, first.unrated) == (5, 2, 1, 2, 2)
    whole = served_log(tmp_path, outcomes, unrated=0.0, lists="all")
    assert [row[:3] for row in whole.table.rows()] == [
        (1, 10, 1.0),
        (1, 20, 0.0),
        (1, 30, 0.0),
        (2, 10, 0.0),
        (2, 20, 0.0),
    ]
    assert whole.table["propensity"].to_list() == pytest.approx([0.75, 1 - 0.75**2, 1 - 0.9**2, 0.5, 0.25])
    assert (whole.kept_lists, whole.other) == (3, 1)
    with pytest.raises(ParameterError, match="'first' or 'all'"):
        served_log(tmp_path, outcomes, lists="some")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="rating"):
        served_log(tmp_path, outcomes.drop("rating"))


def test_ids_of_both_kinds(tmp_path: Path) -> None:
    log = ListLog(tmp_path)
    log.write(line(0, 7, [1], 0.5))
    log.write(line(1, "nobody", [1], 0.5))
    log.close()
    outcomes = pl.DataFrame({"user_id": [7], "item_id": [1], "rating": [1.0]})
    assert served_log(tmp_path, outcomes).table.rows() == [("7", 1, 1.0, 0.5)]


def test_several_lists_are_weighted_rightly(tmp_path: Path) -> None:
    """A total over all items, from users that were served one to four lists."""
    rng = np.random.default_rng(0)
    score, value = np.linspace(0, 1, 12), np.linspace(2, 1, 12)
    log, n, number = ListLog(tmp_path), 800, itertools.count()
    for user in range(n):
        for _ in range(1 + user % 4):
            shown = draw("plackett-luce", score[None], 3, [rng], temperature=0.4)
            log.write(line(next(number), user, shown.item[0].tolist(), shown.propensity[0].tolist()))
    log.close()
    outcomes = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(n), 12),
            "item_id": np.tile(np.arange(12), n),
            "rating": np.tile(value, n),
        }
    )
    errors = {}
    for lists in ("first", "all"):
        table = served_log(tmp_path, outcomes, lists=lists).table
        weighted = table.group_by("user_id").agg((pl.col("rating") / pl.col("propensity")).sum())["rating"]
        errors[lists] = float(weighted.std()) / np.sqrt(n)
        assert abs(float(weighted.mean()) - value.sum()) < 4 * errors[lists]
    assert errors["all"] < 0.8 * errors["first"]
    # What was logged, taken for the propensity of pairs of several lists, is far off.
    frame = read_lists(tmp_path)[0].unique(["user_id", "item_id"]).join(outcomes, on=["user_id", "item_id"])
    wrong = frame.group_by("user_id").agg((pl.col("rating") / pl.col("propensity")).sum())["rating"].mean()
    assert float(wrong) > value.sum() + 20 * errors["all"]


def test_an_outcome_of_text_ids(tmp_path: Path) -> None:
    log = ListLog(tmp_path)
    log.write(line(0, "u1", ["i1", "i2"], 0.5))
    log.close()
    (tmp_path / "clicks.csv").write_text("user_id,item_id,rating\nu1,i2,1\n")
    table = served_log(tmp_path, str(tmp_path / "clicks.csv"), unrated=0).table
    assert table.rows() == [("u1", "i1", 0.0, 0.5), ("u1", "i2", 1.0, 0.5)]
