"""The web application: its routes, and how errors are written."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import orjson  # noqa: F401 (like the next, for modules that are imported below)
import prometheus_client  # noqa: F401
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from core_encoder.errors import ConfigError
from core_encoder.image_preprocess import check_resampling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.answering import answer_request_error, exception_handlers, make_routes
from jclip_connectors.server.api_keys import ApiKeys
from jclip_connectors.server.bodies import Bodies
from jclip_connectors.server.cors import Cors, Origins
from jclip_connectors.server.dialects import azure, cohere, jina, sagemaker, tei, vertex, weaviate
from jclip_connectors.server.endpoints import Endpoints
from jclip_connectors.server.image_fetch import FetchLimits, ImageFetcher
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.metrics import Metrics
from jclip_connectors.server.observation import Observation
from jclip_connectors.server.requests import Dialect
from jclip_connectors.server.service import EmbeddingService, LoadedModel
from jclip_connectors.server.shedding import Shedding
from jclip_connectors.server.ui.gallery import Shown
from jclip_connectors.server.ui.routes import PageGuard, SearchPage, is_page

_DIALECTS = {
    "/v1/embeddings": jina.DIALECT,
    "/v2/embed": cohere.DIALECT,
    "/embed": tei.DIALECT,
    "/": tei.DIALECT,  # clients without a configured path post here
    "/vectorize": weaviate.dialect(),
    "/invocations": sagemaker.DIALECT,
    "/score": azure.DIALECT,
}


def create_app(
    model: LoadedModel,
    config: EmbeddingConfig,
    *,
    api_keys: Sequence[str] = (),
    limits: ServerLimits | None = None,
    image_urls: bool = False,
    allowed_hosts: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    predict_route: str = "/predict",
    health_route: str = "/health",
    collection: Shown | None = None,
) -> Starlette:
    """Make the application for a loaded model; while it runs, `app.state.service` answers the requests.

    Args:
        model: the model.
        config: defaults for options that a request leaves out.
        api_keys: a client must send one of these; empty leaves the server open.
        limits: on requests; `ServerLimits()` if `None`.
        image_urls: whether a request may give an image as a URL.
        allowed_hosts: hosts that images may be fetched from; empty allows every public host.
        cors_origins: origins of pages that may read the answers in a browser, such as "https://app.example.com"; "*"
            allows every page, and empty allows none.
        predict_route: the path of Vertex AI's dialect.
        health_route: a second path for `/health`, for hosting platforms that need their own.
        collection: shown on the search page, `/ui`; its configuration must be `config`.

    Raises:
        ConfigError: a key, a host, an origin or a route is malformed, `predict_route` is another dialect's path, or
            `config` limits images, which `limits` does here, or its `resampling` needs a package that is not installed.
    """
    check_resampling(config.resampling)
    if config.max_pixels is not None or config.max_image_bytes is not None:
        raise ConfigError(
            "`max_pixels` and `max_image_bytes` of the configuration (JCLIP_MAX_PIXELS, JCLIP_MAX_IMAGE_BYTES) have no "
            "effect on a server: set its own limits, `--limit max_pixels=N` and `--limit max_image_bytes=N`"
        )
    limits = ServerLimits() if limits is None else limits
    metrics, origins = Metrics(), Origins(cors_origins)
    bodies = Bodies(limits)
    endpoints = Endpoints(ApiKeys(api_keys), bodies, metrics)
    page = None if collection is None else SearchPage(collection, keys=api_keys, limits=limits, bodies=bodies)
    fetch_limits = FetchLimits(max_bytes=limits.max_image_bytes, timeout_s=limits.max_fetch_s)
    fetcher = ImageFetcher(limits=fetch_limits, allowed_hosts=allowed_hosts) if image_urls else None
    predict_route, health_route = (
        _check_route(predict_route, "predict_route"),
        _check_route(health_route, "health_route"),
    )
    if predict_route in _DIALECTS and predict_route != "/":
        raise ConfigError(f"`predict_route` is {predict_route!r}, the path of another dialect: use another path")
    dialects = {**_DIALECTS, predict_route: vertex.DIALECT}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        service = EmbeddingService(model, config, limits=limits, fetcher=fetcher, observe_batch=metrics.batch)
        service.engine.start()
        app.state.service = endpoints.service = service
        if page is not None:
            page.service = service
        yield {"shedding": Shedding(service.engine, dialects, metrics, origins)}  # for `protocol`
        await service.close()
        if page is not None:
            page.close()

    routes = [
        *_routes(endpoints, dialects, health_route=health_route),
        *(() if page is None else make_routes(page.posts, page.gets)),
    ]
    guards = [] if page is None else [Middleware(PageGuard, page=page, answer=answer_request_error)]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Observation, metrics=metrics),
            *guards,
            Middleware(Cors, origins=origins, own=is_page),
        ],
        exception_handlers=exception_handlers(routes, origins),
        lifespan=lifespan,
    )
    # A redirect would name the scheme and host that this server sees, which are not those before a proxy.
    app.router.redirect_slashes = False
    return app


def _check_route(path: str, name: str) -> str:
    """Check the path of a route; returns it without a slash at its end, as requests are compared."""
    if not path.startswith("/") or any(each in path for each in "{}?# "):
        raise ConfigError(f"`{name}` is {path!r}: write a path such as '/predict'")
    return path.rstrip("/") or "/"


def _routes(endpoints: Endpoints, dialects: Mapping[str, Dialect], *, health_route: str) -> list[Route]:
    posts = {route: endpoints.embed(dialect) for route, dialect in dialects.items()}
    posts["/v1/embeddings"] = endpoints.embed_hosted
    posts["/weaviate/{dimensions}/vectorize"] = endpoints.embed_for_weaviate
    gets = {
        "/v1/models": endpoints.models,
        "/v1/models/{model_id:path}": endpoints.model,
        "/info": endpoints.info,
        "/metrics": endpoints.metrics,
        "/health": endpoints.live,
        "/live": endpoints.live,
        "/ready": endpoints.ready,
        "/ping": endpoints.live,  # not `ready`: SageMaker replaces an instance that fails it
        health_route: endpoints.live,
    }
    for mount in ("", "/weaviate/{dimensions}"):
        gets[f"{mount}/meta"] = endpoints.meta
        gets[f"{mount}/.well-known/live"] = endpoints.live
        gets[f"{mount}/.well-known/ready"] = endpoints.ready
    return make_routes(posts, gets)
