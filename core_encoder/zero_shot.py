"""Zero-shot classification: which of some labels is nearest to a picture, without any training.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 3.1.4 for
the mean over templates.
"""

import math
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core_encoder.encoder import JinaClipEncoder
from core_encoder.errors import ConfigError, EmbeddingDimError, ImageDecodeError
from core_encoder.image_input import ImageInput
from core_encoder.image_limits import ImageLimits
from core_encoder.image_notes import ImageNote
from core_encoder.image_preprocess import Resampling, ResizeMode
from core_encoder.item_list import as_list
from core_encoder.labels import check_labels, check_templates, fill
from core_encoder.matryoshka import normalize
from core_encoder.rendering import Rendering

_TEXTS_AT_ONCE = 4096  # of labels in templates: a thousand labels in 80 templates need no more memory than 50


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """How near a label is to a picture.

    Attributes:
        label: as it was given.
        score: the cosine of the picture's vector with the label's, -1..1. It is not a probability: how large it is for
            a right label depends on the model and the templates.
        probability: the softmax over all labels of the classifier, 0..1, if it was asked for. It is high also where
            no label fits, as one of them has to be the nearest.
    """

    label: str
    score: float
    probability: float | None = None


class LabelClassifier:
    """Names the labels that are nearest to pictures; labels may be in any language that the model reads."""

    def __init__(
        self,
        encoder: JinaClipEncoder,
        labels: Iterable[str],
        templates: Iterable[str] = ("{}",),
        truncate_dim: int | None = None,
    ) -> None:
        """Encode the labels, once.

        A label's vector is the mean of its unit vectors in all templates, scaled to unit length again. Labels get no
        query prefix.

        Args:
            encoder: a loaded encoder.
            labels: L texts, each once.
            templates: texts with `{}` or `{c}` where the label is put, such as "a photo of a {}".
            truncate_dim: how many values of each vector are compared; all of them if `None`.

        Raises:
            InputError: there are no labels or no templates, or one is not a str, blank, repeated, or a template without
                a place for the label; its position is named.
            EmbeddingDimError: `truncate_dim` is not in 1..E.
        """
        self.encoder = encoder
        self.labels = tuple(as_list(labels, "labels"))
        self.templates = tuple(as_list(templates, "templates"))
        self.truncate_dim = truncate_dim
        check_labels(self.labels, [f"`labels` item {at}" for at in range(len(self.labels))])
        check_templates(self.templates, [f"`templates` item {at}" for at in range(len(self.templates))])
        self.vectors: NDArray[np.float32] = self._encode_labels()
        """(L, E) float32, or (L, truncate_dim): the labels' vectors, rows of unit L2 norm."""
        # In float64 a score does not depend on how many labels and pictures are compared together.
        self._columns = self.vectors.astype(np.float64)

    def classify(
        self,
        images: Iterable[ImageInput],
        *,
        top: int | None = None,
        probabilities: bool = False,
        resize_mode: ResizeMode | None = None,
        rendering: Rendering = "as_stored",
        resampling: Resampling = "exact",
        limits: ImageLimits | None = None,
        failed: dict[int, ImageDecodeError] | None = None,
        notes: dict[int, list[ImageNote]] | None = None,
    ) -> list[list[LabelScore]]:
        """Find the nearest labels of pictures.

        Args:
            images: as for `JinaClipEncoder.encode_image`.
            top: how many labels; all of them if `None`.
            probabilities: whether to compute the softmax over all labels as well.
            resize_mode: as for `JinaClipEncoder.encode_image`.
            rendering: the same.
            resampling: the same.
            limits: the same.
            failed: gets the errors of unreadable images, by position; the result has no entry for these images. `None`
                raises the first error.
            notes: gets what there is to say about images that were taken, by position.

        Returns:
            For each image its labels, the nearest first; labels that are equally near are in the order of `labels`.

        Raises:
            ImageDecodeError: an image is unreadable or too large; its position is named. Not with `failed`.
            ConfigError: `top` is below 1, the model has no temperature for `probabilities`, or an option that
                `JinaClipEncoder.encode_image` refuses.
        """
        results: list[list[LabelScore]] = []
        with closing(
            self.stream(
                as_list(images, "images"),
                top=top,
                probabilities=probabilities,
                resize_mode=resize_mode,
                rendering=rendering,
                resampling=resampling,
                limits=limits,
                notes=notes,
            )
        ) as found:
            for position, result in enumerate(found):
                if not isinstance(result, ImageDecodeError):
                    results.append(result)
                elif failed is None:
                    raise result
                else:
                    failed[position] = result
        return results

    def stream(
        self,
        images: Iterable[ImageInput],
        *,
        top: int | None = None,
        probabilities: bool = False,
        resize_mode: ResizeMode | None = None,
        rendering: Rendering = "as_stored",
        resampling: Resampling = "exact",
        limits: ImageLimits | None = None,
        notes: dict[int, list[ImageNote]] | None = None,
    ) -> Generator[list[LabelScore] | ImageDecodeError, None, None]:
        """Classify any number of pictures one after another; the next ones are read while the model computes.

        Args:
            images: as for `JinaClipEncoder.stream_images`. Close the result if not all of it is wanted.
            top: as for `classify`, like the other options.
            probabilities: the same.
            resize_mode: the same.
            rendering: the same.
            resampling: the same.
            limits: the same.
            notes: the same; they are there when the image is yielded.

        Yields:
            For each image, in order, what `classify` returns for it, or the error that says why it cannot be read.

        Raises:
            InputError: `images` is one image.
            ConfigError: as for `classify`.
        """
        count, scale = self._check_top(top), self._scale() if probabilities else None
        with closing(
            self.encoder.stream_images(
                images,
                truncate_dim=self.truncate_dim,
                resize_mode=resize_mode,
                rendering=rendering,
                resampling=resampling,
                limits=limits,
                notes=notes,
            )
        ) as found:
            for result in found:
                if isinstance(result, ImageDecodeError):
                    yield result
                else:
                    yield self._nearest(np.asarray(result), count, scale)

    def rank(
        self, vectors: NDArray[np.float32], *, top: int | None = None, probabilities: bool = False
    ) -> list[list[LabelScore]]:
        """Find the nearest labels of pictures whose vectors are known.

        Args:
            vectors: (B, E) float32, or (B, truncate_dim), rows of unit L2 norm.
            top: as for `classify`.
            probabilities: the same.

        Returns:
            For each row its labels, as `classify` does.

        Raises:
            EmbeddingDimError: the rows have another length than the labels' vectors.
            ConfigError: as for `classify`.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.vectors.shape[1]:
            raise EmbeddingDimError(
                f"`vectors` has the shape {vectors.shape}: (B, {self.vectors.shape[1]}) is needed, the length of the "
                "labels' vectors"
            )
        count, scale = self._check_top(top), self._scale() if probabilities else None
        return [self._nearest(vector, count, scale) for vector in vectors]

    def _encode_labels(self) -> NDArray[np.float32]:
        step = max(1, _TEXTS_AT_ONCE // len(self.templates))
        means = []
        for start in range(0, len(self.labels), step):
            part = self.labels[start : start + step]
            texts = [fill(template, label) for label in part for template in self.templates]
            rows = self.encoder.encode_text(texts, truncate_dim=self.truncate_dim)
            means.append(rows.reshape(len(part), len(self.templates), -1).mean(axis=1, dtype=np.float64))
        return normalize(np.concatenate(means).astype(np.float32))

    def _nearest(self, vector: NDArray[np.float32], count: int, scale: float | None) -> list[LabelScore]:
        """The labels that are nearest to (E,)."""
        scores = (self._columns @ vector.astype(np.float64)).astype(np.float32)  # (L,)
        order = np.argsort(-scores, kind="stable")[:count]
        shares = None if scale is None else _softmax(scale, scores)
        return [
            LabelScore(
                label=self.labels[at],
                score=float(scores[at]),
                probability=None if shares is None else float(shares[at]),
            )
            for at in order
        ]

    def _check_top(self, top: object) -> int:
        if top is None:
            return len(self.labels)
        if not isinstance(top, int) or isinstance(top, bool) or top < 1:
            raise ConfigError(f"`top` is {top!r}: None, or an int of at least 1 is needed")
        return top

    def _scale(self) -> float:
        """By how much cosines are multiplied before the softmax."""
        name, origin = self.encoder.name, self.encoder.origin
        scale = None if origin is None else origin.logit_scale()
        if scale is None:
            remedy = "an earlier version exported it; export it again"
            if origin is None:
                remedy = "load it with `JinaClipEncoder.load`"
            raise ConfigError(
                f"`probabilities` needs the temperature that the model was trained with, and {name!r} comes without: "
                f"{remedy}, or leave out `probabilities`"
            )
        return math.exp(scale)


def _softmax(scale: float, scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of scaled cosines: (L,) -> (L,)."""
    logits = scale * scores.astype(np.float64)
    shares: NDArray[np.float64] = np.exp(logits - logits.max())
    shares /= shares.sum()
    return shares
