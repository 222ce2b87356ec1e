"""Memory and time of loading a full-size v2 checkpoint on the CPU, each side in a process of its own.

    python -m benchmarks.load [FOLDER] [--rounds N]

The baseline reads the whole file, converts it to float32 and merges the adapters matrix by matrix, as one would first
write it. Both sides print a checksum over every weight, which must agree.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.full_size_checkpoint import write
from benchmarks.timing import interleave, print_table
from core_encoder.config import read_config
from core_encoder.models import WEIGHTS_FILE
from core_encoder.torch.loading import load_model
from core_encoder.torch.model import JinaClip
from core_encoder.weights import weight_table

CLAIMED_PEAK = 1.25  # times the float32 weights


def load_ours(folder: Path) -> JinaClip:
    """The package's loader."""
    return load_model(folder, read_config(folder), device=torch.device("cpu"), dtype=torch.float32)


def load_plainly(folder: Path) -> JinaClip:
    """Everything into memory, then to float32, then merged, then into the model."""
    from safetensors.torch import load_file

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


def child(side: str, folder: Path) -> None:
    """Load once and print what it took."""
    model = {"ours": load_ours, "plain": load_plainly}[side](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    checksum = sum(float(parameter.double().abs().sum()) for parameter in model.parameters())
    print(json.dumps({"peak_bytes": peak, "weight_bytes": weights, "checksum": checksum}))


def run(side: str, folder: Path) -> dict[str, float]:
    """Load once in a new process."""
    command = [sys.executable, "-m", "benchmarks.load", str(folder), "--side", side]
    found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this very file
    result: dict[str, float] = json.loads(found.stdout)
    return result


def main() -> None:
    """Print peak memory against the float32 weights, then the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "jclip-full-size-v2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:
        child(options.side, options.folder)
        return
    folder = write(options.folder)
    found = {side: run(side, folder) for side in ("plain", "ours")}
    if abs(found["plain"]["checksum"] / found["ours"]["checksum"] - 1) > 1e-9:
        raise SystemExit("the two sides do not load the same weights: nothing is compared")
    for side, result in found.items():
        share = result["peak_bytes"] / result["weight_bytes"]
        met = "met" if share <= CLAIMED_PEAK else "MISSED"
        verdict = "" if side == "plain" else f"  claimed <= {CLAIMED_PEAK} ({met})"
        print(
            f"{side:>5}: peak resident {result['peak_bytes'] / 1e9:.2f} GB = {share:.2f} x the float32 weights "
            f"({result['weight_bytes'] / 1e9:.2f} GB){verdict}"
        )
    seconds = interleave({side: partial(run, side, folder) for side in found}, rounds=options.rounds)
    print_table("Loading, whole process", [("read, convert, merge", seconds["plain"], seconds["ours"], None)])


if __name__ == "__main__":
    main()
