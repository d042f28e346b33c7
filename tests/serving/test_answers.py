"""What a server answers is what the model answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.serving.ids import Ids
from deconrec.serving.scores import best

NAMES = ("mf", "fm", "wmf", "popularity")


def listed(answer: Any) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [row["item_id"] for row in answer.json()["items"]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_lists_are_those_of_recommend(name: str, exclude_seen: bool, models: Any, server: Any) -> None:
    client, model = server(name), dc.load_model(models[name])
    for user in model.users_.values.to_list()[:20]:
        frame = model.recommend([user], 7, exclude_seen=exclude_seen)
        answer = client.get("/recommend", params={"user": user, "k": 7, "exclude_seen": exclude_seen})
        assert listed(answer) == frame["item_id"].to_list()
        assert np.allclose([row["score"] for row in answer.json()["items"]], frame["score"], rtol=1e-6)
        assert answer.json() | {"items": 0} | {"list_id": 0, "model": 0} == {
            "user_id": user,
            "source": "model",
            "explore": "none",
            "unknown_items": 0,
            "items": 0,
            "list_id": 0,
            "model": 0,
        }
        assert {row["propensity"] for row in answer.json()["items"]} == {1.0}


@pytest.mark.parametrize("name", NAMES)
def test_more_places_than_candidates(name: str, models: Any, server: Any) -> None:
    model = dc.load_model(models[name])
    user = model.users_.values[3]
    frame = model.recommend([user], 500)
    assert len(frame) < 30
    assert (
        listed(server(name).get("/recommend", params={"user": user, "k": 500})) == frame["item_id"].to_list()
    )


def test_unknown_users_get_the_fallback(models: Any, server: Any) -> None:
    model = dc.load_model(models["mf"])
    for user in ("nobody", "١٢", "7.5", 10**30, -4, "9" * 200):
        answer = server("mf").get("/recommend", params={"user": user, "k": 5})
        assert answer.json()["source"] == "fallback"
        assert listed(answer) == model.recommend([-99], 5, unknown="fallback")["item_id"].to_list()


def test_integers_and_text_are_one_id(server: Any) -> None:
    client = server("mf")
    by_text = client.post("/recommend", json={"user": "7", "k": 3})
    by_number = client.post("/recommend", json={"user": 7, "k": 3})
    assert by_text.json()["user_id"] == by_number.json()["user_id"] == 7
    assert listed(by_text) == listed(by_number) == listed(client.get("/recommend?user=007&k=3"))


def test_ids_are_read_as_the_vocabulary_reads_them(models: Any) -> None:
    for name in ("mf", "fm"):
        vocabulary = dc.load_model(models[name]).users_
        ids = Ids(vocabulary)
        for raw in (
            5,
            "5",
            "05",
            "+5",
            " 5",
            "5 ",
            "u5",
            "U5",
            "",
            "-1",
            "5.0",
            "1_0",
            "٥",
            10**25,
            -(10**25),
        ):
            expected = (
                -1
                if abs(int(raw) if isinstance(raw, int) else 0) > 2**63
                else int(vocabulary.encode([raw])[0])
            )
            assert ids.code(raw) == expected, raw


def test_allow_and_deny(models: Any, server: Any) -> None:
    client, model = server("mf"), dc.load_model(models["mf"])
    whole = model.recommend([2], 30, exclude_seen=False)["item_id"].to_list()
    allow, deny = whole[3:9], whole[4:6]
    wanted = [i for i in allow if i not in deny]
    question = {"user": 2, "k": 4, "exclude_seen": False, "allow": [*allow, "x", 999], "deny": [*deny, "y"]}
    for answer in (client.get("/recommend", params=question), client.post("/recommend", json=question)):
        assert listed(answer) == wanted[:4]
        assert answer.json()["unknown_items"] == 3
    seen = client.get("/recommend", params={"user": 2, "k": 30, "allow": allow})
    assert listed(seen) == [i for i in model.recommend([2], 30)["item_id"].to_list() if i in allow]
    assert listed(client.post("/recommend", json={"user": 2, "allow": []})) == []
    assert listed(client.post("/recommend", json={"user": 2, "allow": ["x"]})) == []
    assert len(listed(client.post("/recommend", json={"user": 2, "deny": [], "k": 2}))) == 2


@pytest.mark.parametrize("name", ["mf", "wmf"])
@pytest.mark.parametrize("user", [3, "new"])
def test_a_history_folds_in(name: str, user: Any, models: Any, server: Any) -> None:
    model = dc.load_model(models[name])
    rows = [(0, 5.0), (4, 1.0), (9, 4.0), (0, 2.0), ("unknown", 3.0)]
    question = {"user": user, "k": 6, "history": [{"item_id": i, "rating": r} for i, r in rows]}
    answer = server(name).post("/recommend", json=question)
    as_user = 3 if user == 3 else -5
    table = pl.DataFrame(
        {"user_id": [as_user] * 4, "item_id": [i for i, _ in rows[:4]], "rating": [r for _, r in rows[:4]]}
    )
    frame = model.recommend([as_user], 6, history=table)
    assert answer.json()["source"] == "fold-in"
    assert answer.json()["unknown_items"] == 1
    assert listed(answer) == frame["item_id"].to_list()
    assert np.allclose([row["score"] for row in answer.json()["items"]], frame["score"], rtol=1e-5)
    assert not {0, 4, 9} & set(listed(answer))


def test_features_fold_in_where_the_model_reads_them(models: Any, server: Any) -> None:
    client, model = server("fm"), dc.load_model(models["fm"])
    one = client.post("/recommend", json={"user": "new", "k": 30, "features": {"age": 0.9, "city": 0.1}})
    two = client.post(
        "/recommend", json={"user": "new", "k": 30, "features": {"age": 0.1, "city": 0.9, "more": "x"}}
    )
    assert one.json()["source"] == two.json()["source"] == "fold-in"
    assert [r["score"] for r in one.json()["items"]] != [r["score"] for r in two.json()["items"]]
    assert len(listed(one)) == len(model.items_)
    wrong = client.post("/recommend", json={"user": "new", "features": {"age": 1.0}})
    assert wrong.status_code == 422
    assert "the features need the column 'city'" in wrong.json()["error"]["message"]
    blind = server("mf").post("/recommend", json={"user": "new", "features": {"age": 0.9, "city": 0.1}})
    assert blind.json()["source"] == "fallback"  # mf reads no features: nothing is known of this user


def test_a_history_of_unknown_items_is_the_fallback(server: Any) -> None:
    body = {"user": "new", "history": [{"item_id": "zz", "rating": 3}]}
    assert server("mf").post("/recommend", json=body).json()["source"] == "fallback"


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_predict(name: str, models: Any, server: Any) -> None:
    model = dc.load_model(models[name])
    users, items = model.users_.values.to_list(), model.items_.values.to_list()
    rng = np.random.default_rng(0)
    pairs = [(users[rng.integers(60)], items[rng.integers(30)]) for _ in range(300)]
    new = "zz" if model.users_.is_text else -7
    pairs += [(new, items[0]), (users[0], new), (new, new), (users[0], items[29])]
    frame = model.predict(([u for u, _ in pairs], [i for _, i in pairs]), unknown="fallback", details=True)
    found = server(name).post("/score", json={"pairs": pairs}).json()["scores"]
    assert np.allclose([s["score"] for s in found], frame["score"], rtol=1e-9)
    assert [s["source"] for s in found] == frame["source"].to_list()
    assert server(name).post("/score", json={"pairs": []}).json()["scores"] == []


def test_best_is_top_k() -> None:
    from deconrec.kernels.top_k import top_k

    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 6, rng.integers(1, 30)).astype(np.float32)
        scores[rng.random(len(scores)) < 0.2] = -np.inf
        k = int(rng.integers(1, 35))
        index, value = top_k(scores[None], k)
        assert best(scores, k).tolist() == index[0][value[0] > -np.inf].tolist()


def test_the_card_tells_no_id(models: Any, server: Any) -> None:
    card = server("fm").get("/model").json()
    assert card["method"] == "mf"
    assert card["trained"]["users"] == 60
    assert card["trained"]["items"] == 30
    assert card["fingerprint"] == dc.load_model(models["fm"]).fingerprint_
    assert card["limits"]["k"] == 1000
    text = json.dumps(card)
    assert not any(f'"{i}"' in text for i in ("u1", "i1", "u59"))


def test_a_model_of_impressions_is_refused(tmp_path: Path) -> None:
    from deconrec.errors import DataError
    from deconrec.serving.ranker import Ranker

    data, _ = dc.simulate.impressions(n_users=40, n_items=20, seed=0)
    model = dc.METHODS["esmm"](epochs=1, dim=2).fit(data)
    with pytest.raises(DataError, match="impressions"):
        Ranker(model)


def test_a_model_of_nan_is_refused_and_says_so(models: Any) -> None:
    from deconrec.errors import DataError
    from deconrec.serving.ranker import Policy, Ranker

    model = dc.load_model(models["wmf"])
    model.slope_ = float("nan")
    with pytest.raises(DataError, match="not numbers"):
        Ranker(model).check(Policy())
