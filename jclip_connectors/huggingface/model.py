"""jina-clip for transformers 5: importing this module registers native classes with the Auto classes.

    import jclip_connectors.huggingface
    model = AutoModel.from_pretrained("jinaai/jina-clip-v2")

The checkpoint's `auto_map` names code in another repository. transformers asks before it runs that code, unless a class
is registered for the `model_type`. These classes are registered, so transformers does not ask and does not run the
code, not even with `trust_remote_code=True`.
Weights are read by `core_encoder.torch.loading`: strictly, from safetensors only, adapters merged, each weight once.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPOutput
from transformers.utils.generic import ModelOutput

from core_encoder.checkpoint import FILES
from core_encoder.encoder_module import EncoderModule
from core_encoder.errors import InputError
from core_encoder.image_input import ImageInput
from core_encoder.models import default_revision
from core_encoder.tokenization import pack
from core_encoder.torch.runtime import packed_features
from jclip_connectors.huggingface.arguments import (
    Vectors,
    as_result,
    check_batch_size,
    check_device,
    check_tokenizer_arguments,
    progress_bar,
)
from jclip_connectors.huggingface.loading import JinaCLIPConfig, check_arguments, check_config, download, precision_of
from jclip_connectors.huggingface.processor import JinaCLIPImageProcessor, JinaCLIPProcessor, as_images, is_one_image

_Output = TypeVar("_Output", bound=ModelOutput)


class JinaCLIPModel(PreTrainedModel):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """jina-clip v1 or v2 as a model of transformers; create it with `from_pretrained`.

    Attributes:
        encoder_module: both towers; its `encoder` is the `JinaClipEncoder` that `encode_text` and `encode_image` call.
    """

    config_class = JinaCLIPConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: JinaCLIPConfig, encoder_module: EncoderModule) -> None:
        """Wrap a loaded encoder; call `from_pretrained` instead."""
        super().__init__(config)
        self.encoder_module = encoder_module
        self.train(mode=False)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the base class's other arguments are refused by name
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: JinaCLIPConfig | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        token: str | bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - what transformers' own classes take; refused by name
    ) -> Self:
        """Load a checkpoint onto the CPU; `.to("cuda")` moves it.

        Args:
            pretrained_model_name_or_path: hub id or folder.
            config: as `AutoConfig` read it; only `truncate_dim` and `return_dict` may differ from the file.
            dtype: `torch.float32` or `torch.bfloat16`; float32 if `None` or "auto", as the published model on a CPU.
            torch_dtype: the older name of `dtype`.
            revision: commit, branch or tag. `None` takes the pinned commit of a known model; `AutoModel` resolves
                `None` to the newest commit before it calls this.
            local_files_only: use the local cache and never the network.
            cache_dir: folder for downloads; the usual cache if `None`.
            force_download: download again.
            token: access token of the hub.
            **kwargs: refused by name, except those that ask for what is done anyway.

        Raises:
            ConfigError: an argument or a field of config.json is not supported.
            CheckpointError: files are absent or damaged; `MissingWeightsError` and `WeightShapeError` name tensors.
        """
        check_arguments(kwargs)
        source = pretrained_model_name_or_path
        folder = Path(source)
        if not folder.is_dir():
            folder = download(
                str(source),
                revision=default_revision(str(source)) if revision is None else revision,
                local_files_only=local_files_only,
                cache_dir=cache_dir,
                force_download=force_download,
                token=token,
            )
        config, attention = check_config(config, folder, str(source))
        precision = precision_of(dtype if dtype is not None else torch_dtype)
        module = EncoderModule.load(folder, device="cpu", precision=precision, attention=attention)
        return cls(config, module)

    @classmethod
    def _from_config(cls, *_: object, **__: object) -> NoReturn:
        """Refuse `AutoModel.from_config`: random weights are for training, which is not supported."""
        raise NotImplementedError("a jina-clip model needs its weights: use `from_pretrained`")

    def encode_text(
        self,
        sentences: str | Iterable[str],
        task: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,  # noqa: FBT001 - in this order in the published class
        convert_to_numpy: bool = True,  # noqa: FBT001, FBT002 - likewise
        convert_to_tensor: bool = False,  # noqa: FBT001, FBT002 - likewise
        device: str | torch.device | None = None,
        normalize_embeddings: bool = True,  # noqa: FBT001, FBT002 - likewise
        truncate_dim: int | None = None,
        *,
        max_length: int | None = None,
        **tokenizer_kwargs: object,
    ) -> Vectors:
        """Encode texts, with the arguments of the published class.

        Args:
            sentences: one text, or B of them.
            task: "retrieval.query" for search queries (v2); `None` for documents and captions.
            batch_size: has no effect. Batches are made by the number of tokens, and a vector does not depend on its
                batch.
            show_progress_bar: show a bar on the terminal.
            convert_to_numpy: return an array; if this and `convert_to_tensor` are false, a list of tensors.
            convert_to_tensor: return a tensor on the model's device instead of an array.
            device: move the model there first.
            normalize_embeddings: scale to unit length, after truncation.
            truncate_dim: keep this many values; `config.truncate_dim` if `None`.
            max_length: cut longer texts to this many tokens; 8192 if `None` (the published class: 512).
            **tokenizer_kwargs: `truncation=False` refuses longer texts. `padding` and the like have no effect. Every
                other argument is refused by name.

        Returns:
            (B, E) float32; (E,) for one text; or a list of B tensors (E,).

        Raises:
            InputError, ConfigError, EmbeddingDimError: as `JinaClipEncoder.encode_text`; `TextTooLongError` with
                `truncation=False`; `ConfigError` also names an argument that is not supported.
        """
        overflow = check_tokenizer_arguments(tokenizer_kwargs)
        check_batch_size(batch_size)
        self._move(device)
        with progress_bar(shown=show_progress_bar) as progress:
            rows = self.encoder_module.encoder.encode_text(
                [sentences] if isinstance(sentences, str) else sentences,
                task=task,
                truncate_dim=self._dim(truncate_dim),
                normalize=normalize_embeddings,
                max_tokens=max_length,
                overflow=overflow,
                progress=progress,
            )
        return as_result(
            rows,
            self.device,
            single=isinstance(sentences, str),
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
        )

    def encode_image(
        self,
        images: ImageInput | Iterable[ImageInput],
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,  # noqa: FBT001 - as for `encode_text`
        convert_to_numpy: bool = True,  # noqa: FBT001, FBT002 - likewise
        convert_to_tensor: bool = False,  # noqa: FBT001, FBT002 - likewise
        device: str | torch.device | None = None,
        normalize_embeddings: bool = True,  # noqa: FBT001, FBT002 - likewise
        truncate_dim: int | None = None,
    ) -> Vectors:
        """Encode images, with the arguments of the published class.

        Args:
            images: one image, or B of them: paths, data URIs, bytes, PIL images or uint8 arrays; no URLs.
            batch_size: as for `encode_text`.
            show_progress_bar: as for `encode_text`.
            convert_to_numpy: as for `encode_text`.
            convert_to_tensor: as for `encode_text`.
            device: as for `encode_text`.
            normalize_embeddings: as for `encode_text`.
            truncate_dim: as for `encode_text`.

        Returns:
            (B, E) float32; (E,) for one image; or a list of B tensors (E,).

        Raises:
            ImageDecodeError, EmbeddingDimError: as `JinaClipEncoder.encode_image`.
            ConfigError: `device` or `batch_size` has a bad value.
        """
        check_batch_size(batch_size)
        self._move(device)
        single = is_one_image(images)
        with progress_bar(shown=show_progress_bar) as progress:
            rows = self.encoder_module.encoder.encode_image(
                as_images(images),
                truncate_dim=self._dim(truncate_dim),
                normalize=normalize_embeddings,
                progress=progress,
            )
        return as_result(
            rows, self.device, single=single, convert_to_numpy=convert_to_numpy, convert_to_tensor=convert_to_tensor
        )

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Raw features of tokenized texts.

        Args:
            input_ids: (B, L) int64; pad tokens are ignored, at any position.
            attention_mask: (B, L) as the tokenizer made it. The models go by the pad token alone.
            token_type_ids: (B, L) zeros, or `None`.
            return_dict: `False` gives a tuple; `config.return_dict` if `None`.

        Returns:
            `pooler_output`, (B, E) float32: the mean over each text's tokens, not normalised.

        Raises:
            InputError: `attention_mask` hides a token that is not padding, a token type is not 0, or a text is empty.
        """
        features = self._text_features(input_ids, attention_mask, token_type_ids)
        return self._output(_pooled(features), return_dict)

    def get_image_features(
        self, pixel_values: Tensor, *, return_dict: bool | None = None
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Raw features of preprocessed images.

        Args:
            pixel_values: (B, 3, S, S) as the image processor made them.
            return_dict: `False` gives a tuple; `config.return_dict` if `None`.

        Returns:
            `pooler_output`, (B, E) float32: the class token, not normalised.

        Raises:
            InputError: another shape.
        """
        features = self._image_features(pixel_values)
        return self._output(_pooled(features), return_dict)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        return_dict: bool | None = None,
    ) -> CLIPOutput | tuple[Any, ...]:
        """Embed texts, images or both, and compare them.

        Args:
            input_ids: (T, L) int64, or `None`.
            pixel_values: (I, 3, S, S), or `None`.
            attention_mask: as for `get_text_features`.
            token_type_ids: as for `get_text_features`.
            return_dict: as for `get_text_features`.

        Returns:
            `text_embeds` (T, E) and `image_embeds` (I, E), rows of unit length, and `logits_per_image` (I, T) with its
            transpose `logits_per_text`: the scaled cosine; outputs without input are `None`.

        Raises:
            InputError: neither texts nor images.
        """
        if input_ids is None and pixel_values is None:
            raise InputError("pass `input_ids`, `pixel_values` or both")
        text = None if input_ids is None else self._text_features(input_ids, attention_mask, token_type_ids)
        image = None if pixel_values is None else self._image_features(pixel_values)
        logits = None
        if text is not None and image is not None:
            logits = self.encoder_module.towers.similarity(image, text)  # (I, T)
        output = CLIPOutput(
            logits_per_image=logits,
            logits_per_text=None if logits is None else logits.T,
            text_embeds=None if text is None else torch.nn.functional.normalize(text, dim=-1),
            image_embeds=None if image is None else torch.nn.functional.normalize(image, dim=-1),
            text_model_output=None if text is None else _pooled(text),  # type: ignore[arg-type]  # CLIP has both
            vision_model_output=None if image is None else _pooled(image),  # type: ignore[arg-type]  # CLIP has both
        )
        return self._output(output, return_dict)

    def save_pretrained(self, *_: object, **__: object) -> NoReturn:
        """Refuse: the adapters are merged into the weights, so the published layout cannot be written again."""
        raise NotImplementedError(
            f"this model cannot be saved: copy the checkpoint instead, {list(FILES)} of {self.name_or_path!r}"
        )

    def push_to_hub(self, *_: object, **__: object) -> NoReturn:  # type: ignore[override]  # it takes nothing
        """Refuse before anything is created on the hub."""
        self.save_pretrained()

    def _text_features(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        pad = self.encoder_module.towers.config.text.pad_token_id
        if attention_mask is not None and bool(((attention_mask == 0) & (input_ids != pad)).any()):
            raise InputError(f"`attention_mask` hides tokens: this model can hide only pad tokens (id {pad})")
        if token_type_ids is not None and bool(token_type_ids.any()):
            raise InputError("`token_type_ids` holds a type other than 0: the model knows only type 0")
        packed = pack(input_ids.tolist(), pad_token_id=pad)
        return packed_features(self.encoder_module.towers, packed)

    def _image_features(self, pixel_values: Tensor) -> Tensor:
        side = self.encoder_module.towers.config.vision.image_size
        if pixel_values.shape[1:] != (3, side, side):
            raise InputError(f"`pixel_values` has shape {tuple(pixel_values.shape)}: (B, 3, {side}, {side}) is needed")
        features: Tensor = self.encoder_module.towers.vision(pixel_values.to(self.device, self.dtype))
        return features

    def _dim(self, truncate_dim: int | None) -> int | None:
        return self.config.truncate_dim if truncate_dim is None else truncate_dim

    def _move(self, device: str | torch.device | None) -> None:
        place = check_device(device)
        if place is not None:
            self.to(place)  # type: ignore[arg-type]  # the decorator in transformers hides the arguments

    def _output(self, output: _Output, return_dict: bool | None) -> _Output | tuple[Any, ...]:  # noqa: FBT001 - tri-state
        keep = self.config.return_dict if return_dict is None else return_dict
        return output if keep else output.to_tuple()


def _pooled(features: Tensor) -> BaseModelOutputWithPooling:
    return BaseModelOutputWithPooling(pooler_output=cast("torch.FloatTensor", features))


AutoConfig.register("jina_clip", JinaCLIPConfig, exist_ok=True)
AutoModel.register(JinaCLIPConfig, JinaCLIPModel, exist_ok=True)
AutoImageProcessor.register(
    JinaCLIPConfig,
    image_processor_classes={"pil": JinaCLIPImageProcessor, "torchvision": JinaCLIPImageProcessor},
    exist_ok=True,
)
AutoProcessor.register(JinaCLIPConfig, JinaCLIPProcessor, exist_ok=True)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
