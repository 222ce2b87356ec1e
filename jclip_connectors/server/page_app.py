"""The application of `jclip ui`: the search page alone, which is there before the model is."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

from core_encoder.errors import JinaClipError
from jclip_connectors.server.answering import answer_request_error, exception_handlers, make_routes
from jclip_connectors.server.bodies import Bodies
from jclip_connectors.server.cors import Origins
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.metrics import Metrics
from jclip_connectors.server.observation import Observation, log_failure
from jclip_connectors.server.service import EmbeddingService, LoadedModel
from jclip_connectors.server.ui.gallery import Shown
from jclip_connectors.server.ui.routes import PageGuard, SearchPage


def create_page_app(collection: Shown, load: Callable[[], LoadedModel], *, limits: ServerLimits) -> Starlette:
    """Make the application of a collection's search page.

    Args:
        collection: what is shown.
        load: loads the model, in a thread, while the page is already answered.
        limits: on requests.
    """
    page = SearchPage(collection, keys=(), limits=limits, bodies=Bodies(limits))
    # The limits of the server hold, and the configuration's own ones would be refused.
    config = dataclasses.replace(collection.config, max_pixels=None, max_image_bytes=None)

    async def prepare() -> None:
        try:
            model = await asyncio.to_thread(load)
        except JinaClipError as error:
            page.failure = "the model cannot be loaded; see what the server has printed"
            log_failure(f"loading the model ({error})", error)
            return
        service = EmbeddingService(model, config, limits=limits)
        service.engine.start()
        page.service = service

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(prepare())
        yield
        await loading  # a thread that loads cannot be stopped
        if page.service is not None:
            await page.service.close()
        page.close()

    routes = make_routes(page.posts, page.gets)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Observation, metrics=Metrics()),
            Middleware(PageGuard, page=page, answer=answer_request_error),
        ],
        exception_handlers=exception_handlers(routes, Origins(())),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app
