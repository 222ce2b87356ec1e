"""Load a checkpoint, and encode a text if there is one, in a process of its own. Started by the benchmarks.

python -m benchmarks.conversion_process FOLDER RUNTIME PRECISION TEXT
"""

import argparse
import json
import sys
import time
from pathlib import Path

from core_encoder import JinaClipEncoder


def main() -> None:
    """Load, which converts for ONNX Runtime what is not converted yet; print the seconds and the vector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runtime", choices=("onnx", "torch"))
    parser.add_argument("precision", choices=("fp32", "fp16", "int8"))
    parser.add_argument("text")
    options = parser.parse_args()
    started = time.perf_counter()
    encoder = JinaClipEncoder.load(options.folder, runtime=options.runtime, precision=options.precision, device="cpu")
    vectors = encoder.encode_text([options.text] if options.text else [])
    seconds = time.perf_counter() - started
    if options.runtime == "onnx" and "torch" in sys.modules:
        raise SystemExit("torch was imported")
    print(json.dumps({"seconds": seconds, "vectors": vectors.tolist()}))


if __name__ == "__main__":
    main()
