"""The request, answer and error types that all dialects share."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from jclip_connectors.server.limits import ServerLimits


@dataclass(frozen=True)
class TextItem:
    """A text to embed."""

    text: str


@dataclass(frozen=True)
class ImageItem:
    """An image to embed: the content of a PNG, JPEG or other file; or pixels, (H, W, 3) uint8 RGB."""

    data: bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class UrlItem:
    """An image to embed, still to be fetched from its URL."""

    url: str


class RequestError(Exception):
    """A request, or one item of it, that is not answered with a vector.

    Attributes:
        detail: for people: what was found, what is allowed, what to do; never content, a path or a key.
        status: of HTTP.
        code: for programs.
        field: of the request, if one field is wrong.
        retry_after_s: seconds after which the same request may succeed, or `None`.
        more_headers: of HTTP, beside those that follow from the other attributes.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int = 422,
        code: str = "INPUT_INVALID",
        field: str | None = None,
        retry_after_s: int | None = None,
        more_headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep all arguments as attributes."""
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s
        self.more_headers = {} if more_headers is None else dict(more_headers)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers of the error."""
        found = dict(self.more_headers)
        if self.retry_after_s is not None:
            found["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found


Item: TypeAlias = TextItem | ImageItem | UrlItem | RequestError
"""A refused item keeps its place, so that the other items keep their numbers in the answer."""

Vector: TypeAlias = NDArray[np.float32] | RequestError
"""The (dimensions,) vector of an item, or its error."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    """One request, the same for all dialects.

    Attributes:
        items: in the client's order.
        dimensions: length of the vectors; `None` is the server's default.
        normalized: whether vectors have unit length; `None` is the server's default.
        query: whether texts are search queries rather than documents.
        truncate: whether a text over the model's limit is cut rather than refused.
        partial: whether a bad item fails alone rather than the whole request.
        numbers: of the items, as errors name them; `None` means their indices.
    """

    items: tuple[Item, ...]
    dimensions: int | None = None
    normalized: bool | None = None
    query: bool = False
    truncate: bool = False
    partial: bool = False
    numbers: tuple[int, ...] | None = None

    def number(self, index: int) -> int:
        """The number by which an error names the item at `index`."""
        return index if self.numbers is None else self.numbers[index]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request, the same for all dialects.

    Attributes:
        vectors: of the items, in their order; errors only if the request was `partial`.
        text_tokens: number of text tokens that the model read.
        image_tokens: the price of all images that have vectors.
    """

    vectors: Sequence[Vector]
    text_tokens: int
    image_tokens: int


@dataclass(frozen=True)
class Call:
    """A request that has been read, and the function that writes its answer in the same dialect."""

    request: EmbeddingRequest
    write: Callable[[Answer], bytes]


@dataclass(frozen=True, kw_only=True)
class Served:
    """The facts about the server that a dialect needs to read a request.

    Attributes:
        names: that clients may use for the model; an answer has the first one if the request has no name.
        embedding_dim: length E of a full vector.
        dimensions: length of a vector if the request does not give one.
        limits: on requests.
        image_urls: whether a request may give an image as a URL.
    """

    names: tuple[str, ...]
    embedding_dim: int
    dimensions: int
    limits: ServerLimits
    image_urls: bool = False


def new_request_id() -> str:
    """Make an id for a request, for its answer and its log line."""
    return f"{random.getrandbits(64):016x}"


@dataclass(frozen=True)
class Dialect:
    """How to read the requests and write the errors of one API.

    Attributes:
        read: reads the body of a request; raises `RequestError` if the request as a whole cannot be answered.
        write_error: writes an error with the id of the request.
    """

    read: Callable[[bytes, Served], Call]
    write_error: Callable[[RequestError, str], bytes]


def item_error(index: int, what: str, *, code: str = "INPUT_INVALID") -> RequestError:
    """Make the error of the item at `index`."""
    return RequestError(f"item {index} {what}", status=400, code=code, field=f"input.{index}")
