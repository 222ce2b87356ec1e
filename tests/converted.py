"""Where the tests keep converted models between runs."""

import hashlib
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def cache_of_this_code():
    """A folder for this version of the code that converts models; another version converts them again."""
    code = b"".join(path.read_bytes() for path in sorted((_ROOT / "core_encoder" / "onnx").glob("*.py")))
    return _ROOT / ".pytest_cache" / "converted" / hashlib.sha256(code).hexdigest()[:16]
