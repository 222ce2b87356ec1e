"""The files of images for a collection of Chroma, read as our encoder reads them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import ImageDecodeError
from core_encoder.image_input import load_image
from core_encoder.rendering import Rendering, check_rendering
from jclip_connectors.errors import EmbedInputError

_THREADS = 4
_Pixels = NDArray[np.uint8]


class JinaClipImageLoader:
    """Reads the files that `add(uris=...)` names; pass one to `create_collection` as `data_loader`.

    Chroma's own loader gives pixels as they are stored, whatever their mode, and has no limits. A collection does not
    remember its loader: pass it again when the collection is opened.
    """

    def __init__(self, *, rendering: Rendering = "as_seen") -> None:
        """Choose how pictures are read.

        Args:
            rendering: "as_seen" or "as_stored"; see `EmbeddingConfig`.

        Raises:
            ConfigError: another value.
        """
        check_rendering(rendering)
        self._rendering = rendering

    def __call__(self, uris: Sequence[str | None]) -> list[_Pixels | None]:
        """Read images.

        Args:
            uris: paths; `None` for items without an image. URLs are not downloaded.

        Returns:
            An array (H, W, 3) uint8 RGB, range 0..255, for each path, and `None` for each `None`.

        Raises:
            EmbedInputError: an image cannot be read; its position is named.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._read, range(len(uris)), uris))

    def _read(self, position: int, uri: str | None) -> _Pixels | None:
        if uri is None:
            return None
        try:
            return np.asarray(load_image(uri, index=position, rendering=self._rendering))
        except ImageDecodeError as error:
            raise EmbedInputError(str(error)) from error
