"""Every refusal and failure as JSON: {"error": {"code", "message", "fields"?}}; what went wrong inside stays inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SHOWN = 5  # wrong fields that are told
LONGEST = 120  # characters of a wrong value that are told


class Problem(Exception):
    """A request that is refused, with the status and words that its client is given.

    Parameters
    ----------
    status: HTTP status.
    code: a word for programs, such as "too_large".
    fields: what is wrong with each field, {"field", "message"}.
    message: a sentence for people: what was expected, what was found.
    """

    def __init__(
        self, status: int, code: str, message: str, fields: Sequence[dict[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.fields = status, code, message, fields

    def body(self) -> bytes:
        """The answer's JSON."""
        return told(self.code, self.message, self.fields)


def told(code: str, message: str, fields: Sequence[dict[str, str]] | None = None) -> bytes:
    """An error as JSON."""
    error: dict[str, Any] = {"code": code, "message": message}
    if fields:
        error["fields"] = list(fields)
    return json.dumps({"error": error}).encode()


def invalid(errors: Sequence[Any]) -> Problem:
    """What pydantic found wrong with a request, field by field."""
    fields = []
    for found in errors[:SHOWN]:
        place = [str(part) for part in found.get("loc", ()) if part not in ("body", "query")]
        fields.append(
            {"field": ".".join(place)[:LONGEST] or "body", "message": str(found.get("msg", ""))[:LONGEST]}
        )
    first = fields[0] if fields else {"field": "body", "message": "cannot be read"}
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(422, "invalid", f"{first['field']}: {first['message']}{more}; see /openapi.json.", fields)
