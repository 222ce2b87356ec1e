"""One way to load a checkpoint, in a process of its own: prints what was loaded as JSON. Started by the benchmarks.

python -m benchmarks.loading_process WAY FOLDER
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from core_encoder.config import read_config
from core_encoder.models import WEIGHTS_FILE
from core_encoder.torch.loading import load_model
from core_encoder.torch.model import JinaClip
from core_encoder.weights import weight_table


def load_ours(folder: Path) -> JinaClip:
    """The package's loader."""
    return load_model(folder, read_config(folder), device=torch.device("cpu"), dtype=torch.float32)


def load_plainly(folder: Path) -> JinaClip:
    """Everything into memory, then to float32, then merged, then into the model."""
    config = read_config(folder)
    model = JinaClip(config).requires_grad_(requires_grad=False)
    tensors = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    parameters, lora = dict(model.named_parameters()), config.text.lora
    for weight in weight_table(config):
        index, count = weight.part
        if weight.adapter is None or lora is None:
            value = tensors[weight.key]
        else:
            a, b = (tensors[f"{weight.key}.0.lora_{letter}"][lora.active] for letter in "AB")
            merged = b @ a if weight.adapter == "linear" else a @ b
            value = tensors[f"{weight.key}.original"] + lora.scaling * merged
        parameters[weight.target].view(count, -1)[index].copy_(value.flatten())
    return model


_WAYS = {"torch": load_ours, "plain": load_plainly}


def main() -> None:
    """Load once and print the bytes and a sum of all weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=sorted(_WAYS))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    model = _WAYS[options.way](options.folder)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    total = sum(float(parameter.double().abs().sum()) for parameter in model.parameters())
    print(json.dumps({"weight_bytes": weights, "sum": total}))


if __name__ == "__main__":
    main()
