"""MultimodalCollection: an embedder and a store together; what every front door calls."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.errors import ConnectorError, EmbedInputError, PartialFailureError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import (
    MODALITIES,
    Embedder,
    Filter,
    FloatArray,
    ImageSource,
    Modality,
    Record,
    SearchHit,
    VectorStore,
)
from jclip_connectors.store_kit.validation import (
    check_count,
    check_fingerprint,
    check_id,
    check_metadata,
    check_modality,
)

_RRF_K = 60  # Source: Cormack, Clarke and Buettcher 2009, reciprocal rank fusion


@dataclass(frozen=True, kw_only=True)
class AddReport:
    """What became of the items of one `add_texts` or `add_images`.

    Attributes:
        ids: of the items that the collection now holds, in their order.
        failed: position of each item that could not be read, and why; nothing was written for it.
        embedded: how many items had to be embedded; the collection had the vectors of the others already.
    """

    ids: tuple[str, ...]
    failed: Mapping[int, Exception]
    embedded: int


_Vectors: TypeAlias = dict[int, dict[str, Any]]  # position -> the fields of a record that hold its vectors
_Failures: TypeAlias = dict[int, Exception]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """An item on its way in: what its vectors are made of, and the fields of its record but the vectors."""

    source: Any
    fields: dict[str, Any]

    @property
    def record_id(self) -> str:
        return str(self.fields["record_id"])

    def same_content(self, stored: Record | None) -> bool:
        return stored is not None and all(
            getattr(stored, name) == self.fields[name] for name in ("modality", "content_hash")
        )

    def same_fields(self, stored: Record) -> bool:
        return all(getattr(stored, name) == value for name, value in self.fields.items())


class MultimodalCollection:
    """Texts and images in one store, found by text or by image."""

    def __init__(self, embedder: Embedder, store: VectorStore, *, batch_size: int = 64) -> None:
        """Put an embedder and a store together.

        Args:
            embedder: makes the vectors.
            store: keeps them; closing it stays with the caller.
            batch_size: how many items are embedded and written at a time.

        Raises:
            CollectionMismatchError: the store's vectors were made with another configuration.
            EmbedInputError: `batch_size` is less than 1.
        """
        check_fingerprint(store.fingerprint, embedder.config.fingerprint(), collection="the collection")
        if batch_size < 1:
            raise EmbedInputError(f"`batch_size` is {batch_size!r}; use at least 1")
        self._embedder = embedder
        self._store = store
        self._batch_size = batch_size

    def add_texts(
        self,
        texts: Sequence[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> AddReport:
        """Add texts, each in place of the record with its id.

        Args:
            texts: the texts.
            metadatas: a JSON object for each; `None` gives all an empty one.
            ids: an id for each; `None` makes them of the texts, so that adding a text again changes nothing.

        Raises:
            EmbedInputError: an item that is no text, metadata that is not JSON, or another number of `metadatas` or
                `ids`; nothing has been written then.
            PartialFailureError: the store failed after it had taken some; `kept` has the ids of what is written, and
                `failed` the reason for every other item, by position.
        """
        if isinstance(texts, str):
            raise EmbedInputError(f"`texts` is the string {texts[:50]!r}; write a list, [text]")
        _check_list(texts, "texts")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise EmbedInputError(f"`texts`[{position}] is {type(text).__name__}, not a string")
        return self._add(texts, metadatas, ids, describe=describe_text, embed=self._embed_texts)

    def add_images(
        self,
        images: Sequence[ImageSource],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> AddReport:
        """Add images, each in place of the record with its id; those that cannot be read are reported and left out.

        Args:
            images: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays. A path is kept as the
                record's `uri`; the image itself is not kept.
            metadatas: a JSON object for each; `None` gives all an empty one.
            ids: an id for each; `None` makes them of the files' bytes, so that adding a file again changes nothing.

        Raises:
            EmbedInputError: metadata that is not JSON, or another number of `metadatas` or `ids`; nothing has been
                written then.
            PartialFailureError: as for `add_texts`.
        """
        given: object = images  # whatever the caller has
        single = isinstance(given, str | bytes | os.PathLike | Image.Image)
        if single or (isinstance(given, np.ndarray) and given.ndim < 4):
            raise EmbedInputError(f"`images` is one {type(images).__name__}; write a list, [image]")
        _check_list(images, "images")
        return self._add(images, metadatas, ids, describe=describe_image, embed=self._embed_images)

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
    ) -> list[SearchHit]:
        """Find what is nearest to a text or an image.

        Cosines of texts and of images are on different scales. Where both are found they are ranked apart and fused by
        reciprocal rank, which is then the `score`; where only one is found, or asked for, `score` is the cosine.

        Args:
            text: what to look for; or
            image: an image to look for.
            limit: at most this many results.
            where: a filter on metadata, like `{"year": {"gte": 2020}}`; see `jclip_connectors.filters`.
            modality: "image" or "text" to find only these.

        Returns:
            The results, nearest first; with tiling each image has the `box` of its nearest tile.

        Raises:
            EmbedInputError: not one of `text` and `image`, or an argument that cannot be used.
        """
        check_count(limit, name="limit")
        check_modality(modality)
        query = self._embed_query(text, image)
        tiles = self._embedder.config.tiling is not None
        ranked = [
            self._store.search(query, limit=limit, where=where, modality=wanted, tiles=tiles)
            for wanted in (MODALITIES if modality is None else (modality,))
        ]
        return fuse_by_rank(ranked)[:limit]

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""
        return self._store.get(ids)

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two; an id that is not there is no error."""
        self._store.delete(ids, where=where)

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""
        return self._store.count(where=where, modality=modality)

    def _add(
        self,
        sources: Sequence[Any],
        metadatas: Sequence[Mapping[str, Any]] | None,
        ids: Sequence[str] | None,
        *,
        describe: Callable[[Any], dict[str, Any]],
        embed: Callable[[list[Any]], tuple[_Vectors, _Failures]],
    ) -> AddReport:
        given = _check_given(len(sources), metadatas, ids)
        kept: dict[int, str] = {}  # by position
        failed: _Failures = {}
        embedded = 0
        for start in range(0, len(sources), self._batch_size):
            drafts: dict[int, _Draft] = {}
            for position in range(start, min(start + self._batch_size, len(sources))):
                try:
                    fields = {**describe(sources[position]), **given[position]}
                except EmbedInputError as error:
                    failed[position] = error
                else:
                    drafts[position] = _Draft(source=sources[position], fields=fields)
            stored = {record.record_id: record for record in self._store.get([d.record_id for d in drafts.values()])}
            new = [at for at, draft in drafts.items() if not draft.same_content(stored.get(draft.record_id))]
            vectors, unreadable = embed([drafts[at].source for at in new]) if new else ({}, {})
            failed.update({new[index]: error for index, error in unreadable.items()})
            embedded += len(vectors)
            readable = {at: draft for at, draft in drafts.items() if at not in failed}
            records = _records(readable, {new[index]: row for index, row in vectors.items()}, stored)
            try:
                self._store.upsert(records)
            except ConnectorError as error:
                refused = _refused(error, records)
                kept |= {at: draft.record_id for at, draft in readable.items() if draft.record_id not in refused}
                if not kept and not isinstance(error, PartialFailureError):
                    raise
                # What is written stays written: the caller must hear of it, and of all that is not.
                failed |= {at: refused[d.record_id] for at, d in readable.items() if d.record_id in refused}
                failed |= dict.fromkeys(range(start + self._batch_size, len(sources)), error)
                raise PartialFailureError("items", failed=dict(sorted(failed.items())), kept=kept) from error
            kept |= {at: draft.record_id for at, draft in readable.items()}
        return AddReport(ids=tuple(kept.values()), failed=dict(sorted(failed.items())), embedded=embedded)

    def _embed_texts(self, texts: list[str]) -> tuple[_Vectors, _Failures]:
        return {index: {"embedding": row} for index, row in enumerate(self._embedder.embed_texts(texts))}, {}

    def _embed_images(self, images: list[ImageSource]) -> tuple[_Vectors, _Failures]:
        tiled = self._embedder.config.tiling is not None
        kept: Mapping[int, Any]
        failed: _Failures = {}
        try:
            kept = dict(enumerate((self._embedder.embed_image_tiles if tiled else self._embedder.embed_images)(images)))
        except PartialFailureError as error:
            kept, failed = error.kept, error.failed
        return {index: _tile_fields(found) if tiled else {"embedding": found} for index, found in kept.items()}, failed

    def _embed_query(self, text: str | None, image: ImageSource | None) -> FloatArray:
        if (text is None) == (image is None):
            raise EmbedInputError("give one of `text` and `image` to search for")
        if image is None:
            if not isinstance(text, str):
                raise EmbedInputError(f"`text` is {type(text).__name__}, not a string; write image=... for an image")
            return self._embedder.embed_query(text)
        try:
            rows = self._embedder.embed_images([image])  # (1, E)
        except PartialFailureError as error:
            raise EmbedInputError(f"`image` cannot be searched for: {error.failed[0]}") from error
        return np.asarray(rows[0])


def _records(drafts: Mapping[int, _Draft], vectors: _Vectors, stored: Mapping[str, Record]) -> list[Record]:
    """The records to write: those with new vectors, and those stored of which another field has changed."""
    records: dict[str, Record] = {}
    for position, draft in drafts.items():
        if position in vectors:
            record = Record(**draft.fields, **vectors[position])
        else:
            record = stored[draft.record_id]
            if draft.same_fields(record) and draft.record_id not in records:
                continue
            record = dataclasses.replace(record, **draft.fields)
        records[draft.record_id] = record
    return list(records.values())


def _check_list(items: object, name: str) -> None:
    """Refuse what has no length or no order: a generator, a set, a mapping."""
    if isinstance(items, Mapping) or not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        raise EmbedInputError(f"`{name}` is {type(items).__name__}; write a list, list(...) of a generator or a set")


def _refused(error: ConnectorError, records: Sequence[Record]) -> dict[str, Exception]:
    """Why each record that is not written is not, by its id."""
    if isinstance(error, PartialFailureError):
        return {records[at].record_id: reason for at, reason in error.failed.items()}
    return {record.record_id: error for record in records}


def _check_given(
    count: int, metadatas: Sequence[Mapping[str, Any]] | None, ids: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The fields of each record that the caller gives."""
    for name, values in (("metadatas", metadatas), ("ids", ids)):
        if isinstance(values, str | Mapping):
            raise EmbedInputError(f"`{name}` is one {type(values).__name__}; write a list, one for each item")
        if values is None:
            continue
        _check_list(values, name)
        if len(values) != count:
            raise EmbedInputError(f"`{name}` has {len(values)} entries for {count} items: give one for each")
    given: list[dict[str, Any]] = [{"metadata": {}} for _ in range(count)]
    for position, metadata in enumerate(metadatas if metadatas is not None else ()):
        given[position]["metadata"] = check_metadata(metadata, name=f"`metadatas`[{position}]")
    for position, record_id in enumerate(ids if ids is not None else ()):
        check_id(record_id, name=f"`ids`[{position}]")
        given[position]["record_id"] = record_id
    return given


def _tile_fields(tiles: TileEmbeddings) -> dict[str, Any]:
    # The first tile is the whole image: its vector is the one that the image has without tiling.
    return {"embedding": tiles.vectors[0], "tile_embeddings": tiles.vectors, "tile_boxes": tiles.boxes}


def fuse_by_rank(ranked: list[list[SearchHit]]) -> list[SearchHit]:
    """Merge lists whose cosines are not comparable: the score becomes 1 / (60 + rank); a single list stays as it is."""
    found = [hits for hits in ranked if hits]
    if len(found) < 2:
        return found[0] if found else []
    fused = [
        dataclasses.replace(hit, score=1.0 / (_RRF_K + rank))
        for hits in found
        for rank, hit in enumerate(hits, start=1)
    ]
    return sorted(fused, key=lambda hit: -hit.score)  # stable: of one rank, images come first
