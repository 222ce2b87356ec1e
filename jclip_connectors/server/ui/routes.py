"""The routes of the search page, and the headers of their answers."""

import asyncio
import dataclasses
import hashlib
import importlib.resources
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jclip_connectors.errors import EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.port import FloatArray, Modality
from jclip_connectors.server.bodies import Bodies
from jclip_connectors.server.dialects.json_bodies import read_object
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.observation import contained, seen
from jclip_connectors.server.requests import ImageItem, RequestError, TextItem
from jclip_connectors.server.service import EmbeddingService
from jclip_connectors.server.ui.access import Access
from jclip_connectors.server.ui.gallery import Gallery, Shown, read_box, read_where
from jclip_connectors.server.ui.pictures import Pictures

_MOUNT = "/ui"
_FILES = {
    "/ui": ("page.html", "text/html"),
    "/ui/page.js": ("page.js", "text/javascript"),
    "/ui/page.css": ("page.css", "text/css"),
    "/ui/icon.svg": ("icon.svg", "image/svg+xml"),
}
_SIDES = (200, 800)  # of a thumbnail on the page
_DENSITY = 2  # pixels of a thumbnail for a pixel of the page
_PICTURE_PX = 2048  # the longest side of a large picture
_LIMIT = 200  # results of a search
_DECODES = 2  # at the same time
_LOADING_S = 2
_CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_Result = TypeVar("_Result")
Handler = Callable[[Request], Awaitable[Response]]


def is_page(path: str) -> bool:
    """Whether a path belongs to the search page."""
    return path == _MOUNT or path.startswith(f"{_MOUNT}/")


class SearchPage:
    """The search page of one collection; `service` is set when the model is ready."""

    def __init__(self, shown: Shown, *, keys: Sequence[str], limits: ServerLimits, bodies: Bodies) -> None:
        """Make the routes of a collection.

        Args:
            shown: the collection.
            keys: API keys that open the page, beside the token.
            limits: on requests.
            bodies: reads the requests.
        """
        self.access = Access([*keys, *([] if shown.token is None else [shown.token])], hosts=shown.hosts)
        self.service: EmbeddingService | None = None
        self.failure: str | None = None
        self._bodies = bodies
        # A file of the collection may be larger than what a request may send.
        own = dataclasses.replace(shown.config.image_limits, max_decode_s=limits.max_decode_s)
        self._pictures = Pictures(roots=shown.roots, rendering=shown.config.rendering, limits=own)
        self._gallery = Gallery(shown, self._pictures, self.access.handle)
        self._max_text_chars = limits.max_text_chars
        self._files = {path: _read_file(name) for path, (name, _) in _FILES.items()}
        # One thread for the store, whose clients are not all made for several; two that decode pictures.
        self._store_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-page-store")
        self._decode_threads = ThreadPoolExecutor(max_workers=_DECODES, thread_name_prefix="jclip-page-picture")

    @property
    def posts(self) -> Mapping[str, Handler]:
        """The handlers of POST requests by their routes."""
        return {"/ui/session": self.session, "/ui/search": self._guarded(self.search)}

    @property
    def gets(self) -> Mapping[str, Handler]:
        """The handlers of GET requests by their routes."""
        return {
            **dict.fromkeys(_FILES, self.file),
            "/ui/info": self._guarded(self.info),
            "/ui/thumb/{handle}": self._guarded(self.thumbnail),
            "/ui/picture/{handle}": self._guarded(self.picture),
        }

    def close(self) -> None:
        """Stop the threads; the work that has begun is finished."""
        self._store_thread.shutdown()
        self._decode_threads.shutdown()

    async def file(self, request: Request) -> Response:
        """The page, its script, or its style."""
        path = request.scope["path"]
        content, tag = self._files[path]
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_FILES[path][1], headers=headers)

    async def session(self, request: Request) -> Response:
        """Change a key or the token of the address into a session's cookie."""
        raw = await self._read_json(request, expected="`key` or `token`")
        key = raw.get("key", raw.get("token"))
        if not isinstance(key, str) or not key:
            raise RequestError("send `key` or `token`, a string", status=400, field="key")
        return Response(status_code=204, headers={"Set-Cookie": self.access.open_session(key)})

    async def info(self, _request: Request) -> Response:
        """Describe the collection."""
        found = await self._in_store(self._gallery.info)
        return _json({**found, "ready": self.service is not None})

    async def search(self, request: Request) -> Response:
        """Search for a text, a record, a region of a record's picture, or the picture that is the body."""
        started = time.perf_counter()
        if _media_type(request) == "application/octet-stream":
            hits = await self._search_picture(request)
        else:
            hits = await self._search(await self._read_json(request, expected="`text` or `like`"))
        return _json({"hits": hits, "took_ms": round(1000 * (time.perf_counter() - started), 1)})

    async def thumbnail(self, request: Request) -> Response:
        """The small picture of a record."""
        asked = request.query_params.get("side", "")
        side = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 5 else _SIDES[0]
        return await self._jpeg(request, side=_DENSITY * min(max(side, _SIDES[0]), _SIDES[1]))

    async def picture(self, request: Request) -> Response:
        """The large picture of a record."""
        return await self._jpeg(request, side=_PICTURE_PX)

    async def _jpeg(self, request: Request, *, side: int) -> Response:
        handle = request.path_params["handle"]
        record = await self._in_store(lambda: self._gallery.record(handle, vectors=False))
        uri = _uri(record.uri)
        content = await self._decoding(lambda: self._pictures.jpeg(uri, record.content_hash, side=side))
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    async def _search(self, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
        text, like, box = raw.get("text"), raw.get("like"), read_box(raw.get("box"))
        if (text is None) == (like is None):
            raise RequestError("give one of `text` and `like`", status=400, field="text")
        options = _options(raw.get("modality", "image"), raw.get("limit", 50), raw.get("where"))
        if like is None:
            if box is not None:
                raise RequestError("`box` needs `like` or a picture", status=400, field="box")
            if not isinstance(text, str) or not text.strip() or len(text) > self._max_text_chars:
                allowed = f"send a string of 1 to {self._max_text_chars} characters that is not blank"
                raise RequestError(f"`text` cannot be searched for: {allowed}", status=400, field="text")
            vector = await self._embed(TextItem(text))
            return await self._in_store(lambda: self._gallery.search(vector, text=text, **options))
        if not isinstance(like, str):
            raise RequestError("`like` is the `id` of a result", status=400, field="like")
        record = await self._in_store(lambda: self._gallery.record(like, vectors=box is None))
        if box is None:
            found = record.embedding
            options["without"] = record.record_id
        else:
            data = await self._decoding(lambda: self._pictures.read(_uri(record.uri), record.content_hash))
            found = await self._embed_region(data, box)
        return await self._in_store(lambda: self._gallery.search(found, text=None, **options))

    async def _search_picture(self, request: Request) -> list[dict[str, Any]]:
        asked = request.query_params
        box = read_box([_number(each) for each in asked["box"].split(",")]) if "box" in asked else None
        where = _read_where(asked["where"]) if asked.get("where") else None
        options = _options(asked.get("modality", "image"), _number(asked.get("limit", "50")), where)
        with self._bodies.open() as body:
            data = await body.read(request)
            if not data:
                raise RequestError("the body is empty: send the bytes of a picture", status=400, field="body")
            vector = await (self._embed(ImageItem(data)) if box is None else self._embed_region(data, box))
        return await self._in_store(lambda: self._gallery.search(vector, text=None, **options))

    async def _embed_region(self, data: bytes, box: Sequence[int]) -> FloatArray:
        return await self._embed(ImageItem(await self._decoding(lambda: self._pictures.region(data, box))))

    async def _embed(self, item: TextItem | ImageItem) -> FloatArray:
        if self.failure is not None:
            raise RequestError(self.failure, status=503, code="SERVICE_UNAVAILABLE")
        if self.service is None:
            raise RequestError(
                "the model is still loading: try again soon",
                status=503,
                code="SERVICE_UNAVAILABLE",
                retry_after_s=_LOADING_S,
            )
        return await self.service.embed_query(item)

    async def _read_json(self, request: Request, *, expected: str) -> dict[str, Any]:
        if _media_type(request) != "application/json":
            raise RequestError(
                "send JSON with 'Content-Type: application/json', or a picture with 'application/octet-stream'",
                status=415,
                code="REQUEST_INVALID",
            )
        with self._bodies.open() as body:
            return read_object(await body.read(request), expected=expected)

    def _guarded(self, handler: Handler) -> Handler:
        """A handler for those who have a session or a key."""

        async def guarded(request: Request) -> Response:
            self.access.check_session(request.headers, request.cookies)
            return await handler(request)

        return guarded

    async def _in_store(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._store_thread, contained, _asking, work)

    async def _decoding(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._decode_threads, contained, work)


class PageGuard:
    """ASGI middleware of the search page: names and origins are checked first, and every answer has the headers."""

    def __init__(
        self, app: ASGIApp, page: SearchPage, answer: Callable[[Request, Exception], Awaitable[Response]]
    ) -> None:
        """Guard the routes of `page` in `app`; `answer` writes an error."""
        self._app = app
        self._access = page.access
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or not is_page(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"]).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._access.check_host(headers)
            if scope["method"] not in ("GET", "HEAD"):
                self._access.check_origin(headers)
        except RequestError as error:
            request = Request(scope, receive)
            seen(request).route = _MOUNT
            await (await self._answer(request, error))(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _asking(work: Callable[[], _Result]) -> _Result:
    """Ask the store; its errors for people, without what they tell of the server."""
    try:
        return work()
    except EmbedInputError as error:
        raise RequestError(str(error), status=400) from None
    except StoreUnavailableError:
        raise RequestError(
            "the database does not answer: try again", status=503, code="SERVICE_UNAVAILABLE", retry_after_s=_LOADING_S
        ) from None
    except StoreRequestError as error:
        raise RequestError(
            "the database has refused the request; see the server's log", status=502, code="INTERNAL_ERROR"
        ) from error


def _options(modality: object, limit: object, where: object) -> dict[str, Any]:
    if modality not in ("image", "text"):
        raise RequestError("`modality` is neither 'image' nor 'text'", status=400, field="modality")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _LIMIT:
        raise RequestError(f"`limit` is no whole number from 1 to {_LIMIT}", status=400, field="limit")
    chosen: Modality = "image" if modality == "image" else "text"
    return {"modality": chosen, "limit": limit, "where": read_where(where)}


def _read_where(text: str) -> dict[str, Any]:
    """Read the filter in the query of an address."""
    try:
        return read_object(text.encode(), expected="a filter")
    except RequestError:
        raise RequestError("`where` is not a JSON object", status=400, field="where") from None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _uri(uri: str | None) -> str:
    if uri is None:
        raise RequestError("the record has no picture", status=404, code="RESOURCE_NOT_FOUND")
    return uri


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _json(body: object) -> Response:
    # Not by orjson, which refuses the large integers that metadata may have.
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})


def _read_file(name: str) -> tuple[bytes, str]:
    """A file of the package and its ETag."""
    content = importlib.resources.files("jclip_connectors.server.ui").joinpath(name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:20]}"'
