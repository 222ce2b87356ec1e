"""Documents of Haystack with vectors: which texts and images are embedded, in batches, and what has failed.

The calls of a flow are made on an embedder, blocking or asyncio.
"""

import base64
import binascii
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.dataclasses import ByteStream, ImageContent

from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.haystack.errors import DocumentsNotEmbeddedError
from jclip_connectors.port import FloatArray, ImageSource
from jclip_connectors.store_kit.flows import Flow

SOURCE = "embedding_source"  # the key in which Haystack's embedders say what they have embedded
PATH_FIELD = "file_path_meta_field"
_PDF = "it is a PDF, whose pages must be made images first"
_logger = logging.getLogger(__package__)


def embed_query(text: object) -> Flow[FloatArray]:
    """Embed a text as a query: (E,).

    Raises:
        EmbedInputError: not a string.
    """
    if not isinstance(text, str):
        raise EmbedInputError(f"`text` is {type(text).__name__}, not a string; documents have an embedder of their own")
    row: FloatArray = yield lambda embedder: embedder.embed_query(text)
    return row


def embed_image(image: object) -> Flow[FloatArray]:
    """Embed one image: (E,).

    Raises:
        EmbedInputError: the image cannot be read.
    """
    source = image_source(image)
    try:
        rows: FloatArray = yield lambda embedder: embedder.embed_images([source])
    except PartialFailureError as error:
        raise EmbedInputError(f"`image` cannot be embedded: {error.failed[0]}") from error
    return np.asarray(rows[0])


def embed_documents(
    documents: object,
    source_of: Callable[[Document], Any],
    *,
    images: bool,
    batch_size: int,
    marks: Mapping[str, Any],
    raise_on_failure: bool,
) -> Flow[list[Document]]:
    """Copies of documents with their vectors.

    Args:
        documents: a list of documents.
        source_of: the text or the image of a document.
        images: whether these are images.
        batch_size: the number of documents that are embedded at a time.
        marks: what is added to the metadata of each document.
        raise_on_failure: whether a document that cannot be embedded raises; else it is logged and left as it is.

    Raises:
        TypeError: not a list of documents.
        DocumentsNotEmbeddedError: some documents cannot be embedded; `kept` has the others.
    """
    checked = check_documents(documents)
    failed: dict[int, Exception] = {}
    rows: dict[int, FloatArray] = {}
    for start in range(0, len(checked), batch_size):
        sources: dict[int, Any] = {}
        for at in range(start, min(start + batch_size, len(checked))):
            try:
                sources[at] = source_of(checked[at])
            except EmbedInputError as error:
                failed[at] = error
        yield from (_embed_images if images else _embed_texts)(sources, rows, failed)
    made = list(checked)
    for at, row in rows.items():
        meta = {**checked[at].meta, **marks}
        made[at] = dataclasses.replace(checked[at], embedding=row.tolist(), meta=meta)
    if failed:
        named = {at: EmbedInputError(f"the document {checked[at].id!r}: {failed[at]}") for at in sorted(failed)}
        kept = {at: made[at] for at in sorted(rows)}
        failure = DocumentsNotEmbeddedError("documents", failed=named, kept=kept)
        if raise_on_failure:
            raise failure
        _logger.warning("%s", failure)
    return made


def check_documents(documents: object) -> list[Document]:
    """Check the argument of a component, as Haystack's own components do.

    Raises:
        TypeError: not a list of documents.
    """
    if not isinstance(documents, list):
        raise TypeError(f"`documents` is {type(documents).__name__}, not a list of documents")
    for at, document in enumerate(documents):
        if not isinstance(document, Document):
            raise TypeError(f"`documents`[{at}] is {type(document).__name__}, not a Document")
    return documents


def text_of(document: Document, fields: Sequence[str], separator: str) -> str:
    """The text to embed: values of the metadata, and the content.

    Raises:
        EmbedInputError: there is neither.
    """
    parts = [str(document.meta[field]) for field in fields if document.meta.get(field) is not None]
    if document.content is None and not parts:
        raise EmbedInputError("it has no `content`; an image is embedded by JinaClipImageDocumentEmbedder")
    return separator.join([*parts, "" if document.content is None else document.content])


def image_of(document: Document, field: str, root: Path | None) -> ImageSource:
    """The image of a document: its `blob`, or the file that its metadata names.

    Raises:
        EmbedInputError: there is neither, or it is a PDF.
    """
    if document.blob is not None:
        return image_source(document.blob)
    named = document.meta.get(field)
    if not isinstance(named, str | Path) or not str(named):
        raise EmbedInputError(f"it has no `blob`, and its metadata has no path at {field!r}")
    if "://" in str(named):
        # The message leaves out the URL: it may contain a password.
        raise EmbedInputError(f"its metadata has a URL at {field!r}, and URLs are not downloaded: download the image")
    path = Path(named) if root is None else root / named
    if path.suffix.lower() == ".pdf":
        raise EmbedInputError(_PDF)
    if not path.is_file():
        raise EmbedInputError(
            f"there is no file {str(path)[:200]!r}: `ImageFileToDocument` keeps only the name of a file, unless it has "
            "`store_full_path=True`; or give the embedder a `root_path`"
        )
    return path


def image_source(image: object) -> ImageSource:
    """Convert an image of Haystack for an embedder.

    Raises:
        EmbedInputError: not an image, or a PDF.
    """
    mime = image.mime_type if isinstance(image, ByteStream | ImageContent) else None
    if mime == "application/pdf":
        raise EmbedInputError(_PDF)
    if isinstance(image, ByteStream):
        return image.data
    if isinstance(image, ImageContent):
        try:
            return base64.b64decode(image.base64_image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise EmbedInputError("the image is not base64") from error
    if isinstance(image, str | Path):
        return image
    raise EmbedInputError(f"the image is {type(image).__name__}; use a path, a ByteStream or an ImageContent")


def _embed_texts(sources: Mapping[int, str], rows: dict[int, FloatArray], failed: dict[int, Exception]) -> Flow[None]:
    if not sources:
        return
    try:
        found = yield lambda embedder: embedder.embed_texts(list(sources.values()))
    except EmbedInputError as error:
        if len(sources) == 1:
            failed |= dict.fromkeys(sources, error)
            return
        for at, text in sources.items():  # one of them is refused: the others are embedded
            yield from _embed_texts({at: text}, rows, failed)
        return
    rows |= zip(sources, found, strict=True)


def _embed_images(
    sources: Mapping[int, ImageSource], rows: dict[int, FloatArray], failed: dict[int, Exception]
) -> Flow[None]:
    if not sources:
        return
    positions = list(sources)
    try:
        found = yield lambda embedder: embedder.embed_images(list(sources.values()))
    except PartialFailureError as error:
        rows |= {positions[at]: row for at, row in error.kept.items()}
        failed |= {positions[at]: reason for at, reason in error.failed.items()}
        return
    rows |= zip(positions, found, strict=True)
