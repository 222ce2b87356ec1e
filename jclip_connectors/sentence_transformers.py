"""A `SentenceTransformer` that computes with our encoder: texts and images, mixed in one list, in the caller's order.

It only encodes. It cannot be saved or trained: the adapters are merged into the weights.
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

from jclip_connectors.errors import MissingDependencyError

try:
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modality import infer_modality
    from sentence_transformers.base.modality_types import Modality
    from sentence_transformers.base.modules import InputModule
except ModuleNotFoundError as error:
    raise MissingDependencyError(str(error.name), extra="sentence-transformers") from error

from core_encoder.encoder_module import EncoderModule
from core_encoder.errors import ConfigError, InputError
from core_encoder.matryoshka import check_dim
from core_encoder.models import AttentionChoice, Precision

__all__ = ["JinaClipModule", "JinaClipSentenceTransformer"]

_NOT_SAVED = "this model cannot be saved: keep the checkpoint that it was loaded from"


class JinaClipModule(InputModule):
    """The one module of the model: a batch of texts and images to `sentence_embedding`, rows of unit length."""

    def __init__(self, encoder_module: EncoderModule) -> None:
        """Wrap a loaded encoder.

        Args:
            encoder_module: both towers, and the encoder that computes with them.
        """
        super().__init__()  # type: ignore[no-untyped-call]  # sentence-transformers leaves it untyped
        self.encoder_module = encoder_module
        self.max_seq_length = encoder_module.encoder.max_tokens

    @property
    def modalities(self) -> list[Modality]:
        """The types of item that the model takes."""
        return ["text", "image"]

    def get_embedding_dimension(self) -> int:
        """Length E of a full vector."""
        return self.encoder_module.encoder.embedding_dim

    def preprocess(self, inputs: Sequence[object], prompt: str | None = None, **_: object) -> dict[str, Any]:
        """Mark each item as text or image; the encoder tokenizes, decodes and reads ahead while it computes.

        Args:
            inputs: a batch of texts and images.
            prompt: goes before each text.

        Raises:
            _ItemError: an item is neither a text nor an image.
        """
        return {"items": [_item(value, prompt or "") for value in inputs], "given": list(inputs)}

    def forward(self, features: dict[str, Any], **_: object) -> dict[str, Any]:
        """Encode a batch that `preprocess` made.

        Returns:
            The features and `sentence_embedding`, (B, E) float32 on the model's device, rows of unit L2 norm.

        Raises:
            _ItemError: an item cannot be read.
        """
        encoder, items = self.encoder_module.encoder, features["items"]
        rows = np.empty((len(items), encoder.embedding_dim), np.float32)
        for modality in ("text", "image"):
            positions = [position for position, item in enumerate(items) if item[0] == modality]
            values = [items[position][1] for position in positions]
            with _naming([features["given"][position] for position in positions]):
                if modality == "text":
                    rows[positions] = encoder.encode_text(values, max_tokens=self.max_seq_length)
                else:
                    rows[positions] = encoder.encode_image(values)
        return {**features, "sentence_embedding": torch.from_numpy(rows).to(encoder.device)}

    def save(self, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        raise NotImplementedError(_NOT_SAVED)


class JinaClipSentenceTransformer(SentenceTransformer):
    """jina-clip for code that takes a `SentenceTransformer`.

    An item is a text, or an image: a `Path`, bytes, a PIL image, a uint8 array, or a path, URI or base64 string that
    sentence-transformers recognises as an image (an existing file with an image extension, "data:image/...").
    {"text": ...} and {"image": ...} state the type. URLs are not fetched. The prompts "query" and "retrieval.query" are
    v2's prefix for search queries.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        attention: AttentionChoice = "auto",
        local_files_only: bool = False,
        truncate_dim: int | None = None,
    ) -> None:
        """Load a checkpoint, with the arguments and errors of `JinaClipEncoder.load`.

        Args:
            source: "jinaai/jina-clip-v2" (licence of the weights: CC-BY-NC-4.0), "jinaai/jina-clip-v1", another hub
                id, a folder, or "nano".
            revision: commit, branch or tag on the hub; the two known models are pinned if `None`.
            device: "cpu", "cuda", ...; `None` is CUDA if available, else the CPU.
            precision: "fp32" or "bf16"; "auto" is bf16 on CUDA and fp32 elsewhere.
            attention: how the text tower computes attention.
            local_files_only: use the local cache and never the network.
            truncate_dim: keep this many values of each vector; a call's own `truncate_dim` takes precedence.

        Raises:
            CheckpointError, ConfigError, EmbeddingDimError: as the encoder.
        """
        module = EncoderModule.load(
            source,
            revision=revision,
            device=device,
            precision=precision,
            attention=attention,
            local_files_only=local_files_only,
        )
        encoder = module.encoder
        prompts = {"query": "", "document": ""}
        if (task := encoder.query_task) is not None:
            prompts["query"] = prompts[task] = module.towers.config.text.task_instructions[task]
        super().__init__(
            modules=[JinaClipModule(module)],
            device=str(encoder.device),
            prompts=prompts,
            similarity_fn_name="cosine",
            truncate_dim=truncate_dim,
        )
        self._check_dim(truncate_dim)
        self.eval()

    def preprocess(self, inputs: Sequence[object], prompt: str | None = None, **kwargs: object) -> dict[str, Any]:
        """Pass a batch to the module; it may mix texts and images, which the base class refuses.

        Args:
            inputs: a batch of texts and images.
            prompt: goes before each text.
            **kwargs: options of the base class; no vector depends on them.
        """
        return self._module.preprocess(inputs, prompt=prompt, **kwargs)

    def encode(  # type: ignore[override]  # the options in between go to the base class as they are
        self,
        inputs: Any,  # noqa: ANN401 - the base class's
        prompt_name: str | None = None,
        prompt: str | None = None,
        **options: Any,  # noqa: ANN401 - the base class's
    ) -> Any:  # noqa: ANN401 - the base class's
        """Encode texts and images; `encode_query` and `encode_document` call this with their prompts.

        Args:
            inputs: one item, or a list of them.
            prompt_name: "query", "document", ...: a prompt goes before texts, never before images.
            prompt: the prefix itself.
            **options: `truncate_dim`, `precision`, `batch_size`, `convert_to_tensor`, ... as in the base class.
                `normalize_embeddings` has no effect: like the published pipeline, this one always normalises, after
                truncation.

        Returns:
            (B, E) float32, rows of unit L2 norm; (E,) for one item.

        Raises:
            InputError: an item cannot be encoded; its position is named.
            ConfigError: an `output_value` that the encoder does not have.
            EmbeddingDimError: `truncate_dim` is not in 1..E.
        """
        value = options.get("output_value", "sentence_embedding")
        if value != "sentence_embedding":
            raise ConfigError(f"`output_value` is {value!r}: this model gives only 'sentence_embedding'")
        self._check_dim(options.get("truncate_dim"))
        try:
            return super().encode(inputs, prompt_name, prompt, **{**options, "normalize_embeddings": True})
        except _ItemError as error:
            given = inputs if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes) else [inputs]
            position = next((i for i, item in enumerate(given) if item is error.item), None)
            where = "the item" if position is None else f"item {position}"
            raise error.error_type(where + error.reason) from error.__cause__

    def save(self, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        raise NotImplementedError(_NOT_SAVED)

    save_pretrained = push_to_hub = save

    @property
    def _module(self) -> JinaClipModule:
        return cast("JinaClipModule", self[0])

    def _check_dim(self, truncate_dim: int | None) -> None:
        if truncate_dim is None:
            return
        encoder = self._module.encoder_module.encoder
        check_dim(truncate_dim, encoder.embedding_dim)
        if not encoder.matryoshka_dims:
            warnings.warn(
                f"{encoder.name!r} was not trained for shortened vectors: `truncate_dim` {truncate_dim} loses more "
                "quality than with a model that was",
                category=UserWarning,
                stacklevel=3,
            )


class _ItemError(Exception):
    """An item cannot be encoded; keeps the item, because the base class sorts and splits the caller's list."""

    def __init__(self, item: object, reason: str, error_type: type[InputError]) -> None:
        """Keep what `encode` needs to name the item's position."""
        super().__init__(f"an item{reason}")
        self.item = item
        self.reason = reason
        self.error_type = error_type


def _item(value: Any, prompt: str) -> tuple[str, Any]:  # noqa: ANN401 - any item
    """Classify an item: ("text", the text with its prompt) or ("image", the image)."""
    if isinstance(value, os.PathLike | bytes):
        return "image", value
    try:
        modality = infer_modality(value, supported_modalities=["text", "image"])
    except ValueError as error:
        raise _ItemError(value, f": {error}", InputError) from error
    content = value[modality] if isinstance(value, Mapping) and modality in {"text", "image"} else value
    if modality == "image":
        return "image", content
    if modality != "text" or not isinstance(content, str):
        found = f"holds {modality!r}" if isinstance(value, Mapping) else f"is a {type(value).__name__}"
        raise _ItemError(value, f" {found}: one text or one image is needed", InputError)
    return "text", prompt + content


@contextmanager
def _naming(given: Sequence[object]) -> Iterator[None]:
    """Turn the encoder's error "item 3: ...", a position in `given`, into an error that keeps the item."""
    try:
        yield
    except InputError as error:
        found = re.match(r"item (\d+)", str(error))
        if found is None:
            raise
        raise _ItemError(given[int(found[1])], str(error)[found.end() :], type(error)) from error
