"""Write a checkpoint of v2's full size (999 tensors, 1.73 GB, F16) with random weights.

python -m benchmarks.full_size_checkpoint FOLDER
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from core_encoder.config import ModelConfig, parse_config
from core_encoder.models import WEIGHTS_FILE
from core_encoder.weights import weight_table

_CONFIG = {
    "model_type": "jina_clip",
    "add_projections": False,
    "matryoshka_dimensions": [32, 64, 128, 256, 512, 768, 1024],
    "text_config": {
        "default_lora_task": "retrieval.query",
        "hf_model_config_kwargs": {
            "lora_adaptations": ["retrieval.query"],
            "lora_alpha": 4,
            "lora_rank": 4,
            "task_instructions": {"retrieval.query": "Represent the query for retrieving evidence documents: "},
        },
        "hf_model_name_or_path": "jinaai/jina-embeddings-v3",
        "pooler_type": "mean_pooler",
    },
    "vision_config": {
        "head_width": 64,
        "image_size": 512,
        "intp_freq": True,
        "layers": 24,
        "mlp_ratio": 2.6667,
        "naive_swiglu": True,
        "patch_size": 14,
        "pt_hw_seq_len": 16,
        "qkv_bias": True,
        "rope_embeddings": True,
        "subln": True,
        "width": 1024,
    },
}
_PREPROCESSING = {
    "fill_color": 0,
    "interpolation": "bicubic",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "resize_mode": "shortest",
    "size": 512,
    "std": [0.26862954, 0.26130258, 0.27577711],
}


def tensor_shapes(config: ModelConfig) -> dict[str, list[int]]:
    """Name and shape of every tensor of a checkpoint of this configuration."""
    shapes: dict[str, list[int]] = {}
    for weight in weight_table(config):
        shapes |= weight.expected_shapes(config.text.lora)
    return shapes


def write(folder: Path) -> Path:
    """Write the four files, unless they are there."""
    if (folder / WEIGHTS_FILE).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG, indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSING, indent=2))
    shutil.copyfile(Path(__file__).parents[1] / "core_encoder" / "nano" / "tokenizer.json", folder / "tokenizer.json")
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in tensor_shapes(parse_config(_CONFIG)).items():
        values = torch.empty(shape).uniform_(-0.04, 0.04, generator=generator)
        tensors[name] = (values + 1 if "norm" in name and name.endswith("weight") else values).half()
    save_file(tensors, folder / f"{WEIGHTS_FILE}.tmp")
    (folder / f"{WEIGHTS_FILE}.tmp").rename(folder / WEIGHTS_FILE)
    print(f"{folder}: {len(tensors)} tensors, {(folder / WEIGHTS_FILE).stat().st_size:,} bytes")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
