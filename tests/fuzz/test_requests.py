"""Requests to a server in this process, changed at random: an answer of a known shape, and never a failure."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deconrec.data.dataset import Dataset
from deconrec.methods.mf import MF
from fuzz.bounds import each
from fuzz.mutate import WORDS, changed_bytes, changed_json, changed_text
from fuzz.test_files import CSV

pytest.importorskip("fastapi")
import httpx

from deconrec.serving.app import create_app
from deconrec.serving.holder import Holder
from deconrec.serving.ranker import Policy
from deconrec.serving.service import Service

INSIDE = re.compile(r"Traceback|File \"|\.py\b|site-packages|0x[0-9a-f]{6}")
QUERIES = (
    "/recommend?user=ann&k=3&exclude_seen=true&allow=a&allow=b&deny=c",
    "/recommend?user=zed&explore=epsilon-greedy&epsilon=0.2",
    "/recommend?user=ann&explore=plackett-luce&temperature=0.1&k=2",
    "/health",
    "/model",
    "/metrics",
    "/openapi.json",
)
BODIES = (
    ("/recommend", {"user": "ann", "k": 3, "exclude_seen": True, "allow": ["a", "b"], "deny": ["c"]}),
    (
        "/recommend",
        {"user": "zed", "history": [{"item_id": "a", "rating": 1}, {"item_id": "b", "rating": 0}]},
    ),
    ("/recommend", {"user": "ann", "explore": "epsilon-greedy", "epsilon": 0.2, "features": {"age": 3}}),
    ("/score", {"pairs": [["ann", "a"], ["bob", "b"], ["zed", "z"]]}),
    ("/reload", {}),
)
KINDS = (
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "",
    "multipart/form-data",
    "application/json;",
)


class Asked:
    """A server, asked over ASGI."""

    def __init__(self, model: Path) -> None:
        self.service = Service(Holder(model, Policy()), None)
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(create_app(self.service), client=("127.0.0.1", 5000))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    def request(self, verb: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self.http.request(verb, path, **options))

    def close(self) -> None:
        self._runner.run(self.http.aclose())
        self._runner.close()
        self.service.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    data = Dataset.from_frames(pl.read_csv(CSV.encode()), rating_range=(0, 1))
    asked = Asked(MF(dim=2, epochs=1).fit(data).save(tmp_path_factory.mktemp("saved") / "model"))
    yield asked
    asked.close()


def request(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """(verb, path, body and headers)."""
    verb = rng.choice(("GET", "POST")) if rng.random() < 0.2 else ""
    if rng.random() < 0.4:
        path = rng.choice(QUERIES)
        words = tuple(w for w in WORDS if w.isprintable() and "#" not in w)
        path = "/" + changed_text(path[1:], rng, words) if rng.random() < 0.8 else path
        return (
            verb or "GET",
            httpx.URL("http://test").join("/").copy_with(raw_path=_raw(path)).raw_path.decode(),
            {},
        )
    path, body = rng.choice(BODIES)
    for _ in range(rng.randrange(3)):
        body = changed_json(body, rng)
    content = json.dumps(body).encode()
    if rng.random() < 0.3:
        content = changed_bytes(content, rng)
    kind = "application/json" if rng.random() < 0.8 else rng.choice(KINDS)
    return verb or "POST", path, {"content": content, "headers": {"content-type": kind}}


def _raw(path: str) -> bytes:
    """A path as it stands on the wire: what is not ASCII is escaped."""
    raw = b"".join(bytes([c]) if 33 <= c < 127 else b"%%%02X" % c for c in path.encode())
    return raw[:20_000]  # the client takes no more


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cases", [150, pytest.param(30_000, marks=pytest.mark.slow)])
def test_any_request_is_answered(cases: int, server: Asked) -> None:
    def case(rng: random.Random) -> bool:
        verb, path, options = request(rng)
        answer = server.request(verb, path, **options)
        where = (verb, path, options, answer.text[:500])
        assert answer.status_code in (200, 400, 403, 404, 405, 409, 413, 415, 422), where
        if answer.status_code != 200:
            assert set(answer.json()) == {"error"}, where
            assert not INSIDE.search(answer.text), where
        return answer.status_code == 200

    each(cases, case)
