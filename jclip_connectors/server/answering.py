"""What every application answers: errors in the client's dialect, wrong routes, and failures of the server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jclip_connectors.server.cors import Origins, is_question, not_admitted
from jclip_connectors.server.dialects import jina
from jclip_connectors.server.observation import failed_request, seen
from jclip_connectors.server.requests import RequestError
from jclip_connectors.server.wrong_routes import WrongRoutes

Endpoint = Callable[[Request], Awaitable[Response]]


def make_routes(posts: Mapping[str, Endpoint], gets: Mapping[str, Endpoint]) -> list[Route]:
    """Make routes from endpoints by their paths; what an endpoint raises fails its request alone."""
    return [
        Route(route, _seen_as(route, endpoint), methods=[method])
        for method, endpoints_by_route in (("POST", posts), ("GET", gets))
        for route, endpoint in endpoints_by_route.items()
    ]


def exception_handlers(routes: Sequence[Route], origins: Origins) -> Mapping[Any, Any]:
    """The handlers of an application with these routes."""
    return {
        RequestError: answer_request_error,
        HTTPException: _answer_wrong_route(routes, origins),
        Exception: _answer_failure,
    }


async def answer_request_error(request: Request, error: Exception) -> Response:
    """Answer with the error of a request."""
    if not isinstance(error, RequestError):
        raise error
    known = seen(request)
    known.code = error.code
    write = getattr(request.state, "write_error", jina.write_error)  # set once a route is found
    content: bytes = write(error, known.request_id)
    return Response(content, status_code=error.status, headers=error.headers, media_type="application/json")


def _seen_as(route: str, endpoint: Endpoint) -> Endpoint:
    async def observed(request: Request) -> Response:
        seen(request).route = route
        try:
            return await endpoint(request)
        except (RequestError, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 (a panic of the tokenizer's library is no `Exception`)
            raise failed_request(error) from None

    return observed


def _answer_wrong_route(
    routes: Sequence[Route], origins: Origins
) -> Callable[[Request, Exception], Awaitable[Response]]:
    wrong = WrongRoutes(routes)

    async def answer(request: Request, error: Exception) -> Response:
        """Answer a request with an unknown route or method, for which starlette raises its own error."""
        if is_question(request.method, request.headers):
            return await answer_request_error(request, not_admitted(origins))
        if isinstance(error, HTTPException) and error.status_code == 405:
            return await answer_request_error(request, wrong.not_allowed(request.scope))
        return await answer_request_error(request, wrong.not_found(request.scope["path"]))

    return answer


async def _answer_failure(request: Request, _error: Exception) -> Response:
    failure = RequestError("the server failed; see its log", status=500, code="INTERNAL_ERROR")
    return await answer_request_error(request, failure)
