"""What every dialect's request becomes, and the one error that every dialect can say."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Encoding = Literal["float", "base64", "binary", "ubinary"]


@dataclass(frozen=True)
class TextItem:
    """A text to embed."""

    text: str


@dataclass(frozen=True)
class ImageItem:
    """An image to embed, still encoded: the content of a PNG, JPEG or other file."""

    data: bytes


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


Item: TypeAlias = TextItem | ImageItem | RequestError
"""A refused item keeps its place, so that the others can be answered under their own numbers."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    """One request, whatever the dialect.

    Attributes:
        items: in the client's order.
        dimensions: length of the vectors; `None` is the server's default.
        normalized: whether vectors have unit length; `None` is the server's default.
        query: whether texts are search queries rather than documents.
        encodings: what each vector is sent as; more than one gives each vector under their names.
        named: whether vectors are sent under the names of their encodings.
        truncate: whether a text over the model's limit is cut rather than refused.
        partial: whether a bad item fails alone rather than the whole request.
    """

    items: tuple[Item, ...]
    dimensions: int | None = None
    normalized: bool | None = None
    query: bool = False
    encodings: tuple[Encoding, ...] = ("float",)
    named: bool = False
    truncate: bool = False
    partial: bool = False
