"""What stands around the application: token, size and depth of bodies, deadlines, counters, no traceback outside."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from deconrec.serving.counters import Counters
from deconrec.serving.limits import Limits
from deconrec.serving.problems import Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Quick = Callable[[bytes], Awaitable[bytes]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOG = logging.getLogger("deconrec.serving")
OPEN = ("/health",)  # answered without a token
PATHS = frozenset(("/recommend", "/score", "/health", "/model", "/metrics", "/reload", "/openapi.json"))
# A string of JSON, one that never ends too; possessive, so that no text is looked at twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Guard:
    """An ASGI application around another.

    Parameters
    ----------
    app: what answers.
    token: what clients must bear, but for /health; None = nothing.
    quick: by path, what answers a GET from its query alone, with JSON: asked directly, because the way through the
        application costs as much as a list.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        counters: Counters,
        token: str | None = None,
        quick: Mapping[str, Quick] | None = None,
    ) -> None:
        self.app, self.limits, self.counters, self.quick = app, limits, counters, quick or {}
        self._bearer = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, ended = time.perf_counter(), 0, False

        async def sent(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if message["type"] == "http.response.body":
                ended = not message.get("more_body", False)

        async def refuse(problem: Problem) -> None:
            if status and not ended:
                raise _Cut
            if not ended:
                await _send(problem.status, problem.body(), sent, scope["method"] != "GET")

        try:
            async with asyncio.timeout(self.limits.request_seconds):
                try:
                    if self._bearer is not None and scope["path"] not in OPEN:
                        self._check_token(scope["headers"])
                    answer = self.quick.get(scope["path"]) if scope["method"] == "GET" else None
                    if answer is not None:
                        await _send(200, await answer(scope["query_string"]), sent)
                    else:
                        if scope["method"] not in ("GET", "HEAD"):
                            receive = await self._whole(scope, receive)
                        await self.app(scope, receive, sent)
                except Problem as problem:
                    await refuse(problem)
        except _Gone:
            status = 499
        except _Cut:
            raise
        except TimeoutError:
            LOG.warning("%s took longer than %g s", scope["path"], self.limits.request_seconds)
            late = Problem(503, "timeout", f"no answer within {self.limits.request_seconds:g} s.")
            await refuse(late)
        except Exception:
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            await refuse(Problem(500, "internal", "this failed inside the server."))
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self.counters.request(path, status, time.perf_counter() - started)

    def _check_token(self, headers: list[tuple[bytes, bytes]]) -> None:
        given = [value for name, value in headers if name == b"authorization"]
        assert self._bearer is not None
        if len(given) != 1 or not hmac.compare_digest(given[0], self._bearer):
            raise Problem(
                401, "token", "this server needs a token: send the header 'Authorization: Bearer TOKEN'."
            )

    # ------------------------------------------------------------------ bodies
    async def _whole(self, scope: MutableMapping[str, Any], receive: Receive) -> Receive:
        """The request's body, read whole and looked at; gives a `receive` that tells it again.

        Raises
        ------
        Problem: too large, too slow, no JSON, or nested too deep.
        """
        most = self.limits.body_bytes
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise _too_large(most)
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise Problem(
                408, "slow", f"the body did not arrive within {self.limits.body_seconds:g} s."
            ) from error
        if body:
            kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
            if kind != b"application/json":
                raise Problem(
                    415,
                    "content_type",
                    "a body must have the content type application/json; got "
                    f"'{kind[:80].decode('latin-1') or 'none'}'.",
                )
            depth = depth_of(bytes(body))
            if depth > self.limits.json_depth:
                raise Problem(
                    422, "depth", f"JSON may nest {self.limits.json_depth} brackets deep here; got more."
                )
        told_once = False

        async def again() -> Message:
            nonlocal told_once
            if told_once:
                return await receive()
            told_once = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return again


class _Gone(Exception):
    """The client went away."""


class _Cut(Exception):
    """An answer that has begun cannot end; the server cuts the connection."""


async def _send(status: int, body: bytes, send: Send, last: bool = False) -> None:
    """Answer with JSON; `last` ends the connection, because what is left of a refused body is not read."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if last:
        headers.append((b"connection", b"close"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _too_large(most: int) -> Problem:
    return Problem(413, "too_large", f"a body may have {most:,} bytes here; got more.")


def depth_of(text: bytes) -> int:
    """How deep the brackets of a JSON text nest, those inside strings left out; of any text a number."""
    depth = deepest = 0
    for bracket in _STRING.sub(b"", text).translate(None, _BRACKETS):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest
