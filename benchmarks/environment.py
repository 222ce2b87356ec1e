"""On what a benchmark ran: processor, its instruction sets, threads, versions, load."""

import os
import platform
from importlib import metadata
from pathlib import Path

_INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
)
_PACKAGES = ("numpy", "torch", "onnxruntime", "onnx", "pillow", "jclip-connectors")


def environment(*, threads: int) -> dict[str, object]:
    """What is printed above every table and kept in the JSON.

    Args:
        threads: how many each side takes.
    """
    return {
        "cpu": cpu_model(),
        "instruction_sets": instruction_sets(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "load_before": load_average(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
    }


def load_average() -> list[float] | None:
    """Of one, five and fifteen minutes; `None` where the system has none."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def cpu_model() -> str:
    """The processor's name; with family and model where the name alone says little."""
    fields = _cpuinfo()
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"


def instruction_sets() -> list[str]:
    """Those of the processor that matter for matrix products."""
    fields = _cpuinfo()
    flags = fields.get("flags", fields.get("Features", "")).split()
    return [name for name in _INSTRUCTION_SETS if name in flags]


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
