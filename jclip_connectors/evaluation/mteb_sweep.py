"""A model of mteb that evaluates every length and variant of vectors from one pass over the data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from mteb.models import SearchEncoderWrapper
from mteb.models.model_meta import ModelMeta, ScoringFunction
from numpy.typing import NDArray
from PIL import Image

from jclip_connectors.evaluation.encoder_loading import model_facts, vector_lengths
from jclip_connectors.evaluation.features import CachedEncoder
from jclip_connectors.evaluation.figures import Variant
from jclip_connectors.evaluation.job import Job
from jclip_connectors.evaluation.mteb_model import MtebInputs, QueryPrefix
from jclip_connectors.evaluation.variants import RESCORED_PER_RESULT, vectors

_RESCORED_FOR = 10  # results: the candidates are four times as many


class SweptModel(MtebInputs):
    """Vectors of one length and variant, cut from cached features; `use` says which."""

    mteb_model_meta: ModelMeta

    def __init__(self, encoder: CachedEncoder, *, query_prefix: QueryPrefix, pictures_at_once: int) -> None:
        """Evaluate a loaded model.

        Args:
            encoder: gives raw features.
            query_prefix: whether queries of text retrieval get the model's prefix.
            pictures_at_once: how many are in memory.
        """
        self.query_prefix = query_prefix
        self.query_task = encoder.encoder.query_task
        self._encoder = encoder
        self._meta = ModelMeta.create_empty({"name": "jclip/evaluated", "modalities": ["text", "image"]})
        self._pictures_at_once = pictures_at_once
        self._kept: dict[str, NDArray[np.float32]] = {}  # features of the pictures of a data set
        self._place: str | None = None
        self.use(encoder.encoder.embedding_dim, "float32")

    def use(self, dimensions: int, variant: Variant) -> None:
        """Give vectors of this length and variant from now on; "binary_rescored" gives those of its first stage."""
        self._dimensions, self._variant = dimensions, variant
        # Rounded rows are compared as a database does, by their inner product.
        function = ScoringFunction.COSINE if variant == "float32" else ScoringFunction.DOT_PRODUCT
        self.mteb_model_meta = self._meta.model_copy(update={"similarity_fn_name": function})

    def forget_pictures(self) -> None:
        """The next data are other ones."""
        self._kept.clear()

    def encode(self, inputs: Any, **options: Any) -> NDArray[np.float32]:  # noqa: ANN401 (as `MtebInputs.encode`)
        """Encode the inputs of a task, for mteb; pictures are decoded once for all lengths and variants."""
        alone = "text" not in inputs.dataset.features
        self._place = inputs.dataset._fingerprint if alone else None
        return super().encode(inputs, **options)

    def encode_texts(self, texts: Sequence[str], *, task: str | None) -> NDArray[np.float32]:
        """Encode texts: (N, dimensions) float32."""
        return self._cut(self._encoder.texts(texts, task=task))

    def encode_pictures(self, pictures: Iterable[Image.Image], *, count: int) -> NDArray[np.float32]:
        """Encode pictures: (N, dimensions) float32."""
        known = None if self._place is None else self._kept.get(self._place)
        if known is not None:
            return self._cut(known)
        rows = np.empty((count, self._encoder.encoder.embedding_dim), np.float32)
        for start, window in _windows(pictures, self._pictures_at_once):
            rows[start : start + len(window)] = self._encoder.pictures(window)
        if self._place is not None:
            self._kept[self._place] = rows
        return self._cut(rows)

    def _cut(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors(raw, dimensions=self._dimensions, variant=self._variant)


class OurModel:
    """A jina-clip model in all the lengths and variants of a job."""

    def __init__(self, job: Job, encoder: CachedEncoder) -> None:
        """Evaluate a loaded model.

        Raises:
            EmbeddingDimError: a length is not in 1..E.
        """
        lengths = vector_lengths(encoder.encoder, job.dimensions)
        self.facts = model_facts(encoder.encoder)
        self.settings = [(length, variant) for length in lengths for variant in job.variants]
        self._swept = SweptModel(encoder, query_prefix=job.query_prefix, pictures_at_once=job.batch_size)

    def model(self, setting: tuple[int, Variant]) -> "SweptModel | RescoredSearch":
        """The model of mteb that gives such vectors, until it is asked for others."""
        length, variant = setting
        if variant == "binary_rescored":
            return RescoredSearch(self._swept, length)
        self._swept.use(length, variant)
        return self._swept

    def new_data(self) -> None:
        """Keep features of pictures in memory no longer."""
        self._swept.forget_pictures()


class RescoredSearch:
    """A search in two stages: the codes of one bit a value find candidates, and the full vectors rank these."""

    def __init__(self, model: SweptModel, dimensions: int) -> None:
        """Search with vectors of this length."""
        self._model = model
        self._dimensions = dimensions
        self._stages: Mapping[Variant, SearchEncoderWrapper] = {
            "binary": SearchEncoderWrapper(model),
            "float32": SearchEncoderWrapper(model),
        }
        self.mteb_model_meta = model.mteb_model_meta

    def index(self, corpus: Any, **options: Any) -> None:  # noqa: ANN401 (as mteb's SearchProtocol)
        """Keep the documents, for mteb."""
        for stage in self._stages.values():
            stage.index(corpus, **options)

    def search(self, queries: Any, *, top_k: int, **options: Any) -> dict[str, dict[str, float]]:  # noqa: ANN401
        """Search for mteb: for each query the cosines of its candidates."""
        self._model.use(self._dimensions, "binary")
        candidates = self._stages["binary"].search(queries, top_k=RESCORED_PER_RESULT * _RESCORED_FOR, **options)
        self._model.use(self._dimensions, "float32")
        options["top_ranked"] = {query: list(found) for query, found in candidates.items()}
        return dict(self._stages["float32"].search(queries, top_k=top_k, **options))


def _windows(items: Iterable[Image.Image], size: int) -> Iterator[tuple[int, list[Image.Image]]]:
    """Cut items into lists of a size, each with the position of its first."""
    source, start = iter(items), 0
    while window := list(islice(source, size)):
        yield start, window
        start += len(window)
