"""Preparation of items in threads, before they wait for the model: texts to token ids, images to small squares."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import ImageLimitError, InputError
from core_encoder.image_input import read_picture
from core_encoder.image_limits import ImageLimits
from core_encoder.image_preprocess import PreprocessConfig, Resampling, ResizeMode, squares
from core_encoder.rendering import Rendering
from core_encoder.tiling import TOKENS_PER_TILE, count_tiles
from core_encoder.tokenization import TokenizedText
from jclip_connectors.server.requests import EmbeddingRequest, RequestError, TextItem

_PATCH_PX = 14  # of both published models
_GROUP_CHARS = 2**18  # tokenized at a time: a tokenizer needs a few hundred bytes per character
_POSITION = re.compile(r"^item \d+")
# What the encoder's errors repeat of an image's file: its first bytes, its values, and what a decoder says of it.
_BYTES = r"""b(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_CONTENT = (
    (re.compile(r"( cannot be (?:decoded as \w+|converted to RGB)): .*", re.DOTALL), r"\1: it is damaged"),
    (re.compile(rf" and starts with {_BYTES}"), ""),
    (re.compile(r" with values \S+\.\.[^\s,]+"), ""),
    (re.compile(_BYTES), "some bytes"),
)


class Encoder(Protocol):
    """The part of `JinaClipEncoder` that the server uses; threads may share it."""

    @property
    def embedding_dim(self) -> int: ...  # noqa: D102 (as in `JinaClipEncoder`, like the rest)
    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def max_tokens(self) -> int: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def query_task(self) -> str | None: ...  # noqa: D102
    def tokenize(  # noqa: D102
        self, texts: Sequence[str], *, task: str | None, max_tokens: int | None
    ) -> list[TokenizedText]: ...
    def encode_tokens(  # noqa: D102
        self, texts: Sequence[TokenizedText], *, normalize: bool
    ) -> NDArray[np.float32]: ...
    def encode_image(  # noqa: D102
        self, images: Sequence[NDArray[np.uint8]], *, normalize: bool
    ) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedText:
    """A text that waits for the model.

    Attributes:
        tokens: the model's input.
        cost: of computing it, in tokens of the model.
        usage: reported to the client, in tokens.
    """

    tokens: TokenizedText
    cost: int
    usage: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedImage:
    """An image that waits for the model; its encoded bytes are not kept.

    Attributes:
        square: (S, S, 3) uint8 0..255, the model's input before normalisation.
        cost: of computing it, in tokens of the model.
        usage: reported to the client, in tokens.
    """

    square: NDArray[np.uint8]
    cost: int
    usage: int


Prepared: TypeAlias = PreparedText | PreparedImage


class Preparation:
    """Makes items ready for one model; threads may share it."""

    def __init__(
        self,
        encoder: Encoder,
        preprocessing: PreprocessConfig,
        *,
        limits: ImageLimits,
        max_tokens: int,
        resize_mode: ResizeMode | None = None,
        rendering: Rendering = "as_stored",
        resampling: Resampling = "exact",
    ) -> None:
        """Prepare for `encoder` with the preprocessing of its checkpoint, changed by the options."""
        self._encoder = encoder
        self._preprocessing = preprocessing
        self._limits = limits
        self._max_tokens = max_tokens
        self._resize_mode = resize_mode
        self._rendering = rendering
        self._resampling = resampling
        self.image_cost = 1 + (encoder.image_size // _PATCH_PX) ** 2

    def prepare_texts(
        self, request: EmbeddingRequest, texts: Mapping[int, str]
    ) -> dict[int, PreparedText | RequestError]:
        """Tokenize texts, keyed by their index in the request."""
        task = self._encoder.query_task if request.query else None
        try:
            tokenized = self._encoder.tokenize(list(texts.values()), task=task, max_tokens=self._max_tokens)
        except InputError as error:
            if len(texts) == 1:
                return {index: encoder_refusal(error, request.number(index)) for index in texts}
            alone = (self.prepare_texts(request, {index: text}) for index, text in texts.items())
            return {index: prepared for one in alone for index, prepared in one.items()}
        return {
            index: self._prepared(request.number(index), tokens, truncate=request.truncate)
            for index, tokens in zip(texts, tokenized, strict=True)
        }

    def prepare_image(self, data: bytes | NDArray[np.uint8], number: int) -> PreparedImage | RequestError:
        """Decode an image and resize it to the model's size; errors name it by its number."""
        try:
            loaded = read_picture(data, index=number, limits=self._limits, rendering=self._rendering)
        except InputError as error:
            return encoder_refusal(error, number)
        (square,) = squares([loaded.picture], self._preprocessing, self._resize_mode, resampling=self._resampling)
        return PreparedImage(
            square=square,
            cost=self.image_cost,
            usage=image_usage(*loaded.full_size, size=self._encoder.image_size),
        )

    def _prepared(self, number: int, tokens: TokenizedText, *, truncate: bool) -> PreparedText | RequestError:
        if tokens.num_tokens > self._max_tokens and not truncate:
            return RequestError(
                f"item {number} has {tokens.num_tokens} tokens, {self._max_tokens} are allowed: shorten it, or send "
                "`truncate` true",
                status=400,
                code="INPUT_TOKEN_LIMIT_EXCEEDED",
                field=f"input.{number}",
            )
        return PreparedText(tokens=tokens, cost=len(tokens.ids), usage=len(tokens.ids))


def text_groups(request: EmbeddingRequest) -> Iterator[dict[int, str]]:
    """Split the texts of a request, keyed by index, into groups of few characters for one call of a thread."""
    group: dict[int, str] = {}
    chars = 0
    for index, item in enumerate(request.items):
        if not isinstance(item, TextItem):
            continue
        if group and chars + len(item.text) > _GROUP_CHARS:
            yield group
            group, chars = {}, 0
        group[index] = item.text
        chars += len(item.text)
    if group:
        yield group


def image_usage(width: int, height: int, *, size: int) -> int:
    """Price an image in tokens; for a model without a published price, the lowest published price per tile."""
    return TOKENS_PER_TILE.get(size, min(TOKENS_PER_TILE.values())) * count_tiles(width, height, size=size)


def encoder_refusal(error: InputError, number: int) -> RequestError:
    """Turn the encoder's error about an item into ours: with the item's number in the request, and without content."""
    detail = f"{error.found}: scale it down first" if isinstance(error, ImageLimitError) else str(error)
    for content, instead in _CONTENT:
        detail = content.sub(instead, detail)
    detail = _POSITION.sub(f"item {number}", detail)
    return RequestError(detail, status=400, field=f"input.{number}")
