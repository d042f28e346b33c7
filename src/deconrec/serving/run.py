"""The server process: its socket, its signals, and clients that take their time.

SIGTERM and Ctrl-C stop it once requests in flight are answered; SIGHUP loads the model's folder anew.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from asyncio import TimerHandle, Transport
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deconrec.errors import ParameterError
from deconrec.serving.app import create_app
from deconrec.serving.limits import Limits
from deconrec.serving.problems import Problem
from deconrec.serving.service import Service


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises
    ------
    ParameterError: no such address here, or the port is taken.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, proto)
    except OSError as error:
        raise ParameterError(f"--host {host}: {error.strerror or error}.") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise ParameterError(
            f"{host}:{port} cannot be served on: {error.strerror or error}. Give another --port, or 0 for a free one."
        ) from error
    return made


def run(service: Service, listening: socket.socket) -> None:
    """Serve until a signal says stop."""
    limits = service.limits
    config = uvicorn.Config(
        create_app(service, signals),
        http=patient(limits),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # who asks is who connects
        server_header=False,
        h11_max_incomplete_event_size=limits.header_bytes,
        limit_concurrency=limits.connections,
        timeout_keep_alive=int(limits.idle_seconds),
        timeout_graceful_shutdown=int(limits.stop_seconds),
    )
    uvicorn.Server(config).run(sockets=[listening])


@asynccontextmanager
async def signals(service: Service) -> AsyncIterator[None]:
    """SIGHUP reloads, for as long as this lasts."""
    loop, going = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def reload() -> None:
        with suppress(Problem):  # it is in the server's log
            await service.reload()

    def hup() -> None:
        task = loop.create_task(reload())
        going.add(task)
        task.add_done_callback(going.discard)

    known = hasattr(signal, "SIGHUP")
    if known:
        loop.add_signal_handler(signal.SIGHUP, hup)
    try:
        yield
    finally:
        if known:
            loop.remove_signal_handler(signal.SIGHUP)


def patient(limits: Limits) -> type[H11Protocol]:
    """The protocol of uvicorn, which waits for a request's head for `head_seconds` and no longer.

    Without this, a client that sends a byte a second holds its connection for ever.
    """

    class Patient(H11Protocol):
        _deadline: TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # uvicorn narrows it so itself
            super().connection_made(transport)
            self._start()

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and not self._answering():
                self._start()
            super().data_received(data)
            if self._answering():
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            # The next request has as long again, and an idle connection uvicorn's own time.
            self._stop()
            super().on_response_complete()

        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _start(self) -> None:
            self._deadline = self.loop.call_later(limits.head_seconds, self._give_up)

        def _stop(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            if not self._answering():
                self.transport.close()

    return Patient
