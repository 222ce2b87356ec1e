"""Features of texts and pictures, kept in a folder: a model runs once, and every length is cut from what it gave."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder.file_hash import file_hash
from core_encoder.matryoshka import normalize, truncate
from core_encoder.models import FILES, WEIGHTS_FILE
from jclip_connectors.errors import EvaluationError

if TYPE_CHECKING:
    from core_encoder import JinaClipEncoder

_WRITE_ROWS, _WRITE_S = 4096, 30.0  # features wait in memory for so long
_WINDOW_TEXTS = 1024  # encoded together, so that a run that is stopped loses little
_DIGEST_BYTES = 32


class FeatureCache:
    """Rows of features by content, in a folder.

    A piece of the cache is one file, an array of (digest, row), which appears under its name once it is whole.
    Call `write` at the end: some rows wait in memory.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Read what is there.

        Args:
            folder: is made if it does not exist.
            key: what determines a row besides the content: weights, precision, runtime.

        Raises:
            EvaluationError: a file of the cache is not one.
        """
        self._folder = folder
        self._stem = f"features-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        self._places: dict[bytes, tuple[int, int]] = {}  # digest -> piece, row
        self._pieces: list[NDArray[np.float32]] = []
        self._waiting: dict[bytes, NDArray[np.float32]] = {}
        self._written = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(f"{self._stem}-*.npy")):
            self._add_piece(path)

    def __contains__(self, digest: bytes) -> bool:
        """Whether the row of `digest` is known."""
        return digest in self._waiting or digest in self._places

    def rows(
        self, digests: Sequence[bytes], compute: Callable[[list[int]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The rows of items, each computed once.

        Args:
            digests: (N,) of 32 bytes, `digest` of each item.
            compute: gets positions of items whose rows are not known, each content once; gives (M, E) float32.

        Returns:
            (N, E) float32.
        """
        first = {digest: position for position, digest in reversed(list(enumerate(digests))) if digest not in self}
        missing = sorted(first.values())
        if missing:
            for position, row in zip(missing, compute(missing), strict=True):
                self._waiting[digests[position]] = row
        rows = [self._row(digest) for digest in digests]
        if len(self._waiting) >= _WRITE_ROWS or time.monotonic() - self._written > _WRITE_S:
            self.write()
        return np.array(rows, np.float32).reshape(len(rows), -1)

    def write(self) -> None:
        """Write the rows that wait in memory."""
        self._written = time.monotonic()
        if not self._waiting:
            return
        width = len(next(iter(self._waiting.values())))
        piece = np.empty(len(self._waiting), _piece_type(width))
        piece["digest"] = np.frombuffer(b"".join(self._waiting), np.uint8).reshape(-1, _DIGEST_BYTES)
        piece["row"] = np.stack(list(self._waiting.values()))
        name = uuid.uuid4().hex
        written, path = self._folder / f".{name}.tmp", self._folder / f"{self._stem}-{name}.npy"
        try:
            with written.open("xb") as file:
                np.save(file, piece, allow_pickle=False)
            written.replace(path)
        except BaseException:
            written.unlink(missing_ok=True)
            raise
        self._add_piece(path)
        self._waiting.clear()

    def _row(self, digest: bytes) -> NDArray[np.float32]:
        if digest in self._waiting:
            return self._waiting[digest]
        piece, row = self._places[digest]
        found: NDArray[np.float32] = self._pieces[piece][row]
        return found

    def _add_piece(self, path: Path) -> None:
        try:
            piece = np.load(path, mmap_mode="r", allow_pickle=False)
            digests = np.ascontiguousarray(piece["digest"]).tobytes()
            self._pieces.append(piece["row"])
        except (ValueError, IndexError, OSError) as error:
            raise EvaluationError(f"{str(path)!r} is not a file of features: remove it") from error
        for row in range(len(piece)):
            start = row * _DIGEST_BYTES
            self._places[digests[start : start + _DIGEST_BYTES]] = (len(self._pieces) - 1, row)


class CachedEncoder:
    """Raw features of texts and pictures: those that are not cached are encoded. Use it with `with`."""

    def __init__(self, encoder: "JinaClipEncoder", folder: Path) -> None:
        """Keep the features of `encoder` in `folder`.

        Raises:
            CheckpointError: the model's files have changed since they were loaded.
        """
        self.encoder = encoder
        self.cache = FeatureCache(folder, _key(encoder))

    def __enter__(self) -> Self:
        """Nothing is done."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the features that wait in memory, also after an error."""
        self.cache.write()

    def texts(self, texts: Sequence[str], *, task: str | None = None) -> NDArray[np.float32]:
        """Raw features of texts: (N, E) float32; `task` is the model's task, such as "retrieval.query"."""

        def encode(positions: list[int]) -> NDArray[np.float32]:
            return self.encoder.encode_text([window[position] for position in positions], task=task, normalize=False)

        rows = [np.empty((0, self.encoder.embedding_dim), np.float32)]
        for start in range(0, len(texts), _WINDOW_TEXTS):
            window = texts[start : start + _WINDOW_TEXTS]
            rows.append(self.cache.rows([text_digest(text, task=task) for text in window], encode))
        return np.concatenate(rows)

    def pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Raw features of pictures, read as the published model reads them: (N, E) float32."""
        if not pictures:
            return np.empty((0, self.encoder.embedding_dim), np.float32)

        def encode(positions: list[int]) -> NDArray[np.float32]:
            return self.encoder.encode_image([pictures[position] for position in positions], normalize=False)

        return self.cache.rows([picture_digest(picture) for picture in pictures], encode)


def text_digest(text: str, *, task: str | None = None) -> bytes:
    """What the features of a text are kept under: 32 bytes."""
    return hashlib.sha256(json.dumps(["text", task, text]).encode()).digest()


def picture_digest(picture: Image.Image) -> bytes:
    """What the features of a picture are kept under, by its pixels: 32 bytes."""
    pixels = picture.tobytes()
    colours = picture.getpalette(None)  # of a picture whose pixels are numbers of colours
    head = json.dumps(["picture", picture.mode, picture.size, colours, repr(picture.info.get("transparency"))])
    digest = hashlib.sha256(head.encode())
    digest.update(pixels)
    return digest.digest()


def finish(features: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Turn raw features into vectors of a length, as the encoder's `truncate_dim` does, bit for bit.

    Args:
        features: (N, E) float32.
        dimensions: how many values are kept, 1..E.

    Returns:
        (N, dimensions) float32, rows of unit L2 norm.

    Raises:
        EmbeddingDimError: `dimensions` is not in 1..E.
    """
    return normalize(truncate(features, dimensions))


def _key(encoder: "JinaClipEncoder") -> str:
    origin = encoder.origin
    if origin is None:
        raise EvaluationError("features are kept only for a model that was loaded from files")
    # How texts and pictures are read: the files beside the weights.
    reading = [file_hash(origin.folder / name) for name in FILES if name != WEIGHTS_FILE]
    return json.dumps([origin.weights_hash(), encoder.runtime.name, encoder.precision, *reading])


def _piece_type(width: int) -> np.dtype[np.void]:
    return np.dtype([("digest", np.uint8, (_DIGEST_BYTES,)), ("row", np.float32, (width,))])
