"""What every dialect's request becomes, what it is answered with, and the one error that every dialect can say."""

import random
from collections.abc import Callable, Sequence
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
    """An image to embed, still encoded: the content of a PNG, JPEG or other file."""

    data: bytes


@dataclass(frozen=True)
class UrlItem:
    """An image to embed that is still to be fetched."""

    url: str


class RequestError(Exception):
    """A request, or one item of it, that is not answered with a vector.

    Attributes:
        detail: for people: what was found, what is allowed, what to do; never content, a path or a key.
        status: of HTTP.
        code: for programs.
        field: of the request, where one is at fault.
        retry_after_s: after which the same request may succeed, or `None`.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int = 422,
        code: str = "INPUT_INVALID",
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """Keep everything beside the message."""
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """What HTTP says beside the body."""
        found = {}
        if self.retry_after_s is not None:
            found["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found


Item: TypeAlias = TextItem | ImageItem | UrlItem | RequestError
"""A refused item keeps its place, so that the others can be answered under their own numbers."""

Vector: TypeAlias = NDArray[np.float32] | RequestError
"""The (dimensions,) vector of an item, or why it has none."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    """One request, whatever the dialect.

    Attributes:
        items: in the client's order.
        dimensions: length of the vectors; `None` is the server's default.
        normalized: whether vectors have unit length; `None` is the server's default.
        query: whether texts are search queries rather than documents.
        truncate: whether a text over the model's limit is cut rather than refused.
        partial: whether a bad item fails alone rather than the whole request.
        numbers: what errors call the items by; `None` is their places.
    """

    items: tuple[Item, ...]
    dimensions: int | None = None
    normalized: bool | None = None
    query: bool = False
    truncate: bool = False
    partial: bool = False
    numbers: tuple[int, ...] | None = None

    def number(self, index: int) -> int:
        """What an error calls the item at a place."""
        return index if self.numbers is None else self.numbers[index]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a request is answered with, whatever the dialect.

    Attributes:
        vectors: of the items, in their order; errors only where the request was `partial`.
        text_tokens: that the model read.
        image_tokens: the price of all images that have vectors.
    """

    vectors: Sequence[Vector]
    text_tokens: int
    image_tokens: int


@dataclass(frozen=True)
class Call:
    """A request that has been read, and how its answer is written in the same dialect."""

    request: EmbeddingRequest
    write: Callable[[Answer], bytes]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a dialect must know of the server to read a request.

    Attributes:
        names: what clients may call the model; answers without a name of the client's give the first.
        embedding_dim: length E of a full vector.
        dimensions: length where a request names none.
        limits: what a request may ask for.
        image_urls: whether images may be named by URL.
    """

    names: tuple[str, ...]
    embedding_dim: int
    dimensions: int
    limits: ServerLimits
    image_urls: bool = False


def new_request_id() -> str:
    """Name a request, for its answer and its line in the log."""
    return f"{random.getrandbits(64):016x}"


@dataclass(frozen=True)
class Dialect:
    """How a kind of client writes requests, and reads answers and errors.

    Attributes:
        read: the body of a request; raises `RequestError` where it cannot be answered as a whole.
        write_error: a refusal and the id of the request.
    """

    read: Callable[[bytes, Served], Call]
    write_error: Callable[[RequestError, str], bytes]


def item_error(index: int, what: str, *, code: str = "INPUT_INVALID") -> RequestError:
    """Say what is wrong with an item, by its place."""
    return RequestError(f"item {index} {what}", status=400, code=code, field=f"input.{index}")
