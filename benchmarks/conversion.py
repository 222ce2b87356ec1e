"""Memory of converting v2's 999 tensors to ONNX without torch; memory and time of loading what was converted.

    python -m benchmarks.conversion --quick | --full

Each step in a process of its own. Peak memory is all that is resident, Python and mapped files included; the system may
take the pages of mapped files back, so the JSON has the peak without them too. The time is from the import of torch or
ONNX Runtime to the vector of a first query.
"""

import json
import os
import tempfile
from pathlib import Path

from benchmarks.comparison import Bench, cosine_distance, main
from benchmarks.full_size_checkpoint import V2, Size, kept
from benchmarks.memory import Watched, watch
from core_encoder.cache import VARIABLE
from core_encoder.models import WEIGHTS_FILE

_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)
_TEXT = "a red circle"
_TOLERANCE = {"int8": 0.02, "fp32": 1e-6}  # of the cosine to torch's vector
_ROUNDS = 3


def run(bench: Bench) -> None:
    """Convert into an empty cache, then load what is there, in turn with torch."""
    folder = str(kept(_QUICK if bench.quick else V2))
    size = Path(folder, WEIGHTS_FILE).stat().st_size
    for precision in ("int8", "fp32"):
        with tempfile.TemporaryDirectory(prefix="jclip-conversion-") as cache:
            converting = _step(folder, "onnx", precision, "", cache)
            rounds = 1 if bench.quick else _ROUNDS
            pairs = [
                (_step(folder, "torch", "fp32", _TEXT, cache), _step(folder, "onnx", precision, _TEXT, cache))
                for _ in range(rounds)
            ]
        in_torch, loaded = ([json.loads(found.output) for found in side] for side in zip(*pairs, strict=True))
        difference = cosine_distance(in_torch[0]["vectors"], loaded[0]["vectors"])
        print(f"{precision}: the vectors differ by {difference:.1e} (cosine_distance, <= {_TOLERANCE[precision]:g})")
        if not difference <= _TOLERANCE[precision]:
            raise SystemExit("the outputs do not agree: nothing is compared")
        bench.record(
            f"converting v2 to ONNX, {precision}: peak memory over the F16 file",
            [converting.peak_bytes / size],
            bar=0.5,
            hope=0.25,
            at_most=True,
            anonymous=converting.anonymous_bytes / size,
        )
        bench.record(
            f"loading v2 and a first query, peak memory: {precision} over torch",
            [ours.peak_bytes / theirs.peak_bytes for theirs, ours in pairs],
            at_most=True,
            anonymous=[ours.anonymous_bytes / theirs.anonymous_bytes for theirs, ours in pairs],
        )
        bench.record(
            f"loading v2 and a first query, time: torch / {precision}",
            [theirs["seconds"] / ours["seconds"] for theirs, ours in zip(in_torch, loaded, strict=True)],
        )


def _step(folder: str, runtime: str, precision: str, text: str, cache: str) -> Watched:
    environment = os.environ | {VARIABLE: cache}
    return watch("-m", "benchmarks.conversion_process", folder, runtime, precision, text, environment=environment)


if __name__ == "__main__":
    main("conversion", __doc__, run)
