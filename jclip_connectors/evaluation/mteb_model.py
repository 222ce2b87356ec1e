"""jina-clip as a model of mteb, computed by our encoder. Importing this module registers it.

    import mteb
    import jclip_connectors.evaluation.mteb_model
    model = mteb.get_model("jinaai/jina-clip-v2")

As a program, it is mteb's own command with our models: `python -m jclip_connectors.evaluation.mteb_model run -m nano -t
STS12`. Results carry `implementation` in their name, so that they do not mix with those of mteb's own wrapper.
"""

import argparse
import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder import JinaClipEncoder
from core_encoder.config import read_config
from core_encoder.errors import ConfigError, ImageDecodeError
from core_encoder.models import KNOWN_MODELS, Precision, RuntimeChoice, find_folder, known_model
from core_encoder.origin import Origin
from jclip_connectors.errors import EmbedInputError, MissingDependencyError

try:
    from mteb.cli import main as run_mteb
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ModuleNotFoundError as error:
    raise MissingDependencyError(str(error.name), extra="eval") from error

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader

QueryPrefix = Literal["auto", "never"]

IMPLEMENTATION = "jclip"
_QUERY_TASKS = ("Retrieval", "Reranking")
_V2_DIMS = (1024, 768, 512, 256, 128, 64, 32)  # `matryoshka_dimensions` of its config.json


class MtebInputs(AbsEncoder):
    """How inputs of mteb are taken apart into texts and pictures, and which texts are search queries."""

    query_prefix: QueryPrefix = "auto"
    query_task: str | None  # the model's task for search queries

    def encode(
        self,
        inputs: "DataLoader[BatchedInput]",
        *,
        task_metadata: "TaskMetadata",
        prompt_type: PromptType | None = None,
        **_: Any,  # noqa: ANN401 (mteb's options, such as its batch size)
    ) -> NDArray[np.float32]:
        """Encode the inputs of a task, for mteb.

        Args:
            inputs: batches with "text" (strings), "image" (PIL images), or both.
            task_metadata: of the task.
            prompt_type: whether these are queries or documents, where the task has such.

        Returns:
            (N, E) float32. Where an input has both, the sum of its two vectors, as in mteb's own wrappers.

        Raises:
            EmbedInputError: the inputs have neither texts nor images.
        """
        columns = set(inputs.dataset.features) & {"text", "image"}  # type: ignore[attr-defined]
        if not columns:
            raise EmbedInputError(f"the inputs of {task_metadata.name} have neither texts nor images")
        texts: list[str] = []

        def pictures() -> Iterator[Image.Image]:
            for batch in inputs:
                texts.extend(batch.get("text", ()))
                yield from batch.get("image", ())

        rows = []
        if "image" in columns:
            rows.append(self.encode_pictures(pictures(), count=len(inputs.dataset)))  # type: ignore[arg-type]
        else:
            texts = [text for batch in inputs for text in batch["text"]]
        if "text" in columns:
            rows.append(self.encode_texts(texts, task=self._task(task_metadata, prompt_type)))
        return rows[0] if len(rows) == 1 else np.add(*rows)

    @abstractmethod
    def encode_texts(self, texts: Sequence[str], *, task: str | None) -> NDArray[np.float32]:
        """Encode texts: (N, E) float32."""

    @abstractmethod
    def encode_pictures(self, pictures: Iterable[Image.Image], *, count: int) -> NDArray[np.float32]:
        """Encode `count` pictures: (N, E) float32."""

    def _task(self, metadata: "TaskMetadata", prompt_type: PromptType | None) -> str | None:
        """The model's task for texts: its prefix is for the queries of text retrieval, not for captions."""
        is_query = prompt_type is PromptType.query and metadata.type in _QUERY_TASKS
        if self.query_prefix == "never" or not is_query or "image" in metadata.modalities:
            return None
        return self.query_task


class JinaClipMteb(MtebInputs):
    """A jina-clip model for mteb: rows are those of `JinaClipEncoder.encode_text` and `encode_image`."""

    def __init__(
        self,
        model_name: str,  # noqa: ARG002 (mteb passes it)
        revision: str | None = None,
        *,
        source: str,
        device: str | int | None = None,
        precision: Precision = "auto",
        runtime: RuntimeChoice = "auto",
        embed_dim: int | None = None,
        query_prefix: QueryPrefix = "auto",
        implementation: str = IMPLEMENTATION,  # noqa: ARG002 (it is in the name of the results)
    ) -> None:
        """Load the model, as mteb asks for it.

        Args:
            model_name: the name in mteb.
            revision: commit on the hub.
            source: hub id, folder or "nano".
            device: as for `JinaClipEncoder.load`, or the number of a GPU.
            precision: as for `JinaClipEncoder.load`.
            runtime: the same.
            embed_dim: how many values of each vector are kept; all of them if `None`.
            query_prefix: "auto" gives the model's prefix to the queries of text retrieval, "never" to none.
            implementation: a mark in the name of the results.

        Raises:
            CheckpointError, ConfigError, EmbeddingDimError, ImportError: as `JinaClipEncoder.load` and its methods.
        """
        self.query_prefix = query_prefix
        self.encoder = JinaClipEncoder.load(
            source,
            revision=revision if _folder(source) is None else None,
            device=f"cuda:{device}" if isinstance(device, int) else device,
            precision=precision,
            runtime=runtime,
        )
        self.query_task = self.encoder.query_task
        self.embed_dim = embed_dim

    def encode_texts(self, texts: Sequence[str], *, task: str | None) -> NDArray[np.float32]:
        """Encode texts: (N, E) float32, rows of unit L2 norm."""
        return self.encoder.encode_text(texts, task=task, truncate_dim=self.embed_dim)

    def encode_pictures(self, pictures: Iterable[Image.Image], *, count: int) -> NDArray[np.float32]:
        """Encode pictures, which are read while the model computes: (N, E) float32, rows of unit L2 norm."""
        rows = np.empty((count, self.encoder.embedding_dim if self.embed_dim is None else self.embed_dim), np.float32)
        for position, row in enumerate(self.encoder.stream_images(pictures, truncate_dim=self.embed_dim)):
            if isinstance(row, ImageDecodeError):
                raise row
            rows[position] = cast("NDArray[np.float32]", row)  # without tiles it is one vector
        return rows


def model_meta(
    source: str,
    *,
    revision: str | None = None,
    precision: Precision = "auto",
    runtime: RuntimeChoice = "auto",
    query_prefix: QueryPrefix = "auto",
) -> ModelMeta:
    """Describe a jina-clip model to mteb; its `load_model` gives a `JinaClipMteb`.

    Args:
        source: "jinaai/jina-clip-v2", "jinaai/jina-clip-v1", another hub id, a folder, or "nano".
        revision: commit on the hub; the two known models are pinned if `None`.
        precision: as for `JinaClipEncoder.load`; vectors of another precision than "auto" are other results.
        runtime: as for `JinaClipEncoder.load`.
        query_prefix: "auto" gives the model's prefix to the queries of text retrieval, "never" to none.

    Raises:
        CheckpointError, ConfigError: the folder is not a checkpoint, or `revision` was given for a local model.
    """
    if revision is not None and _folder(source) is not None:
        raise ConfigError(f"`revision` is {revision!r}, but {source!r} is local and has no revisions")
    known = known_model(source)
    if source in MODEL_REGISTRY:  # mteb's facts about training data, parameters and licences hold for us as well
        facts = MODEL_REGISTRY[source]
    else:
        facts = ModelMeta.create_empty({"name": _name(source), "revision": revision, "max_tokens": 8192})
    experiment = {"implementation": IMPLEMENTATION, "query_prefix": query_prefix}
    return facts.model_copy(
        update={
            "loader": JinaClipMteb,
            "loader_kwargs": {"source": source, "runtime": runtime},
            "revision": _revision(source) if revision is None else revision,
            "embed_dim": _dimensions(source),
            "framework": ["ONNX", "PyTorch", "safetensors"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": known is None or known.name != "jinaai/jina-clip-v1",
            "modalities": ["text", "image"],
            "experiment_kwargs": experiment if precision == "auto" else {**experiment, "precision": precision},
            "extra_requirements_groups": None,
            "output_dtypes": None,
        }
    )


def register(source: str, **options: Any) -> str:  # noqa: ANN401 (those of `model_meta`)
    """Let mteb know a model, in place of one of the same name; returns this name.

    Args:
        source: as for `model_meta`, like the options. A folder is "local/" with its name, nano is "jclip/nano".
        options: the same.
    """
    meta = model_meta(source, **options)
    name = str(meta.name)
    MODEL_REGISTRY[name] = meta
    return name


def main() -> None:
    """Run mteb's command; `--model` also takes "nano" and folders, `--model-revision` any commit."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--model")
    parser.add_argument("--model-revision", "--model_revision")
    given, others = parser.parse_known_args()
    if given.model is not None and (known_model(given.model) is not None or find_folder(given.model) is not None):
        name = register(given.model, revision=given.model_revision)
        sys.argv[1:] = [*others, "--model", name]
    run_mteb()


def _name(source: str) -> str:
    """The name in mteb, which has an owner."""
    if source == "nano":
        return "jclip/nano"
    folder = find_folder(source)
    return source if folder is None else f"local/{folder.resolve().name}"


def _revision(source: str) -> str | None:
    """The commit that a hub model is pinned to; for files, the first digits of their weights' hash."""
    known = known_model(source)
    if known is not None and known.revision is not None:
        return known.revision
    folder = _folder(source)
    return None if folder is None else Origin.of(source, folder).weights_hash()[:12]


def _dimensions(source: str) -> list[int] | int | None:
    """The lengths that mteb may ask for; a list where the model was trained for several."""
    folder = _folder(source)
    if folder is not None:
        config = read_config(folder)
        lengths = {config.embedding_dim, *config.matryoshka_dims}
        return config.embedding_dim if len(lengths) == 1 else sorted(lengths, reverse=True)
    known = known_model(source)
    if known is None:
        return None
    return list(_V2_DIMS) if known.matryoshka else known.embedding_dim


def _folder(source: str) -> Path | None:
    if source == "nano":
        import core_encoder.nano

        return Path(core_encoder.nano.__file__).parent
    return find_folder(source)


for _model in KNOWN_MODELS:
    register(_model.name)

if __name__ == "__main__":
    main()
