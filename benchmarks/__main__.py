"""Run every benchmark in turn, each in a process of its own, and print rows for the table of benchmarks/README.md.

    python -m benchmarks --full [--only NAME ...] [--json FILE]

Nothing is written but the JSON that is asked for.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import names
from benchmarks.report import markdown_rows


def run_one(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """Run one benchmark; what it wrote, or `None` where it failed."""
    path = folder / f"{name}.json"
    size = "--quick" if options.quick else "--full"
    command = [sys.executable, "-m", f"benchmarks.{name}", size, "--json", str(path)]
    command += ["--threads", str(options.threads), "--seconds", str(options.seconds)]
    threads = {"OMP_NUM_THREADS": str(options.threads)}  # libraries read it when they are loaded
    found = subprocess.run(command, check=False, env=os.environ | threads)  # noqa: S603 - modules of this folder
    if found.returncode != 0:
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def main() -> None:
    """Run them, print the rows, and end with an error where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true")
    size.add_argument("--full", action="store_true")
    parser.add_argument("--only", nargs="+", choices=names(), default=names(), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured, as a list")
    parser.add_argument("--threads", type=int, default=1, help="of each side (default: 1)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the rounds of one comparison (default: 30)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        found = {name: run_one(name, options, Path(folder)) for name in options.only}
    documents = [document for document in found.values() if document is not None]
    if options.json is not None:
        options.json.write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    print("\n| what | bar | hope | measured | command |\n|---|---|---|---|---|")
    print("\n".join(line for document in documents for line in markdown_rows(document)))
    for name, value in (documents[-1]["environment"] if documents else {}).items():
        print(f"{name}: {value}")
    failed = [name for name, document in found.items() if document is None]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
