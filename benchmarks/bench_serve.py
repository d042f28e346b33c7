"""Requests answered one after another on the loopback: GET /recommend, and FastAPI endpoints that return a constant.

All are served by processes of the same uvicorn settings, and asked over one connection that stays open. What is timed
is the processor time of the server, whose inverse is the throughput of one core: a wall clock would count the client.
Users differ from request to request.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SAYS = "requests of GET /recommend (mf), FastAPI endpoints that return a constant, and one that returns such a list"
OURS = "deconrec"
PEER_NAME = "constant"
TARGETS: dict[str, float] = {"deconrec": 0.5}
FULL = {"n_users": 2_000, "n_items": 20_000, "dim": 32, "k": 20, "requests": 1_000}
TINY = {"n_users": 20, "n_items": 50, "dim": 2, "k": 5, "requests": 200}
REPETITIONS = 7
MEMORY = False

BARE = """
import json, sys, uvicorn
from fastapi import FastAPI
from deconrec.serving.limits import Limits
from deconrec.serving.run import bound, patient
app, limits = FastAPI(), Limits()
answer = json.loads(sys.argv[1])
@app.get("/recommend")
async def constant():
    return answer
made = bound("127.0.0.1", 0)
print("on http://127.0.0.1:%d" % made.getsockname()[1], file=sys.stderr, flush=True)
uvicorn.Server(uvicorn.Config(app, http=patient(limits), ws="none", log_level="warning", access_log=False,
    proxy_headers=False, server_header=False, limit_concurrency=limits.connections)).run(sockets=[made])
"""
SERVE = "from deconrec.cli import main; main()"


class Server:
    """A process that serves until this object goes."""

    def __init__(self, code: str, *arguments: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True
        )
        assert self._child.stderr is not None
        line = next(text for text in self._child.stderr if "on http://" in text)
        port = int(line.rsplit(":", 1)[1])
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def again(self) -> None:
        """Connect anew: the server closes what was idle while the others took their turn."""
        self._connection.close()

    def ask(self, path: str) -> bytes:
        """The body of an answer, which must be a success."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {body[:200]!r}")
        return body

    def seconds(self) -> float:
        """Processor time of the server up to now; the wall clock where the system does not tell it."""
        try:
            fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.perf_counter()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __del__(self) -> None:
        self._connection.close()
        self._child.terminate()
        self._child.wait()
        assert self._child.stderr is not None
        self._child.stderr.close()


@dataclass
class Asking:
    """Requests of a server, timed by the server's own clock; gives (answers, items of the last one)."""

    server: Server
    paths: list[str]

    def __call__(self) -> tuple[int, int]:
        self.server.again()
        body = b"{}"
        for path in self.paths:
            body = self.server.ask(path)
        return len(self.paths), len(json.loads(body).get("items", []))

    def clock(self) -> float:
        """What `measure.in_turn` reads before and after."""
        return self.server.seconds()


def sides(
    n_users: int, n_items: int, dim: int, k: int, requests: int
) -> dict[str, Callable[[], tuple[int, int]]]:
    """Each side asks `requests` times; gives (answers, items of the last one)."""
    import numpy as np

    import deconrec as dc

    rng = np.random.default_rng(0)
    seen = rng.choice(n_users * n_items, 10 * n_users, replace=False)
    from polars import DataFrame

    frame = DataFrame(
        {
            "user_id": seen // n_items,
            "item_id": seen % n_items,
            "rating": rng.integers(0, 2, len(seen)).astype(float),
        }
    )
    ids = DataFrame({"item_id": np.arange(n_items)})
    data = dc.Dataset.from_frames(frame, items=ids, binarize=0.5)
    with tempfile.TemporaryDirectory() as folder:
        model = dc.MF(dim=dim, epochs=1).fit(data).save(Path(folder) / "model")
        ours = Server(SERVE, "serve", str(model), "--port", "0")
        path = f"/recommend?user={data.users.values[0]}&k={k}"
        a_list = ours.ask(path)
        constant, same = Server(BARE, '{"status": "ok"}'), Server(BARE, a_list.decode())
        users = data.users.values.to_list()

        paths = [f"/recommend?user={users[n * 7 % len(users)]}&k={k}" for n in range(requests)]
        return {
            "deconrec": Asking(ours, paths),
            "constant": Asking(constant, paths),
            "constant list": Asking(same, paths),
        }


def agree(results: dict[str, tuple[int, int]]) -> None:
    """Every request was answered, and lists are as long as they should be."""
    if results["deconrec"] != results["constant list"] or results["deconrec"][1] == 0:
        raise AssertionError(f"the sides disagree: {results}")
