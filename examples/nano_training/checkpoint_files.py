"""The four files of nano's checkpoint, laid out as jina-clip-v2's: configuration, preprocessing, tokenizer, weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from torch import Tensor

from core_encoder.config import ModelConfig, parse_config
from core_encoder.models import WEIGHTS_FILE
from core_encoder.nano.scenes import SIDE_PX
from core_encoder.nano.wording import LANGUAGES
from core_encoder.torch.model import JinaClip
from core_encoder.weights import weight_table
from nano_training.descriptions import wordings

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # in the order of their ids, which are XLM-R's
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_MARKS = ".,:;!?'\"()-，。"

WIDTH = 128
PATCH_PX = 9
PREFIXES = (16, 32, 64, 128)
_VISION_LAYERS = 5
_TEXT_LAYERS = 3
_HEADS = 4
_TEXT_MLP_WIDTH = 512


def build_tokenizer() -> Tokenizer:
    """Build a WordPiece tokenizer that knows every word of the captions, and spells the rest."""
    normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
    )
    splitter = pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for language in LANGUAGES
        for text in wordings(language)
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    pieces = [*_LETTERS, *_MARKS]
    tokens = [*_SPECIAL, *pieces, *(f"##{letter}" for letter in _LETTERS), *sorted(words.difference(pieces))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="<unk>"))  # noqa: S106 - a token, no password
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def config_json(vocab_size: int) -> dict[str, Any]:
    """Return nano's config.json: the fields of jina-clip-v2's, with small numbers."""
    return {
        "add_projections": False,
        "architectures": ["JinaCLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "matryoshka_dimensions": list(PREFIXES),
        "model_type": "jina_clip",
        "projection_dim": WIDTH,
        "text_config": {
            "default_instruction_task": None,
            "default_lora_task": "retrieval.query",
            "embed_dim": WIDTH,
            "hf_model_config_kwargs": {
                "hidden_size": WIDTH,
                "intermediate_size": _TEXT_MLP_WIDTH,
                "load_trained_adapters": False,
                "lora_adaptations": ["retrieval.query"],
                "lora_alpha": 1,
                "lora_dropout_p": 0.0,
                "lora_main_params_trainable": False,
                "lora_rank": 1,
                "num_attention_heads": _HEADS,
                "num_hidden_layers": _TEXT_LAYERS,
                "task_instructions": {"retrieval.query": ""},
                "use_flash_attn": False,
                "vocab_size": vocab_size,
            },
            "hf_model_name_or_path": "jinaai/jina-embeddings-v3",
            "model_type": "jina_clip_text",
            "pooler_type": "mean_pooler",
            "proj_bias": False,
            "proj_type": None,
        },
        "torch_dtype": "float16",
        "truncate_dim": None,
        "vision_config": {
            "embed_dim": WIDTH,
            "fused_layer_norm": False,
            "head_width": WIDTH // _HEADS,
            "image_size": SIDE_PX,
            "intp_freq": True,
            "layers": _VISION_LAYERS,
            "ls_init_value": None,
            "mlp_ratio": 2.6667,
            "model_type": "jina_clip_vision",
            "naive_swiglu": True,
            "patch_dropout": 0.0,
            "patch_size": PATCH_PX,
            "post_norm": False,
            "proj_type": None,
            "pt_hw_seq_len": 16,
            "qkv_bias": True,
            "rope_embeddings": True,
            "subln": True,
            "width": WIDTH,
            "x_attention": True,
        },
    }


_PREPROCESSOR_JSON = {
    "fill_color": 0,
    "image_processor_type": "JinaCLIPImageProcessor",
    "interpolation": "bicubic",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "processor_class": "JinaCLIPProcessor",
    "resize_mode": "shortest",
    "size": SIDE_PX,
    "std": [0.26862954, 0.26130258, 0.27577711],
}


def model_config(tokenizer: Tokenizer) -> ModelConfig:
    """Return nano's configuration as the loader reads it."""
    return parse_config(config_json(tokenizer.get_vocab_size()))


def write_checkpoint(folder: Path, model: JinaClip, tokenizer: Tokenizer) -> None:
    """Write the four files, each under a temporary name first; weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config_json(tokenizer.get_vocab_size()))
    _write_json(folder / "preprocessor_config.json", _PREPROCESSOR_JSON)
    _write(folder / "tokenizer.json", (tokenizer.to_str(pretty=True) + "\n").encode())
    _write(folder / WEIGHTS_FILE, save(_tensors(model), metadata={"format": "pt"}))


def _tensors(model: JinaClip) -> dict[str, Tensor]:
    """Name the model's parameters as v2 does; every adapter is a fresh one that adds nothing: random A, zero B."""
    generator = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())
    lora = model.config.text.lora
    tensors = {}
    for weight in weight_table(model.config):
        parameter = parameters[weight.target].detach()
        index, count = weight.part
        value = parameter if count == 1 else parameter.chunk(count)[index]
        for name, shape in weight.expected_shapes(lora).items():
            if name.endswith("lora_A"):
                tensors[name] = torch.randn(shape, generator=generator).mul(0.02).half()
            elif name.endswith("lora_B"):
                tensors[name] = torch.zeros(shape, dtype=torch.float16)
            else:
                tensors[name] = value.half().contiguous().clone()
    return tensors


def _write_json(path: Path, value: dict[str, Any]) -> None:
    _write(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
