"""The real server: `deconrec serve` on the loopback, its signals, and clients that take their time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from deconrec.cli import main
from deconrec.serving.limits import Limits

SERVE = (
    "import sys\n"
    "from deconrec.serving import limits\n"
    "short = limits.Limits(head_seconds=1.0, body_seconds=1.0, idle_seconds=1.0)\n"
    "limits.Limits.__new__ = staticmethod(lambda cls: short)\n"
    "limits.Limits.__init__ = lambda self: None\n"
    "from deconrec.cli import main\n"
    "main()\n"
)


class Process:
    """A server in a process of its own, with short deadlines."""

    def __init__(self, model: Path, *options: str, code: str = SERVE) -> None:
        command = [sys.executable, "-c", code, "serve", str(model), "--port", "0", *options]
        self.child = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        self.lines: list[str] = []
        assert self.child.stderr is not None
        for text in self.child.stderr:
            self.lines.append(text)
            if " on http://" in text:
                break
        else:
            raise AssertionError("".join(self.lines))
        self.url = text.split(" on ")[1].strip()
        self.port = int(self.url.rsplit(":", 1)[1])
        threading.Thread(target=lambda: self.lines.extend(self.child.stderr or ()), daemon=True).start()
        for _ in range(100):
            try:
                httpx.get(f"{self.url}/health")
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("it does not answer")

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **options)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        code = self.child.wait(30)
        assert self.child.stderr is not None
        self.child.stderr.close()
        return code


@pytest.fixture
def process(models: Any, tmp_path: Path) -> Iterator[Process]:
    made = Process(models["wmf"], "--log", str(tmp_path / "log"))
    yield made
    if made.child.poll() is None:
        made.stop()


def until(said: Any, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if said():
            return True
        time.sleep(0.05)
    return False


def closed(connection: socket.socket) -> tuple[bytes, float]:
    """(what came until the server closed, seconds until then)."""
    started, parts = time.monotonic(), []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    connection.close()
    return b"".join(parts), time.monotonic() - started


def test_a_server_and_its_signals(process: Process, tmp_path: Path) -> None:
    assert process.url.startswith("http://127.0.0.1:")
    answer = process.get("/recommend?user=1&k=3")
    assert answer.status_code == 200
    assert "server" not in answer.headers
    logged = [json.loads(x) for p in (tmp_path / "log").iterdir() for x in p.read_text().splitlines()]
    assert [x["list_id"] for x in logged] == [answer.json()["list_id"]]
    process.child.send_signal(signal.SIGHUP)
    assert until(lambda: any("serves now" in text for text in process.lines)), process.lines
    assert 'deconrec_reloads_total{result="done"} 1.0' in process.get("/metrics").text
    # Many at once, slow clients among them, and one that goes away.
    gone = process.socket()
    gone.sendall(b"GET /recommend?user=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    gone.close()
    answers: list[int] = []

    def ask(user: int) -> None:
        with httpx.Client(base_url=process.url, timeout=30) as client:
            answers.extend(client.get(f"/recommend?user={user}&k=5").status_code for _ in range(10))

    threads = [threading.Thread(target=ask, args=(user,)) for user in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 80
    assert process.stop() in (0, -signal.SIGTERM)
    assert not [text for text in process.lines if "Traceback" in text]


def test_slow_clients(process: Process) -> None:
    """A byte now and then does not hold a connection: neither in the head, nor in the body, nor after an answer."""
    head = process.socket()
    head.sendall(b"GET /recommend?user=1 HTTP/1.1\r\nX: ")

    def drip() -> None:
        with suppress(OSError):
            for _ in range(200):
                head.sendall(b"a")
                time.sleep(0.1)

    dripping = threading.Thread(target=drip)
    dripping.start()
    silent, body, idle = process.socket(), process.socket(), process.socket()
    body.sendall(
        b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    )
    idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    said = {
        name: closed(c) for name, c in (("head", head), ("silent", silent), ("body", body), ("idle", idle))
    }
    dripping.join()
    assert max(seconds for _, seconds in said.values()) < 15
    assert said["head"][0] == said["silent"][0] == b""
    assert b"408" in said["body"][0].split(b"\r\n")[0]
    assert b'"code": "slow"' in said["body"][0]
    assert b"200 OK" in said["idle"][0]
    assert process.get("/health").status_code == 200


def test_heads_that_are_none(process: Process) -> None:
    for text in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000,
    ):
        connection = process.socket()
        with suppress(OSError):  # it may close while this is being sent
            connection.sendall(text)
        answer, seconds = closed(connection)
        assert seconds < 15
        assert b"Traceback" not in answer
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:80]
    assert process.get("/health").status_code == 200


def test_a_stop_finishes_what_is_in_flight(models: Any) -> None:
    slow = SERVE.replace(
        "from deconrec.cli import main\n",
        "import time\n"
        "from deconrec.serving.ranker import Ranker\n"
        "score = Ranker.score\n"
        "Ranker.score = lambda *a: (print('asked', file=sys.stderr, flush=True), time.sleep(2), score(*a))[2]\n"
        "from deconrec.cli import main\n",
    )
    server, got = Process(models["wmf"], code=slow), []

    def ask() -> None:
        body = {"pairs": [[1, 2]] * 300}
        got.append(httpx.post(f"{server.url}/score", json=body, timeout=30).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    assert until(lambda: any("asked" in text for text in server.lines))
    server.stop()
    thread.join()
    assert got == [200]


def refused(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out = capsys.readouterr().err
    assert says in out, out
    assert "Traceback" not in out


def test_what_serve_refuses(models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(models["wmf"])
    refused(["serve", str(tmp_path)], "is no saved model", capsys)
    refused(["serve", model, "--host", "0.0.0.0"], "give a --token", capsys)
    refused(["serve", model, "--token", "short"], "at least 8", capsys)
    refused(["serve", model, "--explore", "greedy"], "'explore' must be", capsys)
    refused(["serve", model, "--explore", "posterior", "--port", "0"], "no posterior", capsys)
    refused(["serve", model, "--explore", "epsilon-greedy", "--epsilon", "0"], "never explores", capsys)
    refused(["serve", model, "--host", "no.such.host.invalid", "--token", "long-enough"], "--host", capsys)
    (tmp_path / "file").write_text("")
    refused(["serve", model, "--port", "0", "--log", str(tmp_path / "file")], "cannot be written", capsys)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(["serve", model, "--port", str(taken.getsockname()[1])], "cannot be served on", capsys)


def test_without_the_extra(
    models: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.startswith(("deconrec.serving.run", "deconrec.serving.app"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    refused(["serve", str(models["wmf"])], "pip install 'deconrec[serve]'", capsys)


def resident(process: Process) -> float:
    """MiB of the server's memory."""
    text = Path(f"/proc/{process.child.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays(models: Any, tmp_path: Path) -> None:
    """Questions of every kind, wrong ones, and reloads for two minutes: the server keeps nothing of them."""
    server = Process(
        models["wmf"], "--log", str(tmp_path / "log"), code="from deconrec.cli import main; main()"
    )
    sizes, end = [], time.monotonic() + 120
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while time.monotonic() < end:
            for n in range(50):
                client.get(f"/recommend?user={n}&k=20")
                client.get(f"/recommend?user=u{time.monotonic()}&explore=plackett-luce")
                client.get(f"/nothing/{time.monotonic()}")
                rows = [{"item_id": n % 30, "rating": 3}]
                client.post("/recommend", json={"user": "x", "history": rows})
                client.post("/score", json={"pairs": [[n, 1]] * 300})
                client.post("/score", content=b"[" * 1000, headers={"content-type": "application/json"})
            client.post("/reload")
            sizes.append(resident(server))
    server.stop()
    assert len(sizes) >= 4
    # The first rounds load code and fill pools.
    assert max(sizes[len(sizes) // 2 :]) < 1.05 * max(sizes[: len(sizes) // 2]) + 5, sizes


def test_limits_are_documented() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
    for name, value in Limits().to_dict().items():
        assert f"| `{name}` | {int(value):,} |" in guide, name
