"""The routes: /recommend, /score, /health, /model, /metrics, /reload, /openapi.json."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from deconrec import __version__
from deconrec.errors import ParameterError
from deconrec.serving.guard import Guard
from deconrec.serving.problems import Problem, invalid, told
from deconrec.serving.ranker import Asked, Newcomer, Policy
from deconrec.serving.requests import (
    HowToList,
    RecommendBody,
    Recommended,
    RecommendQuery,
    Refused,
    ReloadBody,
    ScoreBody,
    Scored,
)
from deconrec.serving.service import Service

JSON = "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": says}
    for status, says in (
        (401, "No token, or a wrong one."),
        (408, "The body came too slowly."),
        (413, "The body is too large."),
        (415, "The body is no JSON."),
        (422, "A field is unknown or wrong, or beyond a limit."),
        (503, "Too busy, too slow, or the list could not be logged."),
    )
}
LISTS = ("allow", "deny")
CODES = {400: "bad_request", 404: "not_found", 405: "method"}


def create_app(
    service: Service, around: Callable[[Service], AbstractAsyncContextManager[None]] | None = None
) -> Guard:
    """The ASGI application of a service.

    Parameters
    ----------
    around: entered at the start and left at the end (signals of the process).
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        if around is None:
            yield
        else:
            async with around(service):
                yield
        service.close()

    app = FastAPI(
        title="deconrec",
        version=__version__,
        description="A model of deconrec: lists of items, scores of pairs. Every refusal is {error: {code, message}}.",
        docs_url=None,  # the page of FastAPI loads scripts from elsewhere
        redoc_url=None,
        lifespan=life,
    )
    app.router.redirect_slashes = False
    default = service.holder.policy

    async def recommend_by_query(text: bytes) -> bytes:
        query = query_of(text)
        asked = Asked(query.user, query.k, query.exclude_seen, query.allow, query.deny)
        return await service.recommend(asked, policy_of(query, default))

    @app.get(
        "/recommend",
        responses=REFUSALS | {200: {"model": Recommended}},
        openapi_extra={"parameters": parameters_of(RecommendQuery)},
        tags=["lists"],
    )
    async def recommend(request: Request) -> Response:
        """The k best items for a user, or k items that the policy draws."""
        return Response(await recommend_by_query(request.scope["query_string"]), media_type=JSON)

    @app.post("/recommend", responses=REFUSALS | {200: {"model": Recommended}}, tags=["lists"])
    async def recommend_by_body(body: RecommendBody) -> Response:
        """The same, with long lists of ids; `history` or `features` fold a new user in."""
        newcomer = None
        if body.history or body.features is not None:
            newcomer = Newcomer([(row.item_id, row.rating) for row in body.history], body.features)
        asked = Asked(body.user, body.k, body.exclude_seen, body.allow, body.deny, newcomer)
        return Response(await service.recommend(asked, policy_of(body, default)), media_type=JSON)

    @app.post("/score", responses=REFUSALS | {200: {"model": Scored}}, tags=["pairs"])
    async def score(body: ScoreBody) -> Response:
        """Expected outcomes of pairs, on the outcome's own scale."""
        return Response(await service.score(body.pairs), media_type=JSON)

    @app.get("/health", tags=["server"])
    async def health() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/model", responses={401: REFUSALS[401]}, tags=["server"])
    async def model() -> dict[str, Any]:
        """What serves: method, parameters, protocol, fingerprint of the data, sizes, policy and limits."""
        return service.card()

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics() -> Response:
        """Counters, for Prometheus."""
        return Response(service.counters.text(), media_type=METRICS)

    @app.post("/reload", responses=REFUSALS | {409: {"model": Refused}}, tags=["server"])
    async def reload(request: Request, body: ReloadBody | None = None) -> dict[str, str]:
        """Load the model's folder anew; a folder that cannot serve leaves the old model in place (409)."""
        refuse_strangers(request, service.token)
        return {"model": (await service.reload()).name}

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        return Response(invalid(error.errors()).body(), 422, media_type=JSON)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        code = CODES.get(error.status_code, "refused")
        return Response(
            told(code, f"{error.detail}; see /openapi.json."),
            error.status_code,
            headers=error.headers,
            media_type=JSON,
        )

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return Response(error.body(), error.status, media_type=JSON)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return Response(told("internal", "this failed inside the server."), 500, media_type=JSON)

    return Guard(app, service.limits, service.counters, service.token, {"/recommend": recommend_by_query})


def query_of(text: bytes) -> RecommendQuery:
    """The question of a URL: what FastAPI reads from a model of a query, in a tenth of the time.

    Raises
    ------
    Problem: a name twice, or what a field may not be.
    """
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
        if name in LISTS:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise Problem(422, "invalid", f"{name[:80]}: given twice.")
        else:
            found[name] = value
    try:
        return RecommendQuery.model_validate(found)
    except ValidationError as error:
        raise invalid(error.errors()) from error


def parameters_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a model as the parameters of a query, for OpenAPI."""
    schema = model.model_json_schema()
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}
        for name, field in schema["properties"].items()
    ]


def policy_of(given: HowToList, default: Policy) -> Policy:
    """The policy that a request asks for; what it does not say is the server's.

    Raises
    ------
    Problem.
    """
    if given.explore is None and given.epsilon is None and given.temperature is None:
        return default
    explore = default.explore if given.explore is None else given.explore
    try:
        return Policy(
            None if explore == "none" else explore,
            default.epsilon if given.epsilon is None else given.epsilon,
            default.temperature if given.temperature is None else given.temperature,
        )
    except ParameterError as error:
        raise Problem(422, "invalid", str(error)) from error


def refuse_strangers(request: Request, token: str | None) -> None:
    """Refuse to reload for another machine where there is no token, and for a page in a browser always.

    Raises
    ------
    Problem.
    """
    if "origin" in request.headers:
        raise Problem(403, "forbidden", "a page in a browser may not reload the model.")
    if token is not None:
        return  # the guard has seen it
    try:
        near = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        near = False
    if not near:
        raise Problem(
            403, "forbidden", "only this machine may reload the model, unless the server has a token."
        )
