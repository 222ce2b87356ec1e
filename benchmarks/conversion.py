"""Memory of converting v2's 999 tensors to ONNX without torch, and of the converted model, over the size of its file.

    python -m benchmarks.conversion --quick | --full

Each step in a process of its own. Peak memory is all that is resident, Python and mapped files included; the system may
take the pages of mapped files back, so the JSON has the peak without them too.
"""

import json
import os
import tempfile

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import V2, Size, kept
from benchmarks.memory import Watched, watch
from core_encoder.cache import VARIABLE
from core_encoder.models import WEIGHTS_FILE

_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)
_TEXT = "a red circle"


def run(bench: Bench) -> None:
    """Convert into an empty cache, then load what is there."""
    folder = kept(_QUICK if bench.quick else V2)
    size = (folder / WEIGHTS_FILE).stat().st_size
    for precision in ("int8", "fp32"):
        with tempfile.TemporaryDirectory(prefix="jclip-conversion-") as cache:
            converting, loading = (_step(str(folder), precision, text, cache) for text in ("", _TEXT))
        bench.record(
            f"converting v2 to ONNX, {precision}: peak memory over the F16 file",
            [converting.peak_bytes / size],
            bar=0.5,
            hope=0.25,
            at_most=True,
            anonymous=converting.anonymous_bytes / size,
        )
        bench.record(
            f"loading v2's ONNX, {precision}, and a first query: peak memory over the F16 file",
            [loading.peak_bytes / size],
            at_most=True,
            anonymous=loading.anonymous_bytes / size,
            seconds=json.loads(loading.output)["seconds"],
        )


def _step(folder: str, precision: str, text: str, cache: str) -> Watched:
    environment = os.environ | {VARIABLE: cache}
    return watch("-m", "benchmarks.conversion_process", folder, precision, text, environment=environment)


if __name__ == "__main__":
    main("conversion", __doc__, run)
