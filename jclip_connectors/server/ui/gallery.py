"""A collection as the search page shows it: its fields, and the results of a search as JSON."""

import itertools
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core_encoder.models import KNOWN_MODELS
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.collection.samples import SampleCache
from jclip_connectors.collection.searching import Query, Request, nearest
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import MODALITIES, Filter, FloatArray, Modality, Record, SearchHit, VectorStore
from jclip_connectors.server.requests import RequestError
from jclip_connectors.server.ui.pictures import Pictures

_SAMPLED = 10_000  # records whose metadata is read for the filters
_VALUES = 50  # of a field of texts
_VALUE_CHARS = 200
_HANDLES = 200_000  # of records that were shown, and can be asked for
# What `jclip index` writes and the page does not show as it is: paths are shown as far as they may be, and the others
# are for the next indexing.
_OWN_FIELDS = ("path", "folder", "content_hash", "modified_ns")
_FIELDS_AGE_S = 60.0
_WHERE_BYTES = 2**14  # of a filter as JSON


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The collection that a search page shows.

    Attributes:
        store: of the records; the caller closes it.
        config: the configuration of its vectors.
        name: of the collection, for people.
        roots: the folders that pictures are read from; `None` reads the files that the records name.
        hosts: further names by which browsers reach the server.
        token: opens the page without an API key; `None` if there is none.
    """

    store: VectorStore
    config: EmbeddingConfig
    name: str
    roots: tuple[Path, ...] | None = None
    hosts: tuple[str, ...] = ()
    token: str | None = None


class Gallery:
    """The collection of a search page; use its methods in one thread at a time, except `known`."""

    def __init__(self, shown: Shown, pictures: Pictures, handle: Callable[[str], str]) -> None:
        """Show a collection.

        Args:
            shown: the collection.
            pictures: reads the pictures of its records.
            handle: makes the name of a record in requests from its id.
        """
        self._shown = shown
        self._pictures = pictures
        self._handle = handle
        self._ids: OrderedDict[str, str] = OrderedDict()  # the ids of records by their handles
        self._described: tuple[float, dict[str, Any]] | None = None

    def info(self) -> dict[str, Any]:
        """Name, model, number of records and fields of the collection; the fields are those of up to 10,000 records."""
        if self._described is None or time.monotonic() - self._described[0] > _FIELDS_AGE_S:
            self._described = (time.monotonic(), self._describe())
        return self._described[1]

    def search(
        self,
        vector: FloatArray,
        *,
        text: str | None,
        modality: Modality,
        limit: int,
        where: Filter | None,
        without: str | None = None,
    ) -> list[dict[str, Any]]:
        """Find the records nearest to a vector, as `MultimodalCollection.search` does for one modality.

        Args:
            vector: (E,) float32.
            text: the text of a text query.
            modality: "image" or "text".
            limit: the largest number of results.
            where: a filter on metadata.
            without: the id of a record that is left out, as it is the query itself.
        """
        request = Request(
            limit=limit if without is None else limit + 1,
            where=where,
            modalities=(modality,),
            tiles=self._shown.config.tiling is not None,
            group_duplicates=without is None,
        )
        flow = nearest([Query(vector=vector, text=text)], request, SampleCache(embeds_texts=True))
        (hits,) = BlockingHost(store=self._shown.store).run(flow)
        return [self._card(hit) for hit in hits if hit.record_id != without][:limit]

    def record(self, handle: str, *, vectors: bool) -> Record:
        """The record of a handle that was given to a page.

        Raises:
            RequestError: 404.
        """
        record_id = self.known(handle)
        found = self._shown.store.get([record_id], vectors=vectors)
        if not found:
            raise _no_record()
        return found[0]

    def known(self, handle: str) -> str:
        """The id of a handle that was given to a page.

        Raises:
            RequestError: 404.
        """
        record_id = self._ids.get(handle)
        if record_id is None:
            raise _no_record()
        return record_id

    def _card(self, hit: SearchHit) -> dict[str, Any]:
        handle = self._handle(hit.record_id)
        self._ids[handle] = hit.record_id
        self._ids.move_to_end(handle)
        if len(self._ids) > _HANDLES:
            self._ids.popitem(last=False)
        location = hit.uri if hit.uri is not None else hit.metadata.get("path")
        path = self._pictures.shown_path(location) if isinstance(location, str) else None
        has_picture = hit.modality == "image" and hit.uri is not None
        return {
            "id": handle,
            "modality": hit.modality,
            "name": Path(path).name if path else Path(hit.record_id).name,
            "path": path,
            "content": hit.content,
            "score": round(hit.score, 6),
            "size": self._pictures.size(hit.uri, hit.content_hash) if has_picture and hit.uri is not None else None,
            "box": None if hit.box is None else list(hit.box),
            "metadata": {name: value for name, value in hit.metadata.items() if name not in _OWN_FIELDS},
            "thumb": f"/ui/thumb/{handle}?v={(hit.content_hash or '')[:16]}" if has_picture else None,
            "picture": f"/ui/picture/{handle}" if has_picture else None,
            "duplicates": len(hit.duplicates),
        }

    def _describe(self) -> dict[str, Any]:
        store, model = self._shown.store, self._shown.config.model
        known = next((each for each in KNOWN_MODELS if each.name == model), None)
        records = itertools.islice(store.scroll(vectors=False), _SAMPLED)
        return {
            "name": self._shown.name,
            "model": model if known is not None else Path(model).name,  # the path of a folder is not shown
            "licence": None if known is None else known.license,
            "version": version("jclip-connectors"),
            "counts": {modality: store.count(modality=modality) for modality in MODALITIES},
            "fields": describe_fields(record.metadata for record in records),
        }


def describe_fields(metadatas: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """The fields that filters can be made from, with the range of numbers and the commonest texts.

    Args:
        metadatas: the metadata of records.
    """
    numbers: dict[str, list[float]] = {}
    texts: dict[str, Counter[str]] = {}
    booleans: set[str] = set()
    for metadata in metadatas:
        for name, value in metadata.items():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, bool):
                    booleans.add(name)
                elif isinstance(each, int | float):
                    known = numbers.setdefault(name, [each, each])
                    known[:] = [min(known[0], each), max(known[1], each)]
                elif isinstance(each, str) and len(each) <= _VALUE_CHARS:
                    texts.setdefault(name, Counter())[each] += 1
    fields: list[dict[str, Any]] = [
        *({"name": name, "type": "number", "smallest": low, "largest": high} for name, (low, high) in numbers.items()),
        *({"name": name, "type": "string", **_commonest(counts)} for name, counts in texts.items()),
        *({"name": name, "type": "boolean"} for name in booleans),
    ]
    return sorted(
        (field for field in fields if field["name"] not in _OWN_FIELDS),
        key=lambda field: (field["name"], field["type"]),
    )


def _commonest(counts: Counter[str]) -> dict[str, list[str]]:
    """The values to choose from; none where each comes once, as of names, and there are too many."""
    found = counts.most_common(_VALUES)
    return {} if len(counts) > _VALUES and found[0][1] == 1 else {"values": [value for value, _ in found]}


def read_box(value: object) -> Sequence[int] | None:
    """Check a box of a request.

    Raises:
        RequestError: it is not four whole numbers.
    """
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    ):
        raise RequestError("`box` is not [left, top, right, bottom] in whole pixels", status=400, field="box")
    return value


def read_where(value: object) -> Mapping[str, Any] | None:
    """Check a filter of a request.

    Raises:
        RequestError: it is not an object, or too large: others wait while it is compared with the records.
    """
    if isinstance(value, dict) and len(json.dumps(value)) > _WHERE_BYTES:
        raise RequestError(
            f"`where` has more than {_WHERE_BYTES} bytes: write a shorter filter", status=400, field="where"
        )
    if value is None or isinstance(value, dict):
        return value or None
    raise RequestError('`where` is not a JSON object, such as {"year": {"gte": 2020}}', status=400, field="where")


def _no_record() -> RequestError:
    return RequestError("there is no such record: search again", status=404, code="RESOURCE_NOT_FOUND")
