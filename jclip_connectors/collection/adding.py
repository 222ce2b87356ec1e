"""Adding items to a collection in batches: describe, look up, embed what is new, and write.

Each batch is a flow (see `store_kit.flows`), so blocking and asyncio collections share the code. Its calls are made on
a host (see `hosts`): on its `store`, and `embed(sources)`, which returns one row or one `TileEmbeddings` per source.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.errors import ConnectorError, EmbedInputError, PartialFailureError, StoreUnavailableError
from jclip_connectors.port import Record
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.json_values import as_metadata
from jclip_connectors.store_kit.validation import check_id

Describe: TypeAlias = Callable[[Any], dict[str, Any]]  # a source -> the fields of its record, without the vectors
Progress: TypeAlias = Callable[[int, int], None]  # (done, total) items


@dataclass(frozen=True, kw_only=True)
class AddReport:
    """The result of one `add_texts` or `add_images`.

    Attributes:
        ids: the ids of the items that the collection now contains, in order.
        failed: the error of each item that could not be read, by position; nothing was written for it.
        embedded: the number of items that were embedded; the collection already had the vectors of the rest.
    """

    ids: tuple[str, ...]
    failed: Mapping[int, Exception]
    embedded: int


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An item before it is embedded.

    Attributes:
        source: the text or image to embed.
        fields: the fields of its record, without the vectors.
        has_own_id: whether the caller gave the id, which is then never changed.
    """

    source: Any
    fields: dict[str, Any]
    has_own_id: bool = False

    @property
    def record_id(self) -> str:
        """The id of its record."""
        return str(self.fields["record_id"])

    @property
    def place(self) -> str | None:
        """The absolute path of its file, or `None`."""
        return _place(self.fields["uri"])

    @property
    def id_of_place(self) -> str | None:
        """The id of its record if another file has the same content; `None` if its id cannot be changed."""
        if self.has_own_id or self.place is None:
            return None
        return f"{self.record_id}-{hashlib.sha256(os.fsencode(self.place)).hexdigest()[:16]}"

    def same_content(self, stored: Record | None) -> bool:
        """Whether the stored vectors were made from this source."""
        return stored is not None and all(
            getattr(stored, name) == self.fields[name] for name in ("modality", "content_hash")
        )

    def same_fields(self, stored: Record) -> bool:
        """Whether all fields except the vectors are already stored."""
        return all(getattr(stored, name) == value for name, value in self.fields.items())


class Adding:
    """One call of `add_texts` or `add_images`, with the result of each item so far, by position."""

    def __init__(
        self,
        sources: Sequence[Any],
        given: Sequence[Mapping[str, Any]],
        *,
        describe: Describe,
        reuse: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Keep the items and options; nothing is done yet.

        Args:
            sources: the items.
            given: for each item the fields that the caller gives; they override the fields of `describe`.
            describe: makes the fields of an item; its `EmbedInputError` is the error of this item.
            reuse: keep the stored vectors of an item with unchanged content; only if the same model made them.
            progress: called with (done, total) before the first batch and after every batch.
        """
        self._progress = progress
        self._done = 0
        self._sources = sources
        self._given = given
        self._describe = describe
        self._reuse = reuse
        self.kept: dict[int, str] = {}  # ids
        self.failed: dict[int, Exception] = {}
        self._embedded = 0
        self._refusal: PartialFailureError | None = None

    def batches(self, size: int) -> Iterator[range]:
        """The positions of each batch."""
        for start in range(0, len(self._sources), size):
            yield range(start, min(start + size, len(self._sources)))

    def advance(self, count: int) -> None:
        """Report that a batch of so many items is done."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done, len(self._sources))

    def describe(self, positions: range) -> dict[int, Draft]:
        """Describe the items of a batch, reading and hashing files; items that cannot be read are left out."""
        drafts: dict[int, Draft] = {}
        for position in positions:
            try:
                fields = {**self._describe(self._sources[position]), **self._given[position]}
            except EmbedInputError as error:
                self.failed[position] = error
            else:
                own_id = "record_id" in self._given[position]
                drafts[position] = Draft(source=self._sources[position], fields=fields, has_own_id=own_id)
        return drafts

    def write(self, drafts: Mapping[int, Draft]) -> Flow[None]:
        """Embed new items and write changed records.

        Raises:
            ConnectorError: the store or the embedder failed, and further batches would fail too; `failure` turns it
                into the error for the caller.
        """
        stored: dict[str, Record] = {}  # without vectors, where these are not written again
        others = [draft.id_of_place for draft in drafts.values() if draft.id_of_place is not None]
        if self._reuse or others:
            ids = [*(draft.record_id for draft in drafts.values()), *others]
            found = yield lambda host: host.store.get(list(dict.fromkeys(ids)), vectors=False)
            stored = {record.record_id: record for record in found}
        drafts = _apart(drafts, stored)
        if not self._reuse:
            stored = {}
        if kept := _ids_of_kept_vectors(drafts.values(), stored):
            found = yield lambda host: host.store.get(kept)
            for record_id in kept:
                del stored[record_id]  # a record that was deleted since the first read is embedded
            stored |= {record.record_id: record for record in found}
        new = [at for at, draft in drafts.items() if not draft.same_content(stored.get(draft.record_id))]
        vectors = (yield from self._embed(new, drafts)) if new else {}
        readable = {at: draft for at, draft in drafts.items() if at not in self.failed}
        records = _records(readable, vectors, stored)
        try:
            yield lambda host: host.store.upsert(records)
        except PartialFailureError as error:
            self._note(readable, {records[at].record_id: reason for at, reason in error.failed.items()})
            if any(isinstance(reason, StoreUnavailableError) for reason in error.failed.values()):
                raise
            self._refusal = error  # other batches may still succeed
        except ConnectorError as error:
            self._note(readable, {record.record_id: error for record in records})
            raise
        else:
            self._note(readable, {})

    def report(self, *, what: str) -> AddReport:
        """The result, after every batch was tried.

        Raises:
            PartialFailureError: the store refused some items.
        """
        if self._refusal is not None:
            raise self.failure(self._refusal, what=what) from self._refusal
        return AddReport(
            ids=tuple(self.kept[at] for at in sorted(self.kept)),
            failed=dict(sorted(self.failed.items())),
            embedded=self._embedded,
        )

    def failure(self, error: Exception, *, what: str) -> Exception:
        """The error of the whole call, after a batch failed with `error` and the rest was not tried.

        Written items are not rolled back, so the error lists every written item and every item that is not written.
        """
        if not self.kept and not isinstance(error, PartialFailureError):
            return error
        rest = [at for at in range(len(self._sources)) if at not in self.kept and at not in self.failed]
        failed = self.failed | dict.fromkeys(rest, error)
        return PartialFailureError(what, failed=dict(sorted(failed.items())), kept=dict(sorted(self.kept.items())))

    def _note(self, drafts: Mapping[int, Draft], refused: Mapping[str, Exception]) -> None:
        """Record the result of each item of a batch; `refused` has the error of each refused record, by id."""
        for at, draft in drafts.items():
            if draft.record_id in refused:
                self.failed[at] = refused[draft.record_id]
            else:
                self.kept[at] = draft.record_id

    def _embed(self, new: Sequence[int], drafts: Mapping[int, Draft]) -> Flow[dict[int, dict[str, Any]]]:
        """Embed the new items; returns the vector fields of each record, by position."""
        found: Mapping[int, Any]
        try:
            found = dict(enumerate((yield lambda host: host.embed([drafts[at].source for at in new]))))
        except PartialFailureError as error:
            found = error.kept
            self.failed |= {new[index]: reason for index, reason in error.failed.items()}
        self._embedded += len(found)
        return {new[index]: vector_fields(vectors) for index, vectors in found.items()}


def check_texts(texts: object) -> None:
    """Check the `texts` of a call.

    Raises:
        EmbedInputError: not a list of strings.
    """
    if isinstance(texts, str):
        raise EmbedInputError(f"`texts` is the string {texts[:50]!r}; write a list, [text]")
    _check_list(texts, "texts")
    for position, text in enumerate(texts):  # type: ignore[arg-type, var-annotated]  # it has a length and an order
        if not isinstance(text, str):
            raise EmbedInputError(f"`texts`[{position}] is {type(text).__name__}, not a string")


def check_images(images: object) -> None:
    """Check the `images` of a call; each image is checked when it is read.

    Raises:
        EmbedInputError: not a list.
    """
    single = isinstance(images, str | bytes | os.PathLike | Image.Image)
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        raise EmbedInputError(f"`images` is one {type(images).__name__}; write a list, [image]")
    _check_list(images, "images")


def check_given(
    count: int,
    metadatas: Sequence[Mapping[str, Any]] | None,
    ids: Sequence[str] | None,
    captions: Sequence[str | None] | None = None,
) -> list[dict[str, Any]]:
    """Check the metadata, ids and captions of a call.

    Returns:
        For each item the fields of its record.

    Raises:
        EmbedInputError: their number differs from the number of items, metadata is not JSON, an id is invalid, or a
            caption is no string.
    """
    for name, values in (("metadatas", metadatas), ("ids", ids), ("captions", captions)):
        if isinstance(values, str | Mapping):
            raise EmbedInputError(f"`{name}` is one {type(values).__name__}; write a list, one for each item")
        if values is None:
            continue
        _check_list(values, name)
        if len(values) != count:
            raise EmbedInputError(f"`{name}` has {len(values)} entries for {count} items: give one for each")
    given: list[dict[str, Any]] = [{"metadata": {}} for _ in range(count)]
    for position, metadata in enumerate(metadatas if metadatas is not None else ()):
        given[position]["metadata"] = as_metadata(metadata, name=f"`metadatas`[{position}]")
    for position, record_id in enumerate(ids if ids is not None else ()):
        check_id(record_id, name=f"`ids`[{position}]")
        given[position]["record_id"] = record_id
    for position, caption in enumerate(captions if captions is not None else ()):
        if caption is not None and not isinstance(caption, str):
            raise EmbedInputError(f"`captions`[{position}] is {type(caption).__name__}, not a string or None")
        given[position]["content"] = caption
    return given


def _check_list(items: object, name: str) -> None:
    """Refuse arguments without a length or an order: generators, sets, mappings."""
    if isinstance(items, Mapping) or not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        raise EmbedInputError(f"`{name}` is {type(items).__name__}; write a list, list(...) of a generator or a set")


def _apart(drafts: Mapping[int, Draft], stored: Mapping[str, Record]) -> dict[int, Draft]:
    """Give files of equal content records of their own: the first has the id of the content, others of their place.

    A file that was moved keeps its record: nothing is at the former place.
    """
    places = {record_id: _place(record.uri) for record_id, record in stored.items()}
    apart: dict[int, Draft] = {}
    for position, draft in drafts.items():
        other, holder = draft.id_of_place, places.get(draft.record_id)
        is_taken = holder not in (None, draft.place) and os.path.lexists(str(holder))
        if other is not None and (other in places or is_taken):
            places[other] = draft.place
            draft = dataclasses.replace(draft, fields={**draft.fields, "record_id": other}, has_own_id=True)
        elif other is not None:
            places[draft.record_id] = draft.place
        apart[position] = draft
    return apart


def _ids_of_kept_vectors(drafts: Collection[Draft], stored: Mapping[str, Record]) -> list[str]:
    """The ids of the records that are written again with their stored vectors, because only other fields changed."""
    same = {draft.record_id for draft in drafts if draft.same_content(stored.get(draft.record_id))}
    # One id can come several times: the stored record is then written again after a draft with other content.
    changed = {
        draft.record_id
        for draft in drafts
        if draft.record_id in stored and not draft.same_fields(stored[draft.record_id])
    }
    return sorted(same & changed)


def _place(uri: str | None) -> str | None:
    return None if uri is None else os.path.abspath(uri)  # noqa: PTH100 (a link keeps its own name)


def vector_fields(found: Any) -> dict[str, Any]:  # noqa: ANN401 (a row of any kind, or tiles)
    """The fields of a record for what an embedder has made of one item."""
    if not isinstance(found, TileEmbeddings):
        return {"embedding": found}
    # The first tile is the whole image: its vector equals the vector of the image without tiling.
    return {"embedding": found.vectors[0], "tile_embeddings": found.vectors, "tile_boxes": found.boxes}


def _records(
    drafts: Mapping[int, Draft], vectors: Mapping[int, dict[str, Any]], stored: Mapping[str, Record]
) -> list[Record]:
    """The records to write: records with new vectors, and stored records with another changed field."""
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
