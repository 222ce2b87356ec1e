"""A job whose embedder kills its process when it meets a certain picture."""

import os
import signal
from dataclasses import dataclass
from typing import Any

from jclip_connectors.bulk import EmbedJob
from tests.bulk.sources import picture

DEADLY = [picture(number) for number in (90_001, 90_002)]


@dataclass(frozen=True, kw_only=True)
class DeadlyJob(EmbedJob):
    def open_embedder(self):
        return _DeadlyEmbedder(super().open_embedder())


class _DeadlyEmbedder:
    def __init__(self, embedder: Any):
        self._embedder = embedder

    def __getattr__(self, name):
        return getattr(self._embedder, name)

    def embed_images(self, images):
        if any(image in DEADLY for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._embedder.embed_images(images)
