"""A program that embeds tar files with hashes, and is killed at a batch, or at a picture.

    python -m tests.bulk.dying SOURCE OUT BATCH PICTURE

BATCH counts the batches of this process, from 1; 0 lets it live. PICTURE is the number of a picture of
`sources.picture` that no process survives; -1 is none.
"""

import os
import signal
import sys

from jclip_connectors.bulk import Columns, EmbedJob, embed_shards, find_shards, run_locally
from jclip_connectors.testing import HashEmbedder
from tests.bulk.sources import picture


class MortalEmbedder(HashEmbedder):
    """Kills its process."""

    def __init__(self, batch, number):
        super().__init__()
        self._left = batch
        self._deadly = None if number < 0 else picture(number)

    def embed_images(self, images):
        self._left -= 1
        if self._left == 0 or self._deadly in images:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed_images(images)


def main(source, out, batch, number):
    embedder = MortalEmbedder(int(batch), int(number))
    job = EmbedJob(config=embedder.config, out=out, columns=Columns(key="__key__"), batch_size=4)
    report = embed_shards(
        find_shards([source]), job, run=lambda todo, job: run_locally(todo, job, embedder=embedder), max_failed=1
    )
    sys.stdout.write(f"{report.unchanged} unchanged, {report.failed} failed\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
