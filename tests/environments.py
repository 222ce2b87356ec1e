"""Environments of their own for tests: made and filled by uv from the index."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import uv

ROOT = Path(__file__).parent.parent
_KEPT = ROOT / ".test-environments"


def environment(name, requirements):
    """Give the Python of the environment that has what a requirements file lists; it is built once and kept."""
    listed = requirements.read_bytes()
    digest = hashlib.sha256(b"\0".join([sys.version.encode(), sys.base_prefix.encode(), listed])).hexdigest()
    home = _KEPT / f"{name}-{digest[:16]}"
    if not home.exists():
        _KEPT.mkdir(exist_ok=True)
        (_KEPT / ".gitignore").write_text("*\n")
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=_KEPT) as unfinished:
            built = Path(unfinished, name)
            build(built, "--requirement", str(requirements))
            try:
                built.rename(home)
            except OSError:
                if not home.exists():  # else another process was faster
                    raise
    return home / "bin" / "python"


def build(home, *install):
    """Make an environment in the folder `home`, let uv install into it, and give its Python."""
    # Without what would let this environment show through in that one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    python = home / "bin" / "python"
    command = [uv.find_uv_bin(), "--quiet", "--no-progress"]
    run([*command, "venv", "--python", sys.executable, str(home)], env=environ)
    run([*command, "pip", "install", "--python", str(python), *install], env=environ, timeout=840)
    return python


def run(command, **options):
    """Run a command and give what it prints; where it fails, say how it ended and its last lines."""
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, **options)  # noqa: S603 (ours)
    if done.returncode:
        ending = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{ending}")
    return done.stdout
