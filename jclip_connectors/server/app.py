"""The web application: routes, keys, errors; and `serve`, which loads a model and runs it."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jclip_connectors.port import MissingDependencyError

try:
    import uvicorn
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
except ModuleNotFoundError as error:
    raise MissingDependencyError(str(error.name), extra="server") from error

from core_encoder.models import is_hub_id
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.api_keys import ApiKeys
from jclip_connectors.server.bodies import Bodies
from jclip_connectors.server.jina import format_error
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.models import list_models, model_info
from jclip_connectors.server.requests import RequestError
from jclip_connectors.server.service import EmbeddingService, LoadedModel

_LOG = logging.getLogger("jclip_connectors.server")
_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}  # as the encoder's own batches
_BACKLOG = 2048  # connections that wait to be accepted


def serve(
    config: EmbeddingConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    api_keys: Sequence[str] = (),
    limits: ServerLimits | None = None,
    device: str | None = None,
    names: Sequence[str] = (),
    local_files_only: bool = False,
) -> None:
    """Load a model and serve it until the process is told to stop; what was accepted is finished first.

    Args:
        config: which model, and the defaults for what a request does not say.
        host: address to listen on.
        port: of it.
        api_keys: any of which a client must send; none leaves the server open.
        limits: on what a client may ask for; `ServerLimits()` if `None`.
        device: "cpu", "cuda", ...; `None` is CUDA where there is one.
        names: what clients may call the model besides its own name.
        local_files_only: use the local cache of models and never the network.

    Raises:
        MissingDependencyError: torch or another package of the extra "local" is not installed.
        ConfigError: an option is not one that the model has.
        CheckpointError: the weights are absent or damaged.
    """
    model, batch_tokens = load_served_model(config, device=device, names=names, local_files_only=local_files_only)
    app = create_app(model, config, api_keys=api_keys, limits=limits, batch_tokens=batch_tokens)
    uvicorn.run(app, host=host, port=port, access_log=False, server_header=False, backlog=_BACKLOG)


def load_served_model(
    config: EmbeddingConfig, *, device: str | None = None, names: Sequence[str] = (), local_files_only: bool = False
) -> tuple[LoadedModel, int]:
    """Load the model of `config`, and say how many tokens its device takes at once; arguments as for `serve`."""
    try:
        from core_encoder.encoder import JinaClipEncoder  # here, as it imports torch
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local") from error
    encoder = JinaClipEncoder.load(
        config.model,
        revision=config.revision,
        device=device,
        precision=config.precision,
        local_files_only=local_files_only,
    )
    encoder.encode_text([], max_tokens=config.max_tokens)  # refuses a bad option now
    name = Path(config.model).name
    hub_id = config.model if is_hub_id(config.model) and not Path(config.model).is_dir() else ""
    model = LoadedModel(
        encoder=encoder,
        preprocessing=encoder.preprocessing,
        names=tuple(dict.fromkeys([name, *([hub_id] if hub_id else []), *names])),
        hub_id=hub_id,
    )
    return model, _BATCH_TOKENS.get(encoder.device.type, _BATCH_TOKENS["cpu"])


def create_app(
    model: LoadedModel,
    config: EmbeddingConfig,
    *,
    api_keys: Sequence[str] = (),
    limits: ServerLimits | None = None,
    batch_tokens: int = _BATCH_TOKENS["cpu"],
) -> FastAPI:
    """Make the application for a loaded model; `app.state.service` is what answers while it runs.

    Args:
        model: the model.
        config: defaults for what a request does not say.
        api_keys: any of which a client must send; none leaves the server open.
        limits: on what a client may ask for; `ServerLimits()` if `None`.
        batch_tokens: cost of what the model is given at once.
    """
    limits = ServerLimits() if limits is None else limits
    keys, bodies = ApiKeys(api_keys), Bodies(limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = EmbeddingService(model, config, limits=limits, batch_tokens=batch_tokens)
        service.engine.start()
        app.state.service = service
        yield
        await service.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    @app.get("/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        try:
            app.state.service.engine.check_room()
        except RequestError as full:
            full.status = 503  # what probes look for
            raise
        return {"status": "ready"}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        keys.check(_authorization(request))
        return list_models(model)

    @app.get("/v1/models/{model_id:path}")
    async def one_model(request: Request, model_id: str) -> dict[str, Any]:
        keys.check(_authorization(request))
        return model_info(model, model_id)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        keys.check(_authorization(request))
        service: EmbeddingService = app.state.service
        service.engine.check_room()
        with bodies.open() as body:
            content = await body.read(request)
            answer = await _unless_disconnected(request, service.answer(content))
        return Response(answer, media_type="application/json")

    app.add_exception_handler(RequestError, _answer_request_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_failure)
    return app


async def _unless_disconnected(request: Request, work: Awaitable[bytes]) -> bytes:
    """Finish `work`, or cancel it when the client goes, so that its places in the queue are free again."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RequestError("the client has gone", status=499, code="CLIENT_CLOSED_REQUEST")
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _authorization(request: Request) -> bytes | None:
    # As bytes: a header may hold any, and comparing text would fail on some.
    return next((value for name, value in request.headers.raw if name == b"authorization"), None)


async def _answer_request_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestError):
        raise error
    request_id = uuid.uuid4().hex[:16]
    _LOG.info("request_id=%s status=%d code=%s", request_id, error.status, error.code)
    headers = {"X-Request-ID": request_id}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        format_error(error, request_id=request_id),
        status_code=error.status,
        headers=headers,
        media_type="application/json",
    )


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown route or method."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    detail = {404: "there is no such route", 405: "the route does not take this method"}.get(status, "refused")
    code = "RESOURCE_NOT_FOUND" if status == 404 else "REQUEST_INVALID"
    return await _answer_request_error(request, RequestError(detail, status=status, code=code))


async def _answer_failure(request: Request, _error: Exception) -> Response:
    failure = RequestError("something failed in the server; its log says more", status=500, code="INTERNAL_ERROR")
    return await _answer_request_error(request, failure)
