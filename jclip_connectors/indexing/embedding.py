"""Vectors of images, from any embedder, as they are made."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from jclip_connectors.collection.adding import Draft
from jclip_connectors.errors import PartialFailureError
from jclip_connectors.port import Embedder, StreamingEmbedder

# The model waits until the first batch is read, and all else for the last one. Larger batches are not faster on a CPU,
# and on a GPU photographs are read more slowly than small batches are computed.
_STREAMED_AT_ONCE = 8


def embed_images(
    embedder: Embedder, drafts: Iterator[Draft], *, at_once: int
) -> Generator[tuple[Draft, Any], None, None]:
    """Embed images, which are asked for when they are needed.

    Args:
        embedder: one that is a `StreamingEmbedder` reads images while it embeds others.
        drafts: the images.
        at_once: the most images that the model sees together.

    Yields:
        Each image in order, with its (E,) float32 row or its `TileEmbeddings`, or the `ConnectorError` that says why it
        cannot be read.
    """
    if not isinstance(embedder, StreamingEmbedder):
        embed = embedder.embed_images if embedder.config.tiling is None else embedder.embed_image_tiles
        while batch := list(islice(drafts, at_once)):
            try:
                found: Any = dict(enumerate(embed([draft.source for draft in batch])))
            except PartialFailureError as error:
                found = {**error.kept, **error.failed}
            yield from ((draft, found[at]) for at, draft in enumerate(batch))
        return
    asked: deque[Draft] = deque()

    def sources() -> Iterator[Any]:
        for draft in drafts:
            asked.append(draft)
            yield draft.source

    with closing(embedder.stream_images(sources(), at_once=min(at_once, _STREAMED_AT_ONCE))) as results:
        for result in results:
            yield asked.popleft(), result
