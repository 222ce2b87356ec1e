"""The requests to a `/v1/embeddings` endpoint, and the rows in its answers; no code here waits or opens a connection.

Texts and images become `Batch`es, each the body of one request. An answer is checked before its vectors are used.
`whole` and `apart` are the two ways to send a batch: generators that yield a batch to send and receive the rows, or
the error by `throw`, so that the blocking and the asyncio client run the same steps.

Source: the OpenAPI file of the hosted API, version 2026.04.02.
"""

import base64
import binascii
import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from core_encoder.errors import ConfigError, ImageDecodeError
from core_encoder.image_input import LoadedImage, read_image
from core_encoder.matryoshka import normalize, truncate
from core_encoder.models import KnownModel, default_revision, find_folder, is_hub_id, known_model
from core_encoder.pictures import as_image
from core_encoder.tiling import TileEmbeddings, Tiling, cut_tiles
from jclip_connectors.config import EmbeddingConfig, image_problem
from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.port import FloatArray, ImageSource, IntArray
from jclip_connectors.remote.images import content_of, png_of
from jclip_connectors.store_kit.validation import as_list, check_count

_LOG = logging.getLogger(__package__)
_API_NAMES = {"jinaai/jina-clip-v2": "jina-clip-v2", "jinaai/jina-clip-v1": "jina-clip-v1"}
_WITHOUT_OPTIONS = frozenset({"jina-clip-v1"})  # its schema has neither `dimensions` nor `task`
_UNIT_TOLERANCE = 1e-2  # an endpoint may compute in bfloat16; vectors without unit length differ by more
_ENVELOPE_BYTES = 1024  # for the JSON around the items, with a reserve


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One request.

    Attributes:
        what: texts or images.
        positions: each item's index in the caller's list; the tiles of one image share an index.
        items: each item as JSON.
        head: the other fields of the body, an object without its last brace.
    """

    what: Literal["text", "image"]
    positions: tuple[int, ...]
    items: tuple[bytes, ...]
    head: bytes

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return self.head + b', "input": [' + b",".join(self.items) + b"]}"

    def singles(self) -> "list[Batch]":
        """Each item as a request of its own."""
        return [
            replace(self, positions=(position,), items=(item,))
            for position, item in zip(self.positions, self.items, strict=True)
        ]


Outcome: TypeAlias = tuple[int, FloatArray | EmbedInputError]  # position in the caller's list, and its (E,) row
Sending: TypeAlias = Generator[Batch, FloatArray, list[Outcome]]
Plan: TypeAlias = Callable[[Batch], Sending]


def whole(batch: Batch) -> Sending:
    """Send a batch; an error in one item fails the whole call."""
    rows = yield batch
    return list(zip(batch.positions, rows, strict=True))


def apart(batch: Batch) -> Sending:
    """Send a batch; if the endpoint refuses its items, send each item alone, so that the good ones are kept."""
    try:
        return (yield from whole(batch))
    except EmbedInputError as error:
        if len(batch.items) == 1:
            return [(batch.positions[0], error)]
    _LOG.warning("the endpoint refuses a batch of %d items; each item is now sent alone", len(batch.items))
    outcomes: list[Outcome] = []
    for single in batch.singles():
        outcomes += yield from apart(single)
    return outcomes


class Requests:
    """Batches for one model with one configuration, and the rows in their answers."""

    def __init__(
        self, config: EmbeddingConfig, *, max_items: int, max_request_bytes: int, max_image_bytes: int, truncate: bool
    ) -> None:
        """Check that the endpoint can follow `config`.

        Raises:
            ConfigError: it cannot, or a limit is not a positive integer or is too small for an image.
        """
        check_count(max_items, name="max_items", error=ConfigError)
        check_count(max_request_bytes, name="max_request_bytes", error=ConfigError)
        check_count(max_image_bytes, name="max_image_bytes", error=ConfigError)
        needed = max_image_bytes * 4 // 3 + 2 * _ENVELOPE_BYTES
        if max_request_bytes < needed:
            raise ConfigError(
                f"`max_request_bytes` is {max_request_bytes}, too few for an image of `max_image_bytes` "
                f"{max_image_bytes} in base64: use at least {needed}"
            )
        _check_config(config)
        self.config = config
        self.model = _API_NAMES.get(config.model, config.model)
        known = _known(self.model)
        full = None if known is None else known.embedding_dim
        has_options = self.model not in _WITHOUT_OPTIONS
        dimensions = full if config.dimensions is None else config.dimensions
        if dimensions is None:
            raise ConfigError(
                f"`dimensions` is None, and the model {config.model!r} is not known: give its `dimensions`"
            )
        if config.tiling is not None and known is None:
            raise ConfigError(f"`tiling` needs the image side of {config.model!r}, which is not known: use None")
        self.dimensions = dimensions
        self._width = dimensions if has_options or full is None else full  # of the vectors in an answer
        self._image_size = None if known is None else known.image_size
        self._max_items = max_items
        self._max_bytes = max_request_bytes - _ENVELOPE_BYTES
        self._max_image_bytes = max_image_bytes
        self._fields = {
            "model": self.model,
            "embedding_type": "base64",
            "normalized": config.normalize,
            "truncate": truncate,
            **({"dimensions": config.dimensions} if has_options and config.dimensions is not None else {}),
        }
        self._query_fields = {"task": "retrieval.query"} if has_options else {}

    def texts(self, texts: Iterable[str], *, query: bool = False) -> Iterator[Batch]:
        """Batches of texts; all texts are checked before the first batch is made.

        Raises:
            EmbedInputError: `texts` is not a list, or an item is not a string.
        """
        checked = [self._check_text(text, position) for position, text in enumerate(as_list(texts, name="texts"))]
        # As an object: a bare string that looks like a data URI would be read as an image.
        items = ((position, json.dumps({"text": text}).encode()) for position, text in enumerate(checked))
        return self._pack(items, what="text", fields=self._query_fields if query else {})

    def images(self, images: Iterable[ImageSource], *, failed: dict[int, EmbedInputError]) -> Iterator[Batch]:
        """Batches of whole images, each read when its batch is made.

        Args:
            images: paths, bytes, data URIs, Pillow images or arrays.
            failed: gets the error of each unreadable image, by position.

        Raises:
            EmbedInputError: `images` is not a list.
        """
        return self._pack(self._each(as_list(images, name="images"), self._whole, failed), what="image", fields={})

    def tiles(
        self, images: Iterable[ImageSource], *, failed: dict[int, EmbedInputError], boxes: dict[int, IntArray]
    ) -> Iterator[Batch]:
        """Batches of tiles, those of an image in order, the whole image first.

        Args:
            images: as for `images`.
            failed: as for `images`.
            boxes: gets the (T, 4) boxes of each image, by position.

        Raises:
            EmbedInputError: `images` is not a list, or the configuration has no tiling.
        """
        tiling, size = self.config.tiling, self._image_size
        if tiling is None or size is None:
            raise EmbedInputError("`embed_image_tiles` needs a configuration with `tiling`")

        def cut(image: ImageSource, position: int) -> list[bytes]:
            pictures, boxes[position] = self._cut(image, size, tiling)
            return pictures

        return self._pack(self._each(as_list(images, name="images"), cut, failed), what="image", fields={})

    def rows(self, answer: bytes, batch: Batch) -> FloatArray:
        """The vectors in an answer, in the order of the batch: (B, E).

        Raises:
            StoreRequestError: the answer does not match the schema, names another model, does not have one vector for
                each item, or has invalid numbers.
        """
        rows = np.stack(self._vectors(answer, len(batch.items)))  # (B, width)
        if not np.isfinite(rows).all():
            raise _unusable("a vector has values that are not finite")
        if self.config.normalize:
            norms = np.linalg.norm(rows, axis=1)  # (B,)
            if np.abs(norms - 1).max() > _UNIT_TOLERANCE:
                raise _unusable("a vector does not have the requested unit length")
        if self._width > self.dimensions:
            rows = truncate(rows, self.dimensions)
            return normalize(rows) if self.config.normalize else rows
        return rows

    def _vectors(self, answer: bytes, count: int) -> list[FloatArray]:
        try:
            body = json.loads(answer)
            model, data = body["model"], {entry["index"]: entry["embedding"] for entry in body["data"]}
            given = len(body["data"])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise _unusable("it is not an object with `model` and `data` of `index` and `embedding`") from error
        if not isinstance(model, str) or model.rpartition("/")[2] != self.model.rpartition("/")[2]:
            raise _unusable(f"it does not come from the model {self.model!r}")
        if given != count or any(index not in data for index in range(count)):
            raise _unusable(f"{given} vectors came back for {count} items, or their numbers are not 0..{count - 1}")
        return [_vector(data[index], self._width) for index in range(count)]

    def _pack(
        self, items: Iterator[tuple[int, bytes]], *, what: Literal["text", "image"], fields: dict[str, str]
    ) -> Iterator[Batch]:
        head = json.dumps(self._fields | fields).encode()[:-1]
        taken: list[tuple[int, bytes]] = []
        num_bytes = 0

        def batch() -> Batch:
            positions, contents = zip(*taken, strict=True)
            return Batch(what=what, positions=positions, items=contents, head=head)

        for position, item in items:
            if taken and (len(taken) == self._max_items or num_bytes + len(item) >= self._max_bytes):
                yield batch()
                taken, num_bytes = [], 0
            taken.append((position, item))
            num_bytes += len(item) + 1  # and a comma
        if taken:
            yield batch()

    def _check_text(self, text: object, position: int) -> str:
        if not isinstance(text, str):
            raise EmbedInputError(f"text {position} is {type(text).__name__}, not a string")
        try:
            num_bytes = len(text.encode())
        except UnicodeEncodeError as error:
            # Not chained: the error holds the text.
            message = f"text {position} has a lone surrogate at position {error.start}: it is not Unicode text"
            raise EmbedInputError(message) from None
        if num_bytes * 6 > self._max_bytes and len(json.dumps(text)) + 16 > self._max_bytes:  # at most \uXXXX a byte
            raise EmbedInputError(f"text {position} has {num_bytes} bytes, over `max_request_bytes`: shorten it")
        return text

    def _each(
        self,
        images: Sequence[ImageSource],
        prepare: Callable[[ImageSource, int], list[bytes]],
        failed: dict[int, EmbedInputError],
    ) -> Iterator[tuple[int, bytes]]:
        for position, image in enumerate(images):
            try:
                contents = prepare(image, position)
                self._check_sizes(contents)
            except ImageDecodeError as error:
                failed[position] = EmbedInputError("the image" + image_problem(error).removeprefix("item 0"))
            except OSError as error:  # the file changed after it had been read once
                failed[position] = EmbedInputError(f"the image cannot be read: {error.strerror}")
            else:
                for content in contents:
                    yield position, b'{"image": "' + base64.b64encode(content) + b'"}'

    def _whole(self, source: ImageSource, _: int) -> list[bytes]:
        return [content_of(source, self._load(source).image)]

    def _cut(self, source: ImageSource, size: int, tiling: Tiling) -> tuple[list[bytes], IntArray]:
        loaded = self._load(source)
        (_, *tiles), boxes = cut_tiles(loaded.image, size=size, tiling=tiling)
        return [content_of(source, loaded.image), *(png_of(as_image(tile)) for tile in tiles)], loaded.full_boxes(boxes)

    def _load(self, source: ImageSource) -> LoadedImage:
        return read_image(source, index=0, rendering=self.config.rendering, limits=self.config.image_limits)

    def _check_sizes(self, contents: Iterable[bytes]) -> None:
        for content in contents:
            if len(content) > self._max_image_bytes:
                raise ImageDecodeError(
                    f"item 0 has {len(content)} bytes as it would be sent, over `max_image_bytes` "
                    f"{self._max_image_bytes}; scale it down first"
                )


def gather_rows(outcomes: Iterable[Outcome], failed: Mapping[int, EmbedInputError], *, dimensions: int) -> FloatArray:
    """(B, E), one row per item.

    Raises:
        PartialFailureError: some items failed.
    """
    rows = {at: parts[0] for at, parts in _by_position(outcomes, failed).items()}
    return np.stack(list(rows.values())) if rows else np.empty((0, dimensions), np.float32)


def gather_tiles(
    outcomes: Iterable[Outcome], failed: Mapping[int, EmbedInputError], boxes: Mapping[int, IntArray]
) -> list[TileEmbeddings]:
    """One `TileEmbeddings` per image.

    Raises:
        PartialFailureError: some images failed.
    """
    return list(_by_position(outcomes, failed, lambda at, parts: TileEmbeddings(np.stack(parts), boxes[at])).values())


def _by_position(
    outcomes: Iterable[Outcome],
    failed: Mapping[int, EmbedInputError],
    finish: Callable[[int, list[FloatArray]], Any] | None = None,
) -> dict[int, Any]:
    """The result of each item, in the caller's order; an item fails with the first error of its parts."""
    parts: dict[int, list[FloatArray]] = {}
    errors = dict(failed)
    for position, outcome in outcomes:
        if isinstance(outcome, EmbedInputError):
            errors.setdefault(position, outcome)
        else:
            parts.setdefault(position, []).append(outcome)
    good = {at: rows for at, rows in sorted(parts.items()) if at not in errors}
    if errors:
        kept = {at: rows[0] if finish is None else finish(at, rows) for at, rows in good.items()}
        raise PartialFailureError("images", failed=dict(sorted(errors.items())), kept=kept)
    return good if finish is None else {at: finish(at, rows) for at, rows in good.items()}


def _check_config(config: EmbeddingConfig) -> None:
    """Refuse options that are part of the fingerprint but cannot be sent to the endpoint."""
    for name, given, default in (
        ("max_tokens", config.max_tokens, None),
        ("resize_mode", config.resize_mode, None),
        ("resampling", config.resampling, "exact"),
        ("precision", config.precision, "auto"),
    ):
        if given != default:
            raise ConfigError(f"`{name}` is {given!r}, but it cannot be sent to an endpoint: leave it {default!r}")
    if config.model != "nano" and find_folder(config.model) is not None:
        raise ConfigError(f"`model` is the folder {config.model!r}: give the endpoint's name for its model")
    pinned = default_revision(config.model)
    if pinned is not None and config.revision not in (None, pinned):
        raise ConfigError(f"`revision` is {config.revision!r}, but it cannot be sent to an endpoint: leave it None")
    if config.model != "nano" and not is_hub_id(config.model) and config.revision is None:
        raise ConfigError(
            f"`revision` is None, and the name {config.model!r} alone does not identify the weights: give a `revision` "
            "that names the endpoint, or give the model's hub id"
        )
    config.fingerprint()


def _known(model: str) -> KnownModel | None:
    hub_ids = {name: hub_id for hub_id, name in _API_NAMES.items()}
    return known_model(hub_ids.get(model, model))


def _vector(text: object, width: int) -> FloatArray:
    if not isinstance(text, str):
        raise _unusable("a vector is not base64, the requested encoding")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unusable("a vector is not base64") from error
    if len(data) != 4 * width:
        raise _unusable(f"a vector has {len(data)} bytes, not the {4 * width} of {width} dimensions")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)  # (width,)


def _unusable(found: str) -> StoreRequestError:
    return StoreRequestError(f"the endpoint's answer cannot be used: {found}")
