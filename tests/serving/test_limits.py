"""Requests that are refused: each with a status, a code, a sentence, and never a traceback."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deconrec.serving.guard import depth_of
from deconrec.serving.limits import Limits

JSON = {"content-type": "application/json"}
INSIDE = re.compile(r"Traceback|File \"|\.py\b|site-packages|deconrec\.|0x[0-9a-f]{6}")


def refused(answer: Any, status: int, code: str, says: str = "") -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    assert says in error["message"], error
    assert not INSIDE.search(answer.text)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "user: Field required"),
        ("user=", "1 to 256 characters"),
        ("user=" + "x" * 257, "1 to 256 characters"),
        ("user=1&k=0", "k: "),
        ("user=1&k=-3", "k: "),
        ("user=1&k=two", "k: "),
        ("user=1&k=1e9", "k: "),
        ("user=1&exclude_seen=perhaps", "exclude_seen: "),
        ("user=1&explore=greedy", "explore: "),
        ("user=1&explore=epsilon-greedy&epsilon=0", "epsilon: "),
        ("user=1&epsilon=nan", "epsilon: "),
        ("user=1&temperature=inf", "temperature: "),
        ("user=1&excludeseen=1", "excludeseen: Extra inputs"),
        ("user=1&history=1", "history: Extra inputs"),
    ],
)
def test_wrong_queries(query: str, field: str, server: Any) -> None:
    refused(server().get(f"/recommend?{query}"), 422, "invalid", field)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/recommend", {}, "user: Field required"),
        ("/recommend", [], "body: "),
        ("/recommend", None, "body: "),
        ("/recommend", {"user": None}, "user"),
        ("/recommend", {"user": True}, "user"),
        ("/recommend", {"user": 1.5}, "user"),
        ("/recommend", {"user": ["a"]}, "user"),
        ("/recommend", {"user": "\ud800"}, "surrogate"),
        ("/recommend", {"user": 1, "extra": 1}, "extra: Extra inputs"),
        ("/recommend", {"user": 1, "allow": "abc"}, "allow"),
        ("/recommend", {"user": 1, "allow": [None]}, "allow.0"),
        ("/recommend", {"user": 1, "history": [{"item_id": 1}]}, "history.0.rating: Field required"),
        ("/recommend", {"user": 1, "history": [{"item_id": 1, "rating": 1, "at": 0}]}, "history.0.at: Extra"),
        ("/recommend", {"user": 1, "history": [{"item_id": 1, "rating": "much"}]}, "history.0.rating"),
        ("/recommend", {"user": 1, "features": [3]}, "features"),
        ("/recommend", {"user": 1, "features": {"age": [3]}}, "features.age"),
        ("/score", {"pairs": [[1]]}, "pairs.0"),
        ("/score", {"pairs": [[1, 2, 3]]}, "pairs.0"),
        ("/score", {"pairs": 3}, "pairs"),
        ("/score", {}, "pairs: Field required"),
        ("/score", {"pairs": [], "k": 1}, "k: Extra inputs"),
        ("/reload", {"folder": "/etc"}, "folder: Extra inputs"),
    ],
)
def test_wrong_bodies(path: str, body: Any, field: str, server: Any) -> None:
    refused(server().post(path, content=json.dumps(body), headers=JSON), 422, "invalid", field)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(text: str, server: Any) -> None:
    body = f'{{"user": 1, "history": [{{"item_id": 1, "rating": {text}}}]}}'
    refused(server().post("/recommend", content=body, headers=JSON), 422, "invalid", "rating")


def test_a_rating_beyond_32_bits(server: Any) -> None:
    rows = [{"item_id": 1, "rating": 1}, {"item_id": 2, "rating": -1e308}]
    answer = server().post("/recommend", json={"user": "new", "history": rows})
    refused(answer, 422, "invalid", "history.1.rating: a number of 32 bits was expected")


@pytest.mark.parametrize(
    "text", ["{", '{"user": 1,}', "user=1", '{"user": ' + "9" * 5000 + "}", b"\xff\xfe", b"\x00"]
)
def test_bodies_that_are_no_json(text: Any, server: Any) -> None:
    answer = server().post("/recommend", content=text, headers=JSON)
    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) <= {"code", "message", "fields"}
    assert not INSIDE.search(answer.text)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_content_types(kind: str, server: Any) -> None:
    answer = server().post("/recommend", content='{"user": 1}', headers={"content-type": kind})
    refused(answer, 415, "content_type", "application/json")
    again = {"content-type": "application/json; charset=utf-8"}
    assert server().post("/recommend", content='{"user": 1}', headers=again).status_code == 200


def test_size_of_bodies(server: Any) -> None:
    client = server(limits=Limits(body_bytes=1000))
    whole = '{"user": 1}'
    assert client.post("/recommend", content=whole + " " * 900, headers=JSON).status_code == 200
    refused(
        client.post("/recommend", content=whole + " " * 1000, headers=JSON), 413, "too_large", "1,000 bytes"
    )

    async def parts() -> Any:  # without a length, as chunks
        yield whole.encode()
        for _ in range(50):
            yield b" " * 100

    refused(client.post("/recommend", content=parts(), headers=JSON), 413, "too_large", "1,000 bytes")


def test_depth_of_json(server: Any) -> None:
    client = server()
    for n in (9, 100, 200_000):
        refused(client.post("/score", content="[" * n, headers=JSON), 422, "depth", "8 brackets")
        deep = '{"pairs":' * n + "1" + "}" * n
        refused(client.post("/score", content=deep[: 1 << 20], headers=JSON), 422, "depth")
    name = "[" * 100 + '\\"[' * 20
    answer = client.post("/recommend", content=f'{{"user": "{name}"}}', headers=JSON)
    assert answer.status_code == 200  # brackets of a string do not nest


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.integers() | st.text('[]{}"\\,:a', max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=3)
        ),
        max_leaves=20,
    )
)
def test_depth_against_the_parsed_thing(thing: Any) -> None:
    def depth(x: Any) -> int:
        if not isinstance(x, list | dict):
            return 0
        return 1 + max(map(depth, x.values() if isinstance(x, dict) else x), default=0)

    assert depth_of(json.dumps(thing).encode()) == depth(thing)


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 400_000, b'"' * 1_000_001, b'"' + b"\\" * 1_000_001, b"[]" * 500_000]
)
def test_depth_is_found_in_time(text: bytes) -> None:
    started = time.perf_counter()
    depth_of(text)
    assert time.perf_counter() - started < 5  # a quadratic look would take minutes


def test_lengths_of_lists(server: Any) -> None:
    client = server(limits=Limits(k=20, pairs=5, ids=3, history=2))
    refused(client.get("/recommend?user=1&k=21"), 422, "limit", "k: at most 20 here; got 21")
    refused(client.get("/recommend?user=1&k=" + "9" * 30), 422, "limit", "k: at most 20")
    refused(client.post("/score", json={"pairs": [[1, 2]] * 6}), 422, "limit", "pairs: at most 5")
    for name in ("allow", "deny"):
        refused(
            client.post("/recommend", json={"user": 1, name: [1, 2, 3, 4]}),
            422,
            "limit",
            f"{name}: at most 3",
        )
        refused(
            client.get("/recommend", params={"user": 1, name: [1, 2, 3, 4]}),
            422,
            "limit",
            f"{name}: at most 3",
        )
    rows = [{"item_id": 1, "rating": 1}] * 3
    refused(client.post("/recommend", json={"user": 1, "history": rows}), 422, "limit", "history: at most 2")
    assert client.get("/recommend?user=1&k=20").status_code == 200


def test_paths_and_verbs(server: Any) -> None:
    client = server()
    refused(client.get("/nothing"), 404, "not_found")
    refused(client.get("/recommend/"), 404, "not_found")
    refused(client.get("/../../etc/passwd"), 404, "not_found")
    refused(client.get("/docs"), 404, "not_found")
    refused(client.delete("/recommend"), 405, "method")
    refused(client.get("/reload"), 405, "method")


def test_the_token(server: Any) -> None:
    client = server(token="correct-horse")
    assert client.get("/health").status_code == 200
    wrong = (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "correct-horse"},
        {"authorization": "Basic x"},
    )
    for headers in wrong:
        for path in ("/recommend?user=1", "/model", "/metrics", "/openapi.json", "/nothing"):
            answer = client.get(path, headers=headers)
            refused(answer, 401, "token")
            assert answer.headers["www-authenticate"] == "Bearer"
        refused(client.post("/reload", headers=headers), 401, "token")
    right = {"authorization": "Bearer correct-horse"}
    assert client.get("/recommend?user=1", headers=right).status_code == 200
    assert client.post("/reload", headers=right).status_code == 200


def test_who_may_reload(server: Any) -> None:
    refused(server(client=("10.0.0.7", 1)).post("/reload"), 403, "forbidden", "only this machine")
    near = server(client=("::1", 1))
    assert near.post("/reload").status_code == 200
    refused(near.post("/reload", headers={"origin": "http://evil.example"}), 403, "forbidden", "browser")
    far = server(client=("10.0.0.7", 1), token="correct-horse")
    assert far.post("/reload", headers={"authorization": "Bearer correct-horse"}).status_code == 200


def test_what_goes_wrong_inside_stays_inside(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server()
    ranker = client.service.holder.ranker

    def broken(*_: Any) -> None:
        raise RuntimeError("a secret of /home/somebody/file.py")

    monkeypatch.setattr(ranker, "recommend", broken)
    answer = client.get("/recommend?user=1")
    refused(answer, 500, "internal")
    assert "secret" not in answer.text
    monkeypatch.undo()
    assert client.get("/recommend?user=1").status_code == 200


def test_an_answer_that_takes_too_long(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server(limits=Limits(request_seconds=0.2))
    ranker = client.service.holder.ranker
    monkeypatch.setattr(ranker, "score", lambda pairs: time.sleep(0.6))
    refused(client.post("/score", json={"pairs": [[1, 1]] * 300}), 503, "timeout")
    monkeypatch.undo()
    assert client.get("/recommend?user=1").status_code in (200, 503)


def test_a_full_line_is_refused(server: Any) -> None:
    client = server(limits=Limits(waiting=0))
    refused(client.post("/score", json={"pairs": [[1, 1]] * 300}), 503, "busy")
    assert client.get("/recommend?user=1").status_code == 200


def test_a_list_that_cannot_be_logged_is_not_served(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server(log=tmp_path / "log")

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(client.service.log, "write", full)
    refused(client.get("/recommend?user=1"), 503, "log")
    assert "deconrec_unlogged_total 1.0" in client.get("/metrics").text
    monkeypatch.undo()
    assert client.get("/recommend?user=1").status_code == 200


def test_the_counters_and_openapi(server: Any) -> None:
    client = server()
    for path in ("/recommend?user=1", "/recommend?user=zz", "/recommend", "/secret-path"):
        client.get(path)
    text = client.get("/metrics").text
    assert 'deconrec_requests_total{path="/recommend",status="200"} 2.0' in text
    assert 'deconrec_requests_total{path="/recommend",status="422"} 1.0' in text
    assert 'deconrec_lists_total{explore="none",source="fallback"} 1.0' in text
    assert "secret-path" not in text
    assert "zz" not in text
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/recommend", "/score", "/health", "/model", "/metrics", "/reload"}
    assert set(schema["paths"]["/recommend"]) == {"get", "post"}


@pytest.fixture
def one(server: Any) -> Any:
    return server()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/recommend", "/score", "/reload"]), body=st.data())
def test_any_body_is_answered(path: str, body: Any, one: Any) -> None:
    """Whatever is sent, the answer is JSON of a known shape, and never a failure."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    anything = st.recursive(
        leaves,
        lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=4), x, max_size=3),
        max_leaves=8,
    )
    names = (
        "user",
        "k",
        "exclude_seen",
        "allow",
        "deny",
        "history",
        "features",
        "explore",
        "epsilon",
        "pairs",
    )
    shaped = st.dictionaries(st.sampled_from(names), anything, max_size=5)
    text = body.draw(st.binary(max_size=30) | shaped.map(lambda x: json.dumps(x).encode()))
    answer = one.post(path, content=text, headers=JSON)
    assert answer.status_code in (200, 400, 403, 409, 415, 422), answer.text
    if answer.status_code != 200:
        assert set(answer.json()) == {"error"}
    assert not INSIDE.search(answer.text)
