"""Conversion between Haystack's documents and our records.

A document whose `embedding_source` in the metadata has the type "image", as embedders of images write it, is an image:
its `uri` is the path that the metadata names. Every other document is a text.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from haystack import Document

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.haystack.embedding import PATH_FIELD, SOURCE
from jclip_connectors.haystack.hidden import OWN, PREFIX, UNEMBEDDED, with_twins, without_hidden
from jclip_connectors.port import FloatArray, Record, SearchHit
from jclip_connectors.store_kit.json_values import as_metadata
from jclip_connectors.store_kit.validation import check_id

BOX = "box"  # the key in the metadata of a result: its nearest tile
_FILE_PATH = "file_path"  # Haystack's own name
_NORM, _NO_CONTENT, _ZERO = "norm", "no_content", "zero"  # in the object `OWN`
_UNIT = 1e-6  # a vector whose length differs less from 1 is taken as one of unit length


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How documents become records of one collection.

    Attributes:
        dimensions: the length of the vectors, or `None` if it is not known.
        allow_unembedded: whether documents without a vector are stored too.
        drop_blobs: whether documents are stored without their bytes; else such documents are refused.
    """

    dimensions: int | None
    allow_unembedded: bool
    drop_blobs: bool

    def to_record(self, document: object, *, position: int) -> Record:
        """Make the record of a document.

        Raises:
            EmbedInputError: not a document, or one that cannot be kept as it is.
        """
        if not isinstance(document, Document):
            raise EmbedInputError(f"document {position} is {type(document).__name__}, not a Document")
        check_id(document.id, name=f"the id of document {position}")
        name = f"document {position} ({document.id!r})"
        if document.sparse_embedding is not None:
            raise EmbedInputError(f"{name} has a `sparse_embedding`, which the stores do not keep: remove it")
        if document.blob is not None and not self.drop_blobs:
            raise EmbedInputError(
                f"{name} has a `blob`, and a collection keeps no bytes of images: give the document store "
                "`drop_blobs=True` to write it without them"
            )
        metadata = checked_metadata(document.meta, name=f"`meta` of {name}")
        own: dict[str, Any] = {}
        embedding = self._vector(document.embedding, own, name=name)
        is_image = _source(metadata).get("type") == "image"
        if document.content is None and not is_image:
            own[_NO_CONTENT] = True
        marks: dict[str, Any] = {} if document.embedding is not None and _ZERO not in own else {UNEMBEDDED: True}
        return Record(
            record_id=document.id,
            modality="image" if is_image else "text",
            embedding=embedding,
            content=document.content if is_image or document.content is not None else "",
            uri=uri_of(metadata) if is_image else None,
            metadata={**with_twins(metadata), **marks, **({OWN: own} if own else {})},
        )

    def _vector(self, given: object, own: dict[str, Any], *, name: str) -> FloatArray:
        """The vector of a record; `own` takes what it loses."""
        try:
            vector = np.empty(0) if given is None else np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EmbedInputError(f"`embedding` of {name} is not a list of numbers") from error
        if vector.any():
            length = float(np.linalg.norm(vector))
            if math.isfinite(length) and abs(length - 1) > _UNIT:
                own[_NORM] = length
            return vector.astype(np.float32)
        if not self.allow_unembedded:
            found = "no `embedding`" if given is None else "an `embedding` without a direction"
            raise EmbedInputError(
                f"{name} has {found}: embed it first, or give the document store `allow_unembedded=True`"
            )
        if vector.size:
            own[_ZERO] = True
        length_of = self.dimensions if self.dimensions is not None else vector.size
        if not length_of:
            raise EmbedInputError(
                f"{name} has no `embedding`, and the length of the vectors is not known: give `dimensions` in the "
                "configuration of the store"
            )
        return np.asarray(np.eye(1, length_of, dtype=np.float32)[0])  # no search finds it


def checked_metadata(metadata: object, *, name: str) -> dict[str, Any]:
    """Metadata as JSON, without reserved keys.

    Raises:
        EmbedInputError: not a mapping, a value that JSON cannot hold, or a reserved key.
    """
    own = as_metadata(metadata, name=name)
    if taken := [key for key in own if key.startswith(PREFIX)]:
        raise EmbedInputError(f"{name} has the key {taken[0]!r}: keys that begin with {PREFIX!r} are reserved")
    return own


def updated(record: Record, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record whose metadata changes."""
    metadata = {**without_hidden(record.metadata), **changes}
    kept = {key: record.metadata[key] for key in (OWN, UNEMBEDDED) if key in record.metadata}
    named = uri_of(metadata) if record.modality == "image" else None
    return {"metadata": {**with_twins(metadata), **kept}, "uri": record.uri if named is None else named}


def uri_of(metadata: Mapping[str, Any]) -> str | None:
    """The path that the metadata of an image names."""
    named = metadata.get(str(_source(metadata).get(PATH_FIELD, _FILE_PATH)))
    return named if isinstance(named, str) else None


def to_document(found: Record | SearchHit, *, score: float | None = None) -> Document:
    """Make the document of a record, or of a result with its score.

    A record of another program comes as an embedder of documents would have made it.
    """
    own = found.metadata.get(OWN, {})
    meta = without_hidden(found.metadata)
    if found.modality == "image" and SOURCE not in meta:
        uri = {} if found.uri is None else {_FILE_PATH: found.uri}
        meta = {**uri, SOURCE: {"type": "image", PATH_FIELD: _FILE_PATH}, **meta}
    embedding = None
    if isinstance(found, Record):
        embedding = _embedding(found, own)
    elif found.box is not None:
        meta[BOX] = list(found.box)
    content = None if _NO_CONTENT in own else found.content
    return Document(id=found.record_id, content=content, meta=meta, embedding=embedding, score=score)


def _embedding(record: Record, own: Mapping[str, Any]) -> list[float] | None:
    if UNEMBEDDED in record.metadata:
        return [0.0] * record.embedding.size if _ZERO in own else None
    values: list[float] = (record.embedding.astype(np.float64) * own.get(_NORM, 1.0)).tolist()
    return values


def _source(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    source = metadata.get(SOURCE)
    return source if isinstance(source, Mapping) else {}
