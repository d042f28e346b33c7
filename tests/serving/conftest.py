"""Small saved models, and servers of them in process."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import deconrec as dc

pytest.importorskip("fastapi")
import httpx

from deconrec.serving.app import create_app
from deconrec.serving.holder import Holder
from deconrec.serving.limits import Limits
from deconrec.serving.log import ListLog
from deconrec.serving.ranker import Policy
from deconrec.serving.service import Service


def small_data(text: bool = False, seed: int = 0, **options: Any) -> dc.Dataset:
    """Sixty users, thirty items, one of them rated by nobody; ratings of 1 to 5."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 60, 500), rng.integers(0, 29, 500)
    name = (lambda side, code: f"{side}{code}") if text else (lambda side, code: int(code))
    frame = pl.DataFrame(
        {
            "user_id": [name("u", u) for u in user],
            "item_id": [name("i", i) for i in item],
            "rating": rng.integers(1, 6, 500).astype(float),
        }
    ).unique(["user_id", "item_id"], maintain_order=True)
    users = pl.DataFrame(
        {"user_id": [name("u", u) for u in range(60)], "age": rng.random(60), "city": rng.random(60)}
    )
    items = pl.DataFrame({"item_id": [name("i", i) for i in range(30)]})
    return dc.Dataset.from_frames(frame, users=users, items=items, rating_range=(1, 5), **options)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of fitted models, by name."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "mf": (dc.MF(dim=3, epochs=3), small_data()),
        "fm": (dc.MF(dim=3, epochs=3, backbone="fm"), small_data(text=True)),
        "wmf": (dc.METHODS["wmf"](dim=3, iterations=2), small_data()),
        "popularity": (dc.METHODS["popularity"](), small_data()),
        "other": (dc.MF(dim=3, epochs=3, seed=1), small_data(seed=1)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: model.fit(data).save(folder / name) for name, (model, data) in made.items()}


class Client:
    """A server in this process, asked over ASGI; `ask` runs several questions at once."""

    def __init__(self, service: Service, address: tuple[str, int]) -> None:
        self.service, self._runner = service, asyncio.Runner()
        transport = httpx.ASGITransport(create_app(service), client=address)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    def ask(self, work: Any) -> Any:
        return self._runner.run(work)

    def request(self, verb: str, path: str, **options: Any) -> httpx.Response:
        return self.ask(self.http.request(verb, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def close(self) -> None:
        self.ask(self.http.aclose())
        self._runner.close()
        self.service.close()


Server = Callable[..., Client]


@pytest.fixture
def server(models: dict[str, Path]) -> Iterator[Server]:
    """Starts a server of a model in process; gives a client of it."""
    open_clients: list[Client] = []

    def start(
        model: str | Path = "mf",
        policy: Policy | None = None,
        log: Path | None = None,
        client: tuple[str, int] = ("127.0.0.1", 5000),
        **options: Any,
    ) -> Client:
        limits = options.pop("limits", Limits())
        service = Service(
            Holder(models.get(str(model), Path(model)), policy or Policy()),
            None if log is None else ListLog(log),
            limits=limits,
            **options,
        )
        open_clients.append(Client(service, client))
        return open_clients[-1]

    yield start
    for made in open_clients:
        made.close()
