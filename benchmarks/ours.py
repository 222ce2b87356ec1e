"""Our sides of the CPU benchmarks: the runtimes of one checkpoint, and what is claimed of each."""

from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.comparison import Claim, cosine_distance, unit_difference
from core_encoder import JinaClipEncoder
from core_encoder.runtime import Runtime

_INT8_TOLERANCE = 0.02  # of the cosine: what the gate of the precision allows
_FP32_TOLERANCE = 3e-5


def runtimes(folder: Path, *, threads: int) -> dict[str, Runtime]:
    """Load the towers of a checkpoint once for each of our ways to run them on a CPU.

    Args:
        folder: of the checkpoint.
        threads: of one call.
    """
    torch.set_num_threads(threads)
    return {"torch": JinaClipEncoder.load(folder, runtime="torch", device="cpu").runtime}


def claims(what: str, baseline: str, bars: Mapping[str, tuple[float, float] | None]) -> list[Claim]:
    """A claim for each of our ways against one baseline in float32.

    Args:
        what: begins the names of the rows.
        baseline: the side.
        bars: bar and hope by the name of our side; `None` where nothing is asked.
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
