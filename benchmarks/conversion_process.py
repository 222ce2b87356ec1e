"""Convert a checkpoint to ONNX, or load it, in a process of its own that has no torch. Started by the benchmarks.

python -m benchmarks.conversion_process FOLDER PRECISION TEXT
"""

import argparse
import json
import sys
import time
from pathlib import Path

from core_encoder import JinaClipEncoder


def main() -> None:
    """Load, which converts what is not converted yet, encode a text if there is one, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=("fp32", "fp16", "int8"))
    parser.add_argument("text")
    options = parser.parse_args()
    started = time.perf_counter()
    encoder = JinaClipEncoder.load(options.folder, runtime="onnx", precision=options.precision)
    vectors = encoder.encode_text([options.text] if options.text else [])
    seconds = time.perf_counter() - started
    if "torch" in sys.modules:
        raise SystemExit("torch was imported")
    print(json.dumps({"seconds": seconds, "vectors": vectors.tolist()}))


if __name__ == "__main__":
    main()
