"""One file per claim: each prints baseline, ours and the ratio from one interleaved run, after checking the outputs."""

from pathlib import Path


def names() -> list[str]:
    """Every benchmark of the framework: the modules of this folder with a function `run` that takes a `Bench`."""
    folder = Path(__file__).parent
    return sorted(
        path.stem for path in folder.glob("*.py") if "\ndef run(bench: Bench)" in path.read_text(encoding="utf-8")
    )
