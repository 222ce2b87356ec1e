"""Vectors of the items of a batch, and what is wrong with those that have none."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.bulk.items import Item
from jclip_connectors.bulk.vector_rows import VectorRow
from jclip_connectors.collection.adding import vector_fields
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import Embedder, Record
from jclip_connectors.store_kit.blank_text import is_blank
from jclip_connectors.store_kit.json_values import as_metadata
from jclip_connectors.store_kit.validation import check_id

_MOST_TEXT_BYTES = 2**20  # many times a model's limit, and as `jclip index` has it


def embed_items(embedder: Embedder, items: Sequence[Item]) -> list[VectorRow]:
    """Embed items: a row for each, in order; what is wrong with an item is the error of its row."""
    rows: dict[int, VectorRow] = {}
    fields: dict[int, dict[str, Any]] = {}
    for at, item in enumerate(items):
        try:
            fields[at] = _describe(item)
        except EmbedInputError as error:
            rows[at] = failed_row(item, str(error))
    for modality in ("image", "text"):
        chosen = [at for at in fields if items[at].modality == modality]
        found = _embed(embedder, modality, [items[at].source for at in chosen])
        for index, at in enumerate(chosen):
            result = found[index]
            if isinstance(result, Exception):
                rows[at] = failed_row(items[at], str(result))
            else:
                rows[at] = VectorRow(key=items[at].key, record=Record(**fields[at], **vector_fields(result)))
    return [rows[at] for at in range(len(items))]


def _describe(item: Item) -> dict[str, Any]:
    if item.error is not None:
        raise EmbedInputError(item.error)
    if item.source is None or item.source == b"":
        raise EmbedInputError(f"the {item.modality} is missing")
    if item.modality == "text":
        if is_blank(item.source):
            raise EmbedInputError("the text is empty")
        if len(item.source.encode("utf-8", "replace")) > _MOST_TEXT_BYTES:
            raise EmbedInputError(f"the text is larger than {_MOST_TEXT_BYTES} bytes: split it into documents")
        fields = describe_text(item.source)
    else:
        fields = {**describe_image(item.source), "uri": item.uri}
    fields["metadata"] = as_metadata(item.metadata, name="the metadata")
    if item.record_id is not None:
        check_id(item.record_id, name="the key")
        fields["record_id"] = item.record_id
    return fields


def _embed(embedder: Embedder, modality: str, sources: list[Any]) -> dict[int, Any]:
    """What was made of each source, or its error, by position."""
    if not sources:
        return {}
    try:
        if modality == "text":
            found: Any = embedder.embed_texts(sources)
        elif embedder.config.tiling is None:
            found = embedder.embed_images(sources)
        else:
            found = embedder.embed_image_tiles(sources)
    except PartialFailureError as error:
        return {**{at: _finite(result) for at, result in error.kept.items()}, **error.failed}
    except EmbedInputError as error:
        if len(sources) == 1:
            return {0: error}
        return {at: _embed(embedder, modality, [source])[0] for at, source in enumerate(sources)}
    return {at: _finite(result) for at, result in enumerate(found)}


def _finite(result: Any) -> Any:  # noqa: ANN401 (a row, or tiles)
    rows = result.vectors if isinstance(result, TileEmbeddings) else result
    return result if np.isfinite(rows).all() else EmbedInputError("the model made a NaN or an infinity of it")


def failed_row(item: Item, error: str) -> VectorRow:
    """The row of an item that has no vectors."""
    return VectorRow(key=item.key, error=error, modality=item.modality, uri=item.uri)
