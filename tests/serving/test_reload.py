"""Reloading: by one assignment, or not at all."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import deconrec as dc
from deconrec.errors import FileError
from deconrec.serving import holder as holding
from deconrec.serving.holder import Busy, Holder
from deconrec.serving.ranker import Policy


def replace(folder: Path, by: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(by, folder)


@pytest.fixture
def folder(tmp_path: Path, models: Any) -> Path:
    replace(tmp_path / "model", models["mf"])
    return tmp_path / "model"


def items(answer: Any) -> list[int]:
    return [row["item_id"] for row in answer.json()["items"]]


def test_a_new_model_serves(folder: Path, models: Any, server: Any) -> None:
    client = server(folder)
    before = client.get("/recommend?user=4&k=8").json()
    replace(folder, models["other"])
    assert client.get("/recommend?user=4&k=8").json()["items"] == before["items"]
    name = client.post("/reload").json()["model"]
    after = client.get("/recommend?user=4&k=8").json()
    assert after["model"] == name != before["model"]
    expected = dc.load_model(models["other"]).recommend([4], 8)["item_id"].to_list()
    assert [row["item_id"] for row in after["items"]] == expected
    assert f'deconrec_model_info{{model="{name}"}} 1.0' in client.get("/metrics").text


def spoil(folder: Path, how: str, models: Any) -> None:
    if how == "gone":
        shutil.rmtree(folder)
    elif how == "torn":
        path = folder / "arrays.safetensors"
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "json":
        (folder / "model.json").write_text("{")
    elif how == "empty":
        (folder / "model.json").unlink()
    elif how == "mixed":
        shutil.copy(models["popularity"] / "arrays.safetensors", folder / "arrays.safetensors")


@pytest.mark.parametrize("how", ["gone", "torn", "json", "empty", "mixed"])
def test_a_broken_folder_leaves_the_old_model(how: str, folder: Path, models: Any, server: Any) -> None:
    client = server(folder)
    before = client.get("/recommend?user=4&k=8").json()
    spoil(folder, how, models)
    answer = client.post("/reload")
    assert answer.status_code == 409, answer.text
    assert answer.json()["error"]["code"] == "reload"
    assert f"'{before['model']}' goes on" in answer.json()["error"]["message"]
    assert "Traceback" not in answer.text
    after = client.get("/recommend?user=4&k=8").json()
    assert (after["items"], after["model"]) == (before["items"], before["model"])
    assert 'deconrec_reloads_total{result="refused"} 1.0' in client.get("/metrics").text
    replace(folder, models["other"])
    assert client.post("/reload").status_code == 200


def test_no_answer_is_of_two_models(folder: Path, models: Any, server: Any) -> None:
    """While the model is replaced again and again, each answer is wholly of the model that it names."""
    client = server(folder)
    right: dict[str, Any] = {}

    def expect(name: str) -> None:
        model = dc.load_model(models[name])
        key = client.get("/model").json()["model"]
        right[key] = {
            user: (
                model.recommend([user], 8)["item_id"].to_list(),
                model.predict(([user] * 29, list(range(29)))).tolist(),
            )
            for user in range(20)
        }

    expect("mf")
    seen: set[str] = set()

    async def ask(user: int) -> None:
        for turn in range(400):
            if turn >= 4 and len(seen) == 2:
                return
            answer = (await client.http.get(f"/recommend?user={user}&k=8")).json()
            assert [row["item_id"] for row in answer["items"]] == right[answer["model"]][user][0]
            pairs = [[user, item] for item in range(29)] * 8  # more than a quick question
            scored = (await client.http.post("/score", json={"pairs": pairs})).json()
            wanted = right[scored["model"]][user][1] * 8
            assert [s["score"] for s in scored["scores"]] == pytest.approx(wanted, rel=1e-6)
            seen.update((answer["model"], scored["model"]))

    async def both() -> None:
        asked = asyncio.gather(*(ask(user) for user in range(20)))
        for name in itertools.cycle(("other", "mf")):  # as long as somebody asks
            if asked.done():
                break
            await asyncio.to_thread(replace, folder, models[name])
            assert (await client.http.post("/reload")).status_code == 200
            await asyncio.sleep(0)
        await asked

    replace(folder, models["other"])
    client.post("/reload")
    expect("other")

    client.ask(both())
    assert len(seen) == 2


def test_one_reload_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(folder, Policy())
    inside, go = threading.Event(), threading.Event()
    real = holding.ranker_of

    def slow(*arguments: Any) -> Any:
        inside.set()
        go.wait(10)
        return real(*arguments)

    monkeypatch.setattr(holding, "ranker_of", slow)
    thread = threading.Thread(target=holder.reload)
    thread.start()
    inside.wait(10)
    with pytest.raises(Busy):
        holder.reload()
    go.set()
    thread.join()
    holder.reload()


def test_a_folder_that_changes_while_it_is_read(
    folder: Path, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of two models is thrown away, and read again."""
    times = []

    def load(path: Path) -> Any:
        model = dc.load_model(path)
        times.append(1)
        if len(times) == 1:
            replace(folder, models["other"])
        return model

    monkeypatch.setattr(holding, "load_model", load)
    ranker = holding.ranker_of(folder, Policy())
    assert len(times) == 2
    assert ranker.model.fingerprint_ == dc.load_model(models["other"]).fingerprint_

    def restless(path: Path) -> Any:
        model = dc.load_model(path)
        (folder / "model.json").touch()
        return model

    monkeypatch.setattr(holding, "load_model", restless)
    with pytest.raises(FileError, match="written to while it was read"):
        holding.ranker_of(folder, Policy())


def test_a_policy_that_the_model_cannot_follow(folder: Path) -> None:
    with pytest.raises(dc.errors.ParameterError, match="no posterior"):
        Holder(folder, Policy("posterior"))
