"""Conversion between LangChain's `Document` and our `Record`.

A text is an ordinary `Document`. The metadata of an image's document marks it as an image; `page_content` is a caption,
or the image's `uri`, or its id, so that other classes, which know documents by their content, tell images apart:

    Document("the red one", metadata={"modality": "image", "uri": "bikes/1.jpg", "content_hash": "sha256:...", "n": 1})

`modality`, `uri`, `content_hash` and `box` (in results of a search over tiles) are fields of the record and not part of
its metadata, so filters do not see them. A text's own metadata may use these keys, except `modality` "image".
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.documents import Document

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import ImageSource, Record, SearchHit
from jclip_connectors.store_kit.json_values import as_metadata
from jclip_connectors.store_kit.validation import as_list, check_id

_RESERVED = ("modality", "uri", "content_hash", "box")  # in the metadata of an image
RECORD_ID = "record_id"  # the key of the id in the metadata of what a retriever finds


@dataclass(frozen=True, kw_only=True)
class Item:
    """A checked document to add; only the content of an image is not checked yet.

    Attributes:
        source: the text or the image.
        is_image: whether `source` is an image.
        caption: the caption of an image, or `None`.
        record_id: the given id, or `None`.
        metadata: a JSON object without reserved keys.
    """

    source: Any
    is_image: bool
    caption: str | None
    record_id: str | None
    metadata: dict[str, object]

    def fields(self) -> dict[str, Any]:
        """The fields of its record, without the vectors.

        Raises:
            EmbedInputError: the source cannot be read.
        """
        fields = describe_image(self.source) if self.is_image else describe_text(self.source)
        if self.is_image:
            fields["content"] = self.caption
        if self.record_id is not None:
            fields["record_id"] = self.record_id
        elif self.metadata:
            # The same text with different metadata, such as a page number, is another document.
            digest = hashlib.sha256(json.dumps(self.metadata, sort_keys=True).encode()).hexdigest()
            fields["record_id"] += f"-{digest[:16]}"
        return {**fields, "metadata": self.metadata}


def image_document(uri: str, *, caption: str | None = None, metadata: Mapping[str, Any] | None = None) -> Document:
    """Make the `Document` of an image file, for `add_documents` and for LangChain's `index`.

    The document has the hash of the file, so `index` sees when the file changes.

    Args:
        uri: the path of the image.
        caption: becomes `page_content`; it is stored with the image and not embedded. Without one, `page_content` is
            `uri`, and nothing is stored.
        metadata: a JSON object.

    Raises:
        EmbedInputError: the file cannot be read, or `metadata` has a reserved key.
    """
    item = image_item(uri, metadata, None, name="the image")
    marks = {name: value for name, value in describe_image(uri).items() if name in _RESERVED}
    return Document(page_content=caption if caption else uri, metadata={**item.metadata, **marks})


def to_document(found: Record | SearchHit) -> Document:
    """Make the document of a record or a result; a result has no `content_hash`, and a record no `box`."""
    metadata, content = found.metadata, found.content
    if found.modality == "image":
        marks: dict[str, Any] = {"modality": "image", "uri": found.uri}
        if isinstance(found, Record):
            marks["content_hash"] = found.content_hash
        else:
            marks["box"] = None if found.box is None else list(found.box)
        # A record of another program may have such a key in its metadata, which is kept.
        metadata = {**{name: value for name, value in marks.items() if value is not None}, **metadata}
        content = next(text for text in (content, found.uri, found.record_id) if text)
    return Document(id=found.record_id, page_content="" if content is None else content, metadata=metadata)


def with_record_id(document: Document) -> Document:
    """Put the id of a document into its metadata too, where EnsembleRetriever and others look for it.

    A key `record_id` of the document's own metadata is kept.
    """
    return document.model_copy(update={"metadata": {RECORD_ID: document.id, **document.metadata}})


def _without_record_id(document: Document) -> dict[str, Any]:
    """The metadata without what `with_record_id` put there."""
    return {
        key: value
        for key, value in document.metadata.items()
        if key != RECORD_ID or document.id is None or value != document.id
    }


def text_item(text: object, metadata: Mapping[str, Any] | None, record_id: str | None, *, name: str) -> Item:
    """Check a text.

    Args:
        text: the text.
        metadata: a JSON object; `None` is empty metadata.
        record_id: an id, or `None`.
        name: the name of the text in errors.

    Raises:
        EmbedInputError: an argument is invalid; the message names it.
    """
    if not isinstance(text, str):
        raise EmbedInputError(f"{name} is {type(text).__name__}, not a string")
    own = _check(metadata, record_id, name=name)
    if own.get("modality") == "image":
        raise EmbedInputError(f"`metadata` of {name} has `modality` 'image', which marks images: rename the key")
    return Item(source=text, is_image=False, caption=None, record_id=record_id, metadata=own)


def image_item(image: ImageSource, metadata: Mapping[str, Any] | None, record_id: str | None, *, name: str) -> Item:
    """Check the metadata and id of an image; see `text_item`."""
    own = _check(metadata, record_id, name=name)
    for key in _RESERVED:
        if key in own:
            raise EmbedInputError(
                f"`metadata` of {name} has the key {key!r}, which is reserved in an image's document: rename it"
            )
    return Item(source=image, is_image=True, caption=None, record_id=record_id, metadata=own)


def document_item(document: object, record_id: str | None, *, name: str) -> Item:
    """Check a document; `record_id` overrides its own id.

    Raises:
        EmbedInputError: an argument is invalid; the message names it.
    """
    if not isinstance(document, Document):
        raise EmbedInputError(f"{name} is {type(document).__name__}, not a Document")
    record_id = document.id if record_id is None else record_id
    if document.metadata.get("modality") != "image":
        return text_item(document.page_content, _without_record_id(document), record_id, name=name)
    uri = document.metadata.get("uri")
    if not isinstance(uri, str):
        raise EmbedInputError(
            f"{name} is an image by its `modality`, but its `uri` is {uri!r}: give the path of the image, "
            "or rename the key if the document is a text"
        )
    own = {key: value for key, value in _without_record_id(document).items() if key not in _RESERVED}
    # The document of an image without a caption shows its `uri`: see `to_document`.
    caption = None if document.page_content in ("", uri) else document.page_content
    own = _check(own, record_id, name=name)
    return Item(source=uri, is_image=True, caption=caption, record_id=record_id, metadata=own)


def _check(metadata: Mapping[str, Any] | None, record_id: str | None, *, name: str) -> dict[str, object]:
    if record_id is not None:
        check_id(record_id, name=f"the id of {name}")
    return as_metadata({} if metadata is None else metadata, name=f"`metadata` of {name}")


Options: TypeAlias = dict[str, Any]


def texts_as_items(
    texts: Iterable[str], metadatas: object, ids: object, kwargs: Mapping[str, object]
) -> tuple[list[Item], Options]:
    """Check the arguments of `add_texts`.

    Returns:
        The items, and the options of the call.

    Raises:
        EmbedInputError: an argument is invalid; the message names it.
    """
    return _each("texts", texts, metadatas, ids, text_item, kwargs)


def images_as_items(
    uris: Iterable[ImageSource], metadatas: object, ids: object, kwargs: Mapping[str, object]
) -> tuple[list[Item], Options]:
    """Check the arguments of `add_images`; see `texts_as_items`."""
    return _each("uris", uris, metadatas, ids, image_item, kwargs)


def documents_as_items(documents: Iterable[Document], kwargs: Mapping[str, object]) -> tuple[list[Item], Options]:
    """Check the arguments of `add_documents`; see `texts_as_items`."""
    options = known_options(kwargs, "ids", "batch_size")
    single: object = documents
    if isinstance(single, Document):  # a Document is iterable, over its fields
        raise EmbedInputError("`documents` is one Document: pass a list; for a single one write [document]")
    given = as_list(documents, name="documents")
    ids = _one_each(options.pop("ids", None), len(given), name="ids")
    items = [
        document_item(document, record_id, name=f"`documents`[{position}]")
        for position, (document, record_id) in enumerate(zip(given, ids, strict=True))
    ]
    return items, options


def _each(
    name: str,
    sources: Iterable[Any],
    metadatas: object,
    ids: object,
    check: Callable[..., Item],
    kwargs: Mapping[str, object],
) -> tuple[list[Item], Options]:
    options = known_options(kwargs, "batch_size")
    given = as_list(sources, name=name)
    metadatas = _one_each(metadatas, len(given), name="metadatas")
    ids = _one_each(ids, len(given), name="ids")
    each = enumerate(zip(given, metadatas, ids, strict=True))
    return [check(*fields, name=f"`{name}`[{position}]") for position, fields in each], options


def _one_each(values: Any, count: int, *, name: str) -> list[Any]:  # noqa: ANN401 (checked here)
    """One value for each of `count` items; `None` for each item if `values` is `None`.

    Raises:
        EmbedInputError: the number of values is not `count`.
    """
    if values is None:
        return [None] * count
    if isinstance(values, str | Mapping):
        raise EmbedInputError(f"`{name}` is one {type(values).__name__}; write a list, one for each item")
    if len(values) != count:
        raise EmbedInputError(f"`{name}` has {len(values)} entries for {count} items: give one for each")
    return list(values)


def known_options(options: Mapping[str, object], *allowed: str) -> dict[str, Any]:
    """Check the keyword arguments of a method whose signature in LangChain has `**kwargs`.

    Raises:
        EmbedInputError: an option is not `allowed`.
    """
    for name in options:
        if name not in allowed:
            raise EmbedInputError(f"unknown option `{name}`; known are {', '.join(allowed)}")
    return dict(options)
