"""Write a checkpoint of the published models' full size with random weights; v2 has 999 tensors, 1.73 GB in F16.

python -m benchmarks.full_size_checkpoint FOLDER
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from core_encoder.config import ModelConfig, parse_config
from core_encoder.models import WEIGHTS_FILE
from core_encoder.weights import weight_table

_ADAPTERS: dict[str, object] = {
    "lora_adaptations": ["retrieval.query"],
    "lora_alpha": 4,
    "lora_rank": 4,
    "task_instructions": {"retrieval.query": "Represent the query for retrieving evidence documents: "},
}
_VISION: dict[str, object] = {
    "head_width": 64,
    "mlp_ratio": 2.6667,
    "naive_swiglu": True,
    "qkv_bias": True,
    "rope_embeddings": True,
    "subln": True,
}
# The text section, and the part of the vision section in which the two models differ.
_V2: tuple[dict[str, object], dict[str, object]] = (
    {
        "default_lora_task": "retrieval.query",
        "hf_model_name_or_path": "jinaai/jina-embeddings-v3",
        "pooler_type": "mean_pooler",
    },
    {"image_size": 512, "intp_freq": True, "layers": 24, "patch_size": 14, "pt_hw_seq_len": 16, "width": 1024},
)
_V1: tuple[dict[str, object], dict[str, object]] = (
    {"hf_model_name_or_path": "jinaai/jina-bert-flash-implementation", "pooler_type": "mean_pooler"},
    {"image_size": 224, "intp_freq": False, "layers": 12, "patch_size": 16, "pt_hw_seq_len": 14, "width": 768},
)
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_AMPLITUDE = 0.04  # of the uniform random weights


@dataclass(frozen=True, kw_only=True)
class Size:
    """Which published model, and how much of it.

    Attributes:
        model: "v2" or "v1"; widths, heads and image size are always those of the published model.
        text_layers: of the text tower; all of them if `None`.
        image_layers: of the image tower; all of them if `None`.
        vocab_size: rows of the embedding; those of the published model if `None`.
    """

    model: Literal["v1", "v2"] = "v2"
    text_layers: int | None = None
    image_layers: int | None = None
    vocab_size: int | None = None

    @property
    def name(self) -> str:
        """Names a folder."""
        parts = [str(value) for value in asdict(self).values() if value is not None]
        return "-".join(["jclip-full-size", *parts])


V2 = Size()


def raw_config(size: Size) -> dict[str, object]:
    """The config.json of a checkpoint of this size."""
    changed = {"num_hidden_layers": size.text_layers, "vocab_size": size.vocab_size}
    overlay = {name: value for name, value in changed.items() if value is not None}
    text, vision = _V2 if size.model == "v2" else _V1
    return {
        "model_type": "jina_clip",
        "add_projections": False,
        "matryoshka_dimensions": [32, 64, 128, 256, 512, 768, 1024] if size.model == "v2" else [],
        "text_config": text | {"hf_model_config_kwargs": _ADAPTERS | overlay if size.model == "v2" else overlay},
        "vision_config": _VISION | vision | ({} if size.image_layers is None else {"layers": size.image_layers}),
    }


def tensor_shapes(config: ModelConfig) -> dict[str, list[int]]:
    """Name and shape of every tensor of a checkpoint of this configuration."""
    shapes: dict[str, list[int]] = {}
    for weight in weight_table(config):
        shapes |= weight.expected_shapes(config.text.lora)
    return shapes


def random_tensors(config: ModelConfig) -> dict[str, NDArray[np.float16]]:
    """Uniform values; the scales of norms are around 1."""
    generator = np.random.default_rng(0)
    tensors: dict[str, NDArray[np.float16]] = {}
    for name, shape in tensor_shapes(config).items():
        values = (generator.random(shape, np.float32) * 2 - 1) * np.float32(_AMPLITUDE)
        is_scale = name.endswith("weight") and ("norm" in name or "_ln" in name)
        tensors[name] = np.asarray(values + is_scale, np.float16)
    return tensors


def write(folder: Path, size: Size = V2) -> Path:
    """Write the four files, unless they are there.

    Args:
        folder: where to.
        size: how much of which model.

    Returns:
        `folder`.
    """
    if (folder / WEIGHTS_FILE).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    raw = raw_config(size)
    config = parse_config(raw)
    preprocessing = {
        "fill_color": 0,
        "interpolation": "bicubic",
        "mean": MEAN,
        "resize_mode": "shortest",
        "size": config.vision.image_size,
        "std": STD,
    }
    (folder / "config.json").write_text(json.dumps(raw, indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2))
    shutil.copyfile(Path(__file__).parents[1] / "core_encoder" / "nano" / "tokenizer.json", folder / "tokenizer.json")
    tensors = random_tensors(config)
    save_file(tensors, folder / f"{WEIGHTS_FILE}.tmp")
    (folder / f"{WEIGHTS_FILE}.tmp").rename(folder / WEIGHTS_FILE)
    print(f"{folder}: {len(tensors)} tensors, {(folder / WEIGHTS_FILE).stat().st_size:,} bytes")
    return folder


def kept(size: Size) -> Path:
    """A checkpoint of this size in the folder for temporary files, where later runs find it."""
    return write(Path(tempfile.gettempdir()) / size.name, size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
