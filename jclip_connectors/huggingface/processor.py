"""The processor of jina-clip for transformers: token ids and pixel values as the encoder makes them."""

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Self, cast

import numpy as np
from PIL import Image
from transformers import BatchFeature, PreTrainedConfig, PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from core_encoder.config import MAX_TOKENS, parse_config
from core_encoder.errors import ConfigError, InputError
from core_encoder.image_input import ImageInput, load_image
from core_encoder.image_preprocess import PreprocessConfig, ResizeMode, preprocess_batch

_HUB_OPTIONS = frozenset(
    {"cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token"}
)
_FROM_AUTO = frozenset({"_from_auto", "trust_remote_code"})  # both are ignored: no code is run


class JinaCLIPImageProcessor(BaseImageProcessor):
    """Images to `pixel_values`; its attributes are the fields of preprocessor_config.json."""

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - the file's fields, those of other software included
        """Store the fields of preprocessor_config.json.

        Raises:
            ConfigError: a field is absent or its value is not supported.
        """
        super().__init__(**fields)
        self._options()

    def preprocess(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        resize_mode: ResizeMode | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Make the model's input.

        Args:
            images: one image or B of them: paths, bytes, data URIs, PIL images or (H, W, 3) uint8 arrays; no URLs.
            resize_mode: "shortest", "longest" or "squash"; the checkpoint's own if `None`.
            return_tensors: "pt" or "np"; `None` is numpy.

        Returns:
            `pixel_values`, (B, 3, S, S) float32.

        Raises:
            ImageDecodeError: an image cannot be read; its position is named.
            ConfigError: an unknown `resize_mode`.
        """
        loaded = [load_image(image, index=index) for index, image in enumerate(as_images(images))]
        pixel_values = preprocess_batch(loaded, self._options(), resize_mode)
        return BatchFeature({"pixel_values": pixel_values}, tensor_type=return_tensors)

    def _options(self) -> PreprocessConfig:
        return PreprocessConfig.from_json(vars(self))


class JinaCLIPProcessor(ProcessorMixin):
    """Texts and images to the model's inputs: `model(**processor(text=..., images=..., return_tensors="pt"))`."""

    def __init__(self, image_processor: JinaCLIPImageProcessor, tokenizer: PreTrainedTokenizerFast) -> None:
        """Combine the two; usually call `from_pretrained` instead."""
        super().__init__(image_processor, tokenizer)  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the options of a download are in `kwargs`
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        **kwargs: Any,  # noqa: ANN401 - checked by name
    ) -> Self:
        """Load config.json, preprocessor_config.json and tokenizer.json of a checkpoint.

        The ids come from the unchanged tokenizer.json: AutoTokenizer may build another class from its vocabulary.

        Args:
            pretrained_model_name_or_path: hub id or folder.
            **kwargs: `revision`, `local_files_only`, `cache_dir`, `token` and the other options of a download.

        Raises:
            ConfigError: another keyword, or a configuration that is not supported.
        """
        if unknown := sorted(kwargs.keys() - _HUB_OPTIONS - _FROM_AUTO):
            raise ConfigError(f"{unknown} cannot be set on the processor: {sorted(_HUB_OPTIONS)} can")
        hub = {name: value for name, value in kwargs.items() if name in _HUB_OPTIONS}
        config, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **hub)
        pad_token_id = parse_config(config).text.pad_token_id
        tokenizer = PreTrainedTokenizerFast.from_pretrained(pretrained_model_name_or_path, **hub)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_token_id)  # tokenizer_config.json may be absent
        return cls(JinaCLIPImageProcessor.from_pretrained(pretrained_model_name_or_path, **hub), tokenizer)

    def __call__(
        self,
        images: ImageInput | Iterable[ImageInput] | None = None,
        text: str | Sequence[str] | None = None,
        *,
        padding: bool | str = True,
        truncation: bool = True,
        max_length: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Make the model's inputs.

        Args:
            images: one image or several, as for the image processor.
            text: one text or several; a single text makes a batch of one.
            padding: as for a tokenizer of transformers; `True` pads to the longest text.
            truncation: cut texts longer than `max_length`, with one warning that counts them.
            max_length: tokens, special tokens included; 8192 if `None`.
            return_tensors: "pt" or "np".

        Returns:
            `input_ids` and `attention_mask` (B, L) for texts, `pixel_values` (B, 3, S, S) for images.

        Raises:
            InputError: neither texts nor images, a text that is not a str, or an image that cannot be read.
        """
        if images is None and text is None:
            raise InputError("pass `text`, `images` or both")
        data: dict[str, Any] = {}
        if text is not None:
            data |= self._tokenize(text, padding=padding, truncation=truncation, max_length=max_length)
        if images is not None:
            data |= self.image_processor(images)
        return BatchFeature(data, tensor_type=return_tensors)

    def save_pretrained(  # type: ignore[override]  # `push_to_hub` is refused by name
        self,
        save_directory: str | os.PathLike[str],
        **kwargs: Any,  # noqa: ANN401 - refused by name
    ) -> list[str]:
        """Write preprocessor_config.json and the tokenizer's files.

        Args:
            save_directory: the folder.
            **kwargs: none are supported.

        Raises:
            ConfigError: any other keyword.
        """
        if kwargs:
            raise ConfigError(f"{sorted(kwargs)} cannot be set here: pass the folder alone")
        return [*self.image_processor.save_pretrained(save_directory), *self.tokenizer.save_pretrained(save_directory)]

    def _tokenize(
        self, text: str | Sequence[str], *, padding: bool | str, truncation: bool, max_length: int | None
    ) -> dict[str, Any]:
        texts: list[object] = [text] if isinstance(text, str) else list(text)
        if bad := [index for index, item in enumerate(texts) if not isinstance(item, str)]:
            raise InputError(f"item {bad[0]}: a text must be a str, found {type(texts[bad[0]]).__name__}")
        limit = MAX_TOKENS if max_length is None else max_length
        batch = self.tokenizer(
            texts, padding=padding, truncation=truncation, max_length=limit, return_token_type_ids=False
        )
        if cut := sum(bool(encoding.overflowing) for encoding in batch.encodings):
            warnings.warn(f"{cut} of {len(texts)} texts were cut to {limit} tokens", category=UserWarning, stacklevel=3)
        return dict(batch)


def is_one_image(images: ImageInput | Iterable[ImageInput]) -> bool:
    """Whether `images` is one image; an array with four axes is several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)


def as_images(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """Make a list of one image or of several."""
    return [cast("ImageInput", images)] if is_one_image(images) else list(cast("Iterable[ImageInput]", images))
