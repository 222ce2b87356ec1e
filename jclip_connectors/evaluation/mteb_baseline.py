"""A model of mteb's own as a baseline: what it loads, with the vectors that it gives."""

from collections.abc import Sequence
from typing import Any

import mteb

from jclip_connectors.errors import EmbedInputError, EvaluationError
from jclip_connectors.evaluation.figures import Variant
from jclip_connectors.evaluation.job import Job


class Baseline:
    """A model that mteb loads itself, in its full length only."""

    def __init__(self, job: Job) -> None:
        """Load the model of a job; some of mteb's loaders run code from the model's repository on the hub.

        Raises:
            EmbedInputError: mteb does not know the model, or a shorter length was asked for.
            EvaluationError: mteb cannot load it, which names what to install.
        """
        choice = job.model
        try:
            meta = mteb.get_model_meta(choice.source, choice.revision)
            model = meta.load_model(device=choice.device)
        except KeyError as error:
            raise EmbedInputError(f"mteb has no model {choice.source!r}: {error.args[0]}") from error
        except (ImportError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            raise EvaluationError(f"mteb cannot load {choice.source!r}: {error}") from error
        lengths = [meta.embed_dim] if isinstance(meta.embed_dim, int) else list(meta.embed_dim or ())
        if not lengths:
            raise EvaluationError(f"mteb does not say how long the vectors of {choice.source!r} are")
        length = max(lengths)
        if job.dimensions not in (None, (length,)) or job.variants != ("float32",):
            raise EmbedInputError(f"a model that mteb loads is evaluated in its full length, {length}, and in float32")
        self.facts = {"name": choice.source, "revision": meta.revision, "embedding_dim": length}
        self.settings: Sequence[tuple[int, Variant]] = [(length, "float32")]
        self._model = model

    def model(self, setting: tuple[int, Variant]) -> Any:  # noqa: ANN401, ARG002 (any model of mteb; it has one setting)
        """The model."""
        return self._model

    def new_data(self) -> None:
        """Nothing is kept."""
