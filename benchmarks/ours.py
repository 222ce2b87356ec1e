"""Our sides of the CPU benchmarks: the runtimes of one checkpoint, and what is claimed of each."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.comparison import Claim, cosine_distance, unit_difference
from core_encoder import JinaClipEncoder
from core_encoder.cache import VARIABLE
from core_encoder.runtime import Runtime

_INT8_TOLERANCE = 0.02  # of the cosine: what the gate of the precision allows
_FP32_TOLERANCE = 3e-5
Bars = Mapping[str, tuple[float, float] | None]  # bar and hope by the name of our side; `None` where nothing is asked


def keep_graphs_apart() -> Path:
    """Converted models go to the folder for temporary files, not into the user's cache, unless it is named."""
    os.environ.setdefault(VARIABLE, str(Path(tempfile.gettempdir()) / "jclip-benchmark-cache"))
    return Path(os.environ[VARIABLE])


def runtimes(folder: Path, *, threads: int) -> dict[str, Runtime]:
    """Load the towers of a checkpoint once for each of our ways to run them on a CPU.

    Args:
        folder: of the checkpoint.
        threads: of one call.

    Returns:
        "fp32" and "int8" on ONNX Runtime, and "torch" in fp32.
    """
    keep_graphs_apart()
    torch.set_num_threads(threads)
    return {
        "fp32": JinaClipEncoder.load(folder, runtime="onnx", precision="fp32", threads=threads).runtime,
        "int8": JinaClipEncoder.load(folder, runtime="onnx", precision="int8", threads=threads).runtime,
        "torch": JinaClipEncoder.load(folder, runtime="torch", device="cpu").runtime,
    }


def claims(what: str, baseline: str, bars: Bars) -> list[Claim]:
    """A claim for each of our ways against one baseline.

    Args:
        what: begins the names of the rows.
        baseline: the side.
        bars: what is asked.
    """
    return [
        Claim(
            what=f"{what}, {name} / {baseline}",
            baseline=baseline,
            ours=name,
            bar=wanted[0] if wanted else None,
            hope=wanted[1] if wanted else None,
            difference=cosine_distance if name == "int8" else unit_difference,
            tolerance=_INT8_TOLERANCE if name == "int8" else _FP32_TOLERANCE,
        )
        for name, wanted in bars.items()
    ]
