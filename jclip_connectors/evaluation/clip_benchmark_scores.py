"""Values of clip-benchmark's metrics, from recorded features: by its own functions, for any length and variant."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import normalize

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.clip_benchmark_model import Texts, among_first
from jclip_connectors.evaluation.clip_benchmark_reading import Classification, Retrieval
from jclip_connectors.evaluation.features import finish
from jclip_connectors.evaluation.figures import Variant, defined
from jclip_connectors.evaluation.variants import similarity

_ACCURACIES = {"acc1": 1, "acc5": 5}
_RECALL = "_retrieval_recall@"


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """A metric of a data set.

    Attributes:
        metric: by the harness' own name.
        value: `None` where it is not defined: where it looks at more documents or classes than there are.
        queries: how many there are.
        values: (Q,) of the queries; `None` if the metric is not defined, or no mean over queries.
        query_ids: (Q,) unique names.
        clusters: (Q,) queries of the same name belong together: the captions of a picture.
    """

    metric: str
    value: float | None
    queries: int
    values: NDArray[np.float64] | None
    query_ids: Sequence[str]
    clusters: Sequence[str]


class _Batches:
    """Recorded pictures in the place of a data loader of the harness."""

    def __init__(
        self, pictures: Tensor, targets: Sequence[object] | Tensor, batch_size: int, *, classes: Sequence[str] = ()
    ) -> None:
        self._pictures, self._targets, self._size = pictures, targets, batch_size
        self.dataset = SimpleNamespace(classes=classes)

    def __iter__(self) -> Iterator[tuple[Tensor, object]]:
        for start in range(0, len(self._pictures), self._size):
            batch = slice(start, start + self._size)
            yield self._pictures[batch], self._targets[batch]


class _Recorded:
    """Recorded features in the place of a model of the harness: pictures are their features, texts are looked up."""

    def __init__(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._places = {text: place for place, text in enumerate(texts)}
        self._vectors = torch.from_numpy(vectors)

    def encode_image(self, pictures: Tensor) -> Tensor:
        return pictures

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._vectors[[self._places[text] for text in texts]]


def retrieval_scores(
    data: Retrieval, metrics: Sequence[str], *, dimensions: int, variant: Variant, batch_size: int
) -> list[Score]:
    """Compute recall as clip-benchmark does: whether at least one right document is among the first k.

    Args:
        data: pictures and captions.
        metrics: such as "text_retrieval_recall@5": texts are found for a picture.
        dimensions: length of the vectors, 1..E.
        variant: how vectors are kept, of pictures and texts alike.
        batch_size: of the harness' command, which compares so many queries at once.

    Raises:
        EvaluationError: the harness' value is not the mean of those of its queries.
    """
    depths = sorted({int(metric.partition(_RECALL)[2]) for metric in metrics})
    depths = [k for k in depths if k <= len(data.pictures)]
    found = {
        f"{sought}{_RECALL}{k}": values
        for sought in ("text", "image")
        for k, values in _recalls(data, sought, depths, dimensions, variant, batch_size)
    }
    means: Mapping[str, float] = {metric: float(values.mean()) for metric, values in found.items()}
    if variant == "float32" and depths:
        harness = _harness_recalls(data, depths, dimensions, batch_size)
        # The harness takes the mean in float32.
        if any(np.float32(means[metric]) != np.float32(value) for metric, value in harness.items()):
            raise EvaluationError(f"clip-benchmark's values {harness} are not the means over queries, {means}")
        means = harness
    of_texts = _numbered(data)
    ids = {"text": data.picture_ids, "image": of_texts}
    clusters = {"text": data.picture_ids, "image": [data.picture_ids[owner] for owner in data.owners]}
    return [
        Score(
            metric=metric,
            value=means.get(metric),
            queries=len(ids[sought]),
            values=found.get(metric),
            query_ids=ids[sought],
            clusters=clusters[sought],
        )
        for metric in metrics
        for sought in [metric.partition(_RECALL)[0]]
    ]


def classification_scores(
    data: Classification, metrics: Sequence[str], *, dimensions: int, variant: Variant, batch_size: int
) -> list[Score]:
    """Compute accuracies and the mean recall over classes as clip-benchmark does.

    Args:
        data: pictures, their classes, and the texts for these.
        metrics: of "acc1", "acc5" and "mean_per_class_recall".
        dimensions: length of the vectors, 1..E.
        variant: how vectors are kept, of pictures and classes alike; a class is the mean of its texts.
        batch_size: of the harness' command.

    Raises:
        EvaluationError: the harness' value is not the mean of those of its queries.
    """
    model = _Recorded(data.texts, finish(data.text_features, dimensions))
    classes, templates = [*data.classes], [*data.templates]
    labels = torch.from_numpy(data.labels)
    pictures = torch.from_numpy(finish(data.pictures, dimensions))
    batches = _Batches(pictures, labels, batch_size, classes=classes)
    weights = zeroshot_classification.zero_shot_classifier(model, Texts, classes, templates, "cpu", amp=False)  # (e, C)
    if variant == "float32":
        logits, _ = zeroshot_classification.run_classification(model, weights, batches, "cpu", amp=False)
        means = zeroshot_classification.evaluate(model, batches, Texts, classes, templates, "cpu", amp=False)
    else:
        weighed = np.ascontiguousarray(weights.numpy().T)  # (C, e)
        logits = torch.from_numpy(
            similarity(data.pictures, weighed, dimensions=dimensions, variant=variant, k=max(_ACCURACIES.values()))
        )
        means = {"mean_per_class_recall": float(balanced_accuracy_score(labels, logits.argmax(dim=1)))}
    found = {
        metric: among_first(logits, labels, k)
        for metric, k in _ACCURACIES.items()
        if k <= len(classes)  # the harness gives NaN
    }
    for metric, values in found.items():
        if means.setdefault(metric, float(values.mean())) != float(values.mean()):
            raise EvaluationError(f"clip-benchmark's {metric} is {means[metric]}, and the mean {values.mean()}")
    ids = [str(position) for position in range(len(labels))]
    return [
        Score(
            metric=metric,
            value=defined(means.get(metric, np.nan)),
            queries=len(ids),
            values=found.get(metric),
            query_ids=ids,
            clusters=ids,
        )
        for metric in metrics
    ]


def _recalls(
    data: Retrieval, sought: str, depths: Sequence[int], dimensions: int, variant: Variant, batch_size: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """For each k, tell for each query, by 1 or 0, whether something right is among the first k: (Q,)."""
    right = torch.from_numpy(data.owners)[:, None] == torch.arange(len(data.pictures))  # (T, N)
    if sought == "text":
        right = right.T
    scores = None
    for k in depths:
        if scores is None or variant == "binary_rescored":
            scores = _ranking(data, sought, dimensions, variant, k)
        recall = zeroshot_retrieval.batchify(zeroshot_retrieval.recall_at_k, scores, right, batch_size, "cpu", k=k)
        yield k, (recall > 0).numpy().astype(np.float64)


def _ranking(data: Retrieval, sought: str, dimensions: int, variant: Variant, k: int) -> Tensor:
    """Score documents of the kind that is sought, (Q, D)."""
    if variant == "float32":  # in the order of the harness, to the last bit
        pictures, texts = (
            normalize(torch.from_numpy(finish(rows, dimensions)), dim=-1) for rows in (data.pictures, data.texts)
        )
        scores = texts @ pictures.t()
        return scores.T if sought == "text" else scores
    queries, documents = (data.pictures, data.texts) if sought == "text" else (data.texts, data.pictures)
    return torch.from_numpy(similarity(queries, documents, dimensions=dimensions, variant=variant, k=k))


def _harness_recalls(data: Retrieval, depths: Sequence[int], dimensions: int, batch_size: int) -> Mapping[str, float]:
    """What the harness finds if it is given the features in the place of pictures and texts."""
    captions: list[list[str]] = [[] for _ in data.picture_ids]
    names = [str(number) for number in range(len(data.owners))]
    for name, owner in zip(names, data.owners, strict=True):
        captions[owner].append(name)
    pictures = torch.from_numpy(finish(data.pictures, dimensions))
    found: Mapping[str, float] = zeroshot_retrieval.evaluate(
        _Recorded(names, finish(data.texts, dimensions)),
        _Batches(pictures, captions, batch_size),
        Texts,
        "cpu",
        amp=False,
        recall_k_list=list(depths),
    )
    return found


def _numbered(data: Retrieval) -> list[str]:
    """Name each text by its picture and its place among the picture's texts."""
    given: dict[int, int] = {}
    names = []
    for owner in data.owners.tolist():
        given[owner] = given.get(owner, 0) + 1
        names.append(f"{data.picture_ids[owner]}#{given[owner]}")
    return names
