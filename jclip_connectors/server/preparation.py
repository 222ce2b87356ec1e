"""What threads do before an item waits for the model: texts are counted in tokens, images become small squares."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.image_input import ImageLimits, load_image
from core_encoder.image_preprocess import PreprocessConfig, ResizeMode, preprocess
from core_encoder.tiling import TOKENS_PER_TILE, count_tiles
from jclip_connectors.server.requests import EmbeddingRequest, ImageItem, RequestError, TextItem

_PATCH_PX = 14  # of both published models
_COUNTED_CHARS = 2**18  # at a time
_LONGEST_PREFIX = 64  # more tokens than any task puts before a text
_POSITION = re.compile(r"^item \d+")


class Encoder(Protocol):
    """What the server needs of `JinaClipEncoder`; threads may share it."""

    @property
    def embedding_dim(self) -> int: ...  # noqa: D102 (as in `JinaClipEncoder`, like the rest)
    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def max_tokens(self) -> int: ...  # noqa: D102
    @property
    def query_task(self) -> str | None: ...  # noqa: D102
    def count_tokens(self, texts: Sequence[str]) -> list[int]: ...  # noqa: D102
    def encode_text(  # noqa: D102
        self,
        texts: Sequence[str],
        *,
        task: str | None,
        normalize: bool,
        max_tokens: int | None,
        overflow: Literal["truncate", "error"],
    ) -> NDArray[np.float32]: ...
    def encode_image(  # noqa: D102
        self, images: Sequence[NDArray[np.uint8]], *, normalize: bool
    ) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class PreparedText:
    """A text that waits for the model.

    Attributes:
        index: its place in the request.
        text: as it was sent.
        query: whether it is a search query.
        truncate: whether it may be cut, where it is so long that the model could want it.
        cost: of computing it, in tokens of the model.
        usage: what is reported, in tokens.
    """

    index: int
    text: str
    query: bool
    truncate: bool
    cost: int
    usage: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedImage:
    """An image that waits for the model; what it was decoded from is gone.

    Attributes:
        index: its place in the request.
        square: (S, S, 3) uint8 0..255, what the model sees.
        cost: of computing it, in tokens of the model.
        usage: what is reported, in tokens.
    """

    index: int
    square: NDArray[np.uint8]
    cost: int
    usage: int


Prepared = PreparedText | PreparedImage


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
        exif_orientation: bool = False,
    ) -> None:
        """Prepare for `encoder` with the preprocessing of its checkpoint, changed as the options say."""
        self._encoder = encoder
        # Without mean and deviation the values are 0..1, from which the 8 bits come back exactly.
        self._plain = dataclasses.replace(preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self._limits = limits
        self._max_tokens = max_tokens
        self._resize_mode = resize_mode
        self._exif_orientation = exif_orientation
        self._image_cost = 1 + (encoder.image_size // _PATCH_PX) ** 2

    def prepare_texts(self, request: EmbeddingRequest) -> dict[int, PreparedText | RequestError]:
        """Count the tokens of every text, by place in the request."""
        places = {index: item.text for index, item in enumerate(request.items) if isinstance(item, TextItem)}
        counts: dict[int, int] = {}
        for group in _groups(places):
            with contextlib.suppress(InputError):  # one of them: which, comes out when each is counted alone
                counts.update(zip(group, self._encoder.count_tokens([places[index] for index in group]), strict=True))
        return {index: self._prepare_text(request, index, text, counts.get(index)) for index, text in places.items()}

    def prepare_image(self, item: ImageItem, index: int) -> PreparedImage | RequestError:
        """Decode an image and bring it to the model's size."""
        try:
            image = load_image(item.data, index=index, limits=self._limits, exif_orientation=self._exif_orientation)
        except InputError as error:
            return item_error(error, index)
        values = preprocess(image, self._plain, self._resize_mode)  # (3, S, S)
        return PreparedImage(
            index=index,
            square=np.ascontiguousarray(np.rint(values * 255).astype(np.uint8).transpose(1, 2, 0)),  # (S, S, 3)
            cost=self._image_cost,
            usage=image_usage(image.width, image.height, size=self._encoder.image_size),
        )

    def _prepare_text(
        self, request: EmbeddingRequest, index: int, text: str, count: int | None = None
    ) -> PreparedText | RequestError:
        limit = self._max_tokens
        try:
            tokens = self._encoder.count_tokens([text])[0] if count is None else count
        except InputError as error:
            return item_error(error, index)
        if tokens > limit and not request.truncate:
            return RequestError(
                f"item {index} has {tokens} tokens, {limit} are allowed: shorten it, or send `truncate` true",
                status=400,
                code="INPUT_TOKEN_LIMIT_EXCEEDED",
                field=f"input.{index}",
            )
        kept = min(tokens, limit)
        return PreparedText(
            index=index,
            text=text,
            query=request.query,
            truncate=request.truncate and tokens > limit - _LONGEST_PREFIX,
            cost=kept,
            usage=kept,
        )


def _groups(texts: Mapping[int, str]) -> Iterator[list[int]]:
    """Part texts so that a group has few characters: a tokenizer needs some hundred bytes for each."""
    group: list[int] = []
    chars = 0
    for index, text in texts.items():
        if group and chars + len(text) > _COUNTED_CHARS:
            yield group
            group, chars = [], 0
        group.append(index)
        chars += len(text)
    if group:
        yield group


def image_usage(width: int, height: int, *, size: int) -> int:
    """Price an image in tokens; a model without a published price pays the lowest that is published for each tile."""
    return TOKENS_PER_TILE.get(size, min(TOKENS_PER_TILE.values())) * count_tiles(width, height, size=size)


def item_error(error: InputError, index: int) -> RequestError:
    """Say what the encoder says of an item, with the item's place in the request."""
    detail = _POSITION.sub(f"item {index}", str(error))
    return RequestError(detail, status=400, field=f"input.{index}")
