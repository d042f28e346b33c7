"""What a client may ask for. Every limit is refused with its name and its value, and stands in /model."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MAX_ID = 256  # characters of an id: pydantic's fields and this machine's log hold them
BODY = 1 << 20
HEADERS = 16 << 10
DEPTH = 8


@dataclass(frozen=True)
class Limits:
    """Bounds of one request and of one connection.

    Attributes
    ----------
    k: most items of a list.
    pairs: most pairs of one /score.
    ids: most ids of `allow`, and of `deny`.
    history: most rows that a user is folded in by.
    features: most features of a user.
    body_bytes, header_bytes: size of a request's body, and of its line and headers together.
    json_depth: how deep brackets may nest.
    id_characters: length of an id.
    head_seconds: for a client to send line and headers, from its first byte (or from connecting).
    body_seconds: for a client to send the whole body.
    request_seconds: for the answer to be computed and taken by the client.
    idle_seconds: a connection without a request is closed after it.
    waiting: requests in line for the thread that folds in and explores; more are told 503.
    connections: open at once; more are told 503.
    stop_seconds: what a stop waits for requests in flight.
    """

    k: int = 1000
    pairs: int = 10_000
    ids: int = 10_000
    history: int = 10_000
    features: int = 1000
    body_bytes: int = BODY
    header_bytes: int = HEADERS
    json_depth: int = DEPTH
    id_characters: int = MAX_ID
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    request_seconds: float = 30.0
    idle_seconds: float = 5.0
    waiting: int = 64
    connections: int = 512
    stop_seconds: float = 10.0

    def to_dict(self) -> dict[str, float]:
        """As JSON values."""
        return asdict(self)
