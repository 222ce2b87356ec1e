"""The features of the model that clip-benchmark's process evaluates: ours, or a baseline that the harness loads."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import open_clip
import torch
from clip_benchmark.models import load_clip
from clip_benchmark.models.nllb_clip import lang_map, set_language
from numpy.typing import NDArray
from PIL import Image

from core_encoder.file_hash import file_hash
from jclip_connectors.errors import EmbedInputError, EvaluationError
from jclip_connectors.evaluation.encoder_loading import load_encoder, model_facts, vector_lengths
from jclip_connectors.evaluation.features import CachedEncoder, FeatureCache, picture_digest, text_digest
from jclip_connectors.evaluation.job import Job


class Features(Protocol):
    """A model, seen as what it gives for pictures and texts; each content is computed once."""

    @property
    def lengths(self) -> Sequence[int]:
        """Lengths of the vectors that are evaluated."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What determines the vectors."""

    def pictures(self, pictures: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return raw features of RGB pictures, (N, E)."""

    def texts(self, texts: Sequence[str], /, *, language: str) -> NDArray[np.float32]:
        """Return raw features, (N, E); `language` is the harness' own name."""


@contextmanager
def open_features(job: Job) -> Iterator[Features]:
    """Load the model of a job; features that wait in memory are written at the end, also after an error.

    Raises:
        JinaClipError: our model cannot be loaded, or does not have a length that is asked for.
        EmbedInputError: a length of a baseline is asked for which is not its full one.
        EvaluationError: the harness cannot load the baseline.
    """
    if job.model.kind == "jclip":
        with CachedEncoder(load_encoder(job.model), job.features) as cached:
            yield _OwnFeatures(cached, job.dimensions)
    else:
        baseline = _BaselineFeatures(job)
        try:
            yield baseline
        finally:
            baseline.cache.write()


class _OwnFeatures:
    """The features of one of our models."""

    def __init__(self, cached: CachedEncoder, dimensions: tuple[int, ...] | None) -> None:
        self._cached = cached
        self.lengths = vector_lengths(cached.encoder, dimensions)
        self.facts = model_facts(cached.encoder)

    def pictures(self, pictures: Sequence[Image.Image], /) -> NDArray[np.float32]:
        return self._cached.pictures(pictures)

    def texts(self, texts: Sequence[str], /, *, language: str) -> NDArray[np.float32]:  # noqa: ARG002 (not asked for)
        return self._cached.texts(texts)


def _check_activation(architecture: str, weights: str) -> None:
    """Refuse weights that were trained with another activation than the architecture's: open_clip only warns.

    Raises:
        EvaluationError: it is another one.
    """
    config, trained = (
        open_clip.get_model_config(architecture) or {},
        open_clip.get_pretrained_cfg(architecture, weights),
    )
    if bool(trained.get("quick_gelu", False)) and not config.get("quick_gelu", False):
        raise EvaluationError(
            f"the weights {weights!r} were trained with another activation than {architecture!r} has: write "
            f"open_clip:{architecture}-quickgelu,{weights}"
        )


class _BaselineFeatures:
    """The features of a model of open_clip, which has one length of vectors."""

    def __init__(self, job: Job) -> None:
        architecture, _, weights = job.model.source.partition(",")
        _check_activation(architecture, weights)
        device = job.model.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model, self._transform, self._tokenizer = load_clip("open_clip", architecture, weights, None, device)
        except (RuntimeError, OSError, ValueError) as error:
            raise EvaluationError(f"open_clip cannot load {job.model.source!r}: {error}") from error
        self._model.eval()
        self._device, self._batch_size = device, job.batch_size
        # NLLB-CLIP reads a text in the language that its tokenizer was told.
        self._told_language = "nllb-clip" in architecture
        own = (
            file_hash(Path(weights)) if Path(weights).is_file() else None
        )  # a name stands for its weights, a path does not
        self.cache = FeatureCache(job.features, json.dumps(["open_clip", job.model.source, own, device]))
        length = self.texts(["a"], language="en").shape[1]
        if job.dimensions not in (None, (length,)):
            raise EmbedInputError(f"{job.model.source!r} has vectors of {length} values, and none that are shortened")
        self.lengths = (length,)
        self.facts = {"name": job.model.source, "embedding_dim": length, "runtime": "open_clip", "device": device}

    def pictures(self, pictures: Sequence[Image.Image], /) -> NDArray[np.float32]:
        def encode(positions: list[int]) -> torch.Tensor:
            batch = torch.stack([self._transform(pictures[position]) for position in positions])
            rows: torch.Tensor = self._model.encode_image(batch.to(self._device))
            return rows

        return self.cache.rows([picture_digest(picture) for picture in pictures], self._in_batches(encode))

    def texts(self, texts: Sequence[str], /, *, language: str) -> NDArray[np.float32]:
        told = language if self._told_language else None
        if told is not None:
            if told not in lang_map:
                raise EvaluationError(f"NLLB-CLIP does not know the language {language!r}")
            set_language(self._tokenizer, told)

        def encode(positions: list[int]) -> torch.Tensor:
            tokens = self._tokenizer([texts[position] for position in positions]).to(self._device)
            rows: torch.Tensor = self._model.encode_text(tokens)
            return rows

        return self.cache.rows([text_digest(text, task=told) for text in texts], self._in_batches(encode))

    def _in_batches(self, encode: Callable[[list[int]], torch.Tensor]) -> Callable[[list[int]], NDArray[np.float32]]:
        def compute(positions: list[int]) -> NDArray[np.float32]:
            with torch.no_grad():
                rows = [
                    encode(positions[start : start + self._batch_size]).float().cpu().numpy()
                    for start in range(0, len(positions), self._batch_size)
                ]
            return np.concatenate(rows)

        return compute
