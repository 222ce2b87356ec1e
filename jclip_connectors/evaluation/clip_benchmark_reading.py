"""One pass over a data set of clip-benchmark: the features of its pictures and texts, by the harness' own classes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from clip_benchmark.datasets.builder import build_dataset, get_dataset_collate_fn
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Subset

from core_encoder.errors import JinaClipError
from jclip_connectors.errors import ConnectorError, EvaluationError
from jclip_connectors.evaluation.clip_benchmark_features import Features

Progress = Callable[[str], None]
_BY_PATH = frozenset(
    {"crossmodal3600", "multilingual_mscoco_captions", "xtd10"}
)  # with the same pictures for all languages


@dataclass(frozen=True, eq=False, kw_only=True)
class Retrieval:
    """Pictures with their captions.

    Attributes:
        picture_ids: (N,) unique names.
        pictures: (N, E) float32, raw features.
        texts: (T, E) float32, raw features, in the order of the pictures.
        owners: (T,) int64, the picture of each text.
    """

    picture_ids: Sequence[str]
    pictures: NDArray[np.float32]
    texts: NDArray[np.float32]
    owners: NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Classification:
    """Pictures with their classes.

    Attributes:
        pictures: (N, E) float32, raw features.
        labels: (N,) int64, 0..C-1.
        classes: (C,) names.
        templates: sentences with `{c}` for the name of a class.
        texts: (C * M,) each class in each of the M templates.
        text_features: (C * M, E) float32, raw features.
    """

    pictures: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    templates: Sequence[str]
    texts: Sequence[str]
    text_features: NDArray[np.float32]


class Reader:
    """Reads data sets; the pictures of a folder that several languages share are opened once."""

    def __init__(self, features: Features, *, batch_size: int, limit: int | None, download: bool) -> None:
        """Take the features of a model, of the first `limit` pictures of each data set."""
        self._features = features
        self._batch_size = batch_size
        self._limit = limit
        self._download = download
        self._waiting: list[Image.Image] = []
        self._rows: dict[tuple[str, str], NDArray[np.float32]] = {}  # root, path -> row

    def retrieval(self, task: str, split: str, language: str, root: Path, progress: Progress) -> Retrieval:
        """Read pictures with captions.

        Raises:
            EvaluationError: a picture is missing or unreadable, or there are none.
        """
        with _errors_of(task):
            return self._retrieval(task, split, language, root, progress)

    def classification(self, task: str, split: str, language: str, root: str, progress: Progress) -> Classification:
        """Read pictures with their classes; `root` is a folder, or an address where the harness streams them from.

        Raises:
            EvaluationError: a picture is unreadable, a label is of no class, or there are no pictures.
        """
        with _errors_of(task):
            return self._classification(task, split, language, root, progress)

    def _retrieval(self, task: str, split: str, language: str, root: Path, progress: Progress) -> Retrieval:
        dataset = self._build(task, split, language, str(root), "zeroshot_retrieval")
        names = [str(name) for name in dataset.ids] if task == "mscoco_captions" else [name for name, _ in dataset.data]
        count = len(names) if self._limit is None else min(self._limit, len(names))
        keys = [(str(root), name) for name in names[:count]]
        if task in _BY_PATH and all(key in self._rows for key in keys):
            rows = [self._rows[key] for key in keys]
            captions = [[caption] for _, caption in dataset.data[:count]]
        else:
            rows, captions = [], []
            loader = DataLoader(
                Subset(dataset, range(count)), batch_size=self._batch_size, collate_fn=get_dataset_collate_fn(task)
            )
            for _, batch_captions in loader:
                rows.extend(self._encode_waiting())
                captions.extend([*own] for own in batch_captions)
                progress(f"pictures {len(rows)} of {count}")
            self._rows.update(zip(keys, rows, strict=True))
        texts = [caption for own in captions for caption in own]
        if not texts:
            raise EvaluationError(f"the data set {task!r} has no pictures with captions for {language!r}")
        progress(f"{len(texts)} texts")
        return Retrieval(
            picture_ids=_unique([PurePath(name).name for name in names[:count]]),
            pictures=np.stack(rows),
            texts=self._features.texts(texts, language=language),
            owners=np.repeat(np.arange(count), [len(own) for own in captions]),
        )

    def _classification(self, task: str, split: str, language: str, root: str, progress: Progress) -> Classification:
        dataset = self._build(task, split, language, root, "zeroshot_classification")
        pictures: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.int64]] = []
        done = 0
        for _, batch_labels in DataLoader(dataset.batched(self._batch_size), batch_size=None):
            pictures.append(self._encode_waiting())
            labels.append(batch_labels.numpy())
            done += len(batch_labels)
            progress(f"pictures {done}")
            if self._limit is not None and done >= self._limit:
                break
        if not labels:
            raise EvaluationError(f"the data set {task!r} has no pictures")
        all_labels = np.concatenate(labels)[: self._limit]
        if not 0 <= all_labels.min() <= all_labels.max() < len(dataset.classes):
            raise EvaluationError(
                f"the data set {task!r} has labels {all_labels.min()}..{all_labels.max()} and "
                f"{len(dataset.classes)} names of classes"
            )
        texts = [template.format(c=name) for name in dataset.classes for template in dataset.templates]
        progress(f"{len(texts)} texts")
        return Classification(
            pictures=np.concatenate(pictures)[: self._limit],
            labels=all_labels,
            classes=dataset.classes,
            templates=dataset.templates,
            texts=texts,
            text_features=self._features.texts(texts, language=language),
        )

    def _build(self, task: str, split: str, language: str, root: str, kind: str) -> Any:  # noqa: ANN401 (the harness')
        return build_dataset(
            dataset_name=task,
            root=root,
            transform=self._keep,
            split=split,
            download=self._download,
            language=language,
            task=kind,
        )

    def _keep(self, picture: Image.Image) -> int:
        """Stand in for the harness' preprocessing: the picture waits until its batch is encoded."""
        self._waiting.append(picture)
        return 0

    def _encode_waiting(self) -> NDArray[np.float32]:
        rows = self._features.pictures(self._waiting)
        self._waiting.clear()
        return rows


@contextmanager
def _errors_of(task: str) -> Iterator[None]:
    """Name the data set in errors of the harness and of Pillow, which name the file."""
    try:
        yield
    except (JinaClipError, ConnectorError):
        raise
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise EvaluationError(f"the data set {task!r} cannot be read: {type(error).__name__}: {error}") from error


def _unique(names: Sequence[str]) -> list[str]:
    """Number the names that are not the first of their kind."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        number = seen[name] = seen.get(name, 0) + 1
        found.append(name if number == 1 else f"{name} ({number})")
    return found
