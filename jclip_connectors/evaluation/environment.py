"""What an evaluation ran on: versions, machine, and the options of the command."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from jclip_connectors.store_kit.files import replace_file

ENVIRONMENT_FILE = "environment.json"
# What can move a vector or a metric.
_PACKAGES = (
    "jclip-connectors",
    "clip-benchmark",
    "datasets",
    "mteb",
    "numpy",
    "onnxruntime",
    "open-clip-torch",
    "pillow",
    "pytrec-eval-terrier",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)


def write_environment(out: Path, options: Mapping[str, Any]) -> None:
    """Write `environment.json`: versions of packages, the machine, and the options that the evaluation was given."""
    content = {**describe_environment(), "options": dict(options)}
    replace_file(out / ENVIRONMENT_FILE, (json.dumps(content, indent=1, default=str) + "\n").encode())


def describe_environment() -> dict[str, Any]:
    """Versions of packages, and the machine."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
