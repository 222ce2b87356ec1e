"""A server whose model takes a fixed time: what is measured is HTTP and batching, not how two things share a processor.

python -m benchmarks.fixed_engine PORT TEXTS_PER_S CALL_S
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder import JinaClipEncoder
from core_encoder.tokenization import TokenizedText
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.app import create_app
from jclip_connectors.server.serve import load_served_model, run

TEXTS = tuple(
    f"a {size} {color} circle above a blue star on a white background"
    for size in ("small", "large")
    for color in ("red", "green", "yellow", "black")
)


class FixedTimeEncoder:
    """The vectors of nano, known beforehand, after a sleep that a batch of its length always takes."""

    def __init__(self, encoder: JinaClipEncoder, *, texts_per_s: float, call_s: float) -> None:
        """Compute what will be asked for.

        Args:
            encoder: of which it has the vectors.
            texts_per_s: of the benchmark's texts, without the time of the calls.
            call_s: that every call takes besides.
        """
        self._encoder = encoder
        self._call_s = call_s
        tokenized = encoder.tokenize(TEXTS)
        rows = encoder.encode_tokens(tokenized, normalize=False)
        self._rows = {tuple(text.ids): row for text, row in zip(tokenized, rows, strict=True)}
        self._token_s = len(TEXTS) / texts_per_s / sum(len(text.ids) for text in tokenized)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the encoder has
        """Be the encoder in everything else."""
        return getattr(self._encoder, name)

    def seconds(self, texts: Sequence[TokenizedText]) -> float:
        """What a call with `texts` takes."""
        return self._call_s + self._token_s * sum(len(text.ids) for text in texts)

    def encode_tokens(self, texts: Sequence[TokenizedText], *, normalize: bool) -> NDArray[np.float32]:
        """Sleep, then look the raw features up."""
        if normalize:
            raise NotImplementedError("the server asks for raw features")
        time.sleep(self.seconds(texts))
        return np.stack([self._rows[tuple(text.ids)] for text in texts])


def main() -> None:
    """Serve until the process is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("texts_per_s", type=float)
    parser.add_argument("call_s", type=float)
    options = parser.parse_args()
    config = EmbeddingConfig(model="nano")
    model = load_served_model(config, device="cpu")
    encoder = JinaClipEncoder.load("nano", device="cpu")
    fixed = FixedTimeEncoder(encoder, texts_per_s=options.texts_per_s, call_s=options.call_s)
    app = create_app(dataclasses.replace(model, encoder=fixed), config)
    run(app, host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
