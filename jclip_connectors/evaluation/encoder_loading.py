"""The model of ours that a process evaluates: loading it, what there is to say about it, and its lengths of vectors."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core_encoder.matryoshka import check_dim
from jclip_connectors.errors import MissingDependencyError
from jclip_connectors.evaluation.job import ModelChoice

if TYPE_CHECKING:
    from core_encoder import JinaClipEncoder


def load_encoder(choice: ModelChoice) -> "JinaClipEncoder":
    """Load the model.

    Raises:
        CheckpointError: files are absent or damaged.
        ConfigError: an option that this model or runtime does not have.
        MissingDependencyError: the runtime is not installed.
    """
    try:
        from core_encoder.encoder import JinaClipEncoder

        return JinaClipEncoder.load(
            choice.source,
            revision=choice.revision,
            precision=choice.precision,
            runtime=choice.runtime,
            device=choice.device,
        )
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local" if error.name == "torch" else "onnx") from error


def model_facts(encoder: "JinaClipEncoder") -> Mapping[str, str | int | None]:
    """What determines the vectors of a loaded model, for the results."""
    origin = encoder.origin
    return {
        "name": encoder.name,
        "revision": None if origin is None else origin.revision,
        "weights_sha256": None if origin is None else origin.weights_hash(),
        "embedding_dim": encoder.embedding_dim,
        "precision": encoder.precision,
        "runtime": encoder.runtime.name,
        "device": encoder.device,
    }


def vector_lengths(encoder: "JinaClipEncoder", asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """The lengths that are evaluated, the longest first; `None` asks for the full one and those of the training.

    Raises:
        EmbeddingDimError: a length is not in 1..E.
    """
    lengths = (encoder.embedding_dim, *encoder.matryoshka_dims) if asked is None else asked
    for length in lengths:
        check_dim(length, encoder.embedding_dim)
    if asked is not None and not encoder.matryoshka_dims and min(lengths) < encoder.embedding_dim:
        warnings.warn(f"{encoder.name!r} was not trained for shortened vectors", category=UserWarning, stacklevel=2)
    return tuple(sorted(set(lengths), reverse=True))
