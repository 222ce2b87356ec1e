"""The handlers of the routes."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TypeAlias, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jclip_connectors.server.api_keys import ApiKeys
from jclip_connectors.server.bodies import Bodies
from jclip_connectors.server.dialects import jina, tei, weaviate
from jclip_connectors.server.metrics import Metrics
from jclip_connectors.server.models import list_models, model_info
from jclip_connectors.server.observation import seen
from jclip_connectors.server.requests import Dialect, RequestError
from jclip_connectors.server.service import EmbeddingService

T = TypeVar("T")
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Endpoints:
    """The handlers of the routes; they call the service, which exists while the application runs."""

    service: EmbeddingService

    def __init__(self, keys: ApiKeys, bodies: Bodies, metrics: Metrics) -> None:
        """Keep the objects that all routes share; `service` is set when the application starts."""
        self._keys = keys
        self._bodies = bodies
        self._metrics = metrics

    def embed(self, dialect: Dialect) -> Endpoint:
        """Make the handler of a route that embeds in `dialect`."""

        async def endpoint(request: Request) -> Response:
            return await self._embed(request, dialect)

        return endpoint

    async def embed_hosted(self, request: Request) -> Response:
        """Embed in the dialect of the hosted API."""
        return await self._embed(request, jina.WEAVIATES_DIALECT if jina.is_weaviate(request.headers) else jina.DIALECT)

    async def embed_for_weaviate(self, request: Request) -> Response:
        """Embed with the dimensions in the path."""
        return await self._embed(request, weaviate.dialect(request.path_params["dimensions"]))

    async def meta(self, request: Request) -> Response:
        """Describe the model for Weaviate."""
        self._check_key(request)
        return JSONResponse(weaviate.describe(self.service.served, request.path_params.get("dimensions")))

    async def info(self, request: Request) -> Response:
        """Describe the model for clients of text-embeddings-inference."""
        self._check_key(request)
        description = tei.describe(
            self.service.served,
            precision=self.service.model.encoder.precision,
            max_tokens=self.service.max_tokens,
            batch_tokens=self.service.model.batch_tokens,
            version=version("jclip-connectors"),
        )
        return JSONResponse(description)

    async def models(self, request: Request) -> Response:
        """List the model."""
        self._check_key(request)
        return JSONResponse(list_models(self.service.model, max_tokens=self.service.max_tokens))

    async def model(self, request: Request) -> Response:
        """Describe the model by any of its names."""
        self._check_key(request)
        model_id = request.path_params["model_id"]
        return JSONResponse(model_info(self.service.model, model_id, max_tokens=self.service.max_tokens))

    async def metrics(self, request: Request) -> Response:
        """Return the metrics for Prometheus."""
        self._check_key(request)
        text = self._metrics.text(waiting_tokens=self.service.engine.waiting_tokens)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def live(self, _request: Request) -> Response:
        """Say that the process answers, and that the model's thread runs."""
        if not self.service.engine.is_alive:
            raise self.service.engine.refusal()
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Say whether the server would accept a request now."""
        try:
            self.service.engine.check_room()
        except RequestError as full:
            full.status = 503  # probes expect this status
            raise
        return JSONResponse({"status": "ready"})

    async def _embed(self, request: Request, dialect: Dialect) -> Response:
        request.state.write_error = dialect.write_error
        self._check_key(request)
        self.service.engine.check_room()
        with self._bodies.open() as body:
            content = await body.read(request)
            written, answer = await _unless_disconnected(request, self.service.answer(content, dialect))
        known = seen(request)
        known.items, known.tokens = len(answer.vectors), answer.text_tokens + answer.image_tokens
        self._metrics.tokens(text=answer.text_tokens, image=answer.image_tokens)
        return Response(written, media_type="application/json")

    def _check_key(self, request: Request) -> None:
        # As bytes: a header may hold any bytes, and some cannot be compared as text.
        headers = (value for name, value in request.headers.raw if name == b"authorization")
        self._keys.check(next(headers, None))


async def _unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Finish `work`, or cancel it when the client disconnects, so that its items leave the queue."""
    working, finished, gone = asyncio.current_task(), False, False

    def cancel(_: object) -> None:
        nonlocal gone
        if working is not None and not finished:
            gone = True
            working.cancel()

    # Only the rare disconnect needs a task; the work runs in the current one.
    watching = asyncio.create_task(_disconnected(request.receive))
    watching.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if working is None or not gone or working.uncancel():  # the task was also cancelled from outside
            raise
        raise RequestError("the client has gone", status=499, code="CLIENT_CLOSED_REQUEST") from None
    finally:
        finished = True
        watching.cancel()


async def _disconnected(receive: Callable[[], Awaitable[object]]) -> None:
    while (await receive())["type"] != "http.disconnect":  # type: ignore[index]
        pass
