"""The token of a Ray cluster: who has it may run programs there."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


def arrange_token(*, joins: bool) -> None:
    """Let Ray use a token that is there, and make a new one that its owner alone can read, which Ray does not do.

    The variable RAY_AUTH_MODE decides, if it is set. To be called before Ray is imported.

    Args:
        joins: a cluster that runs already, so that a new token would not help.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() != "token":
        return
    path = Path.home() / ".ray" / "auth_token"
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        if path.exists():
            path.chmod(0o600)
        elif joins:
            return
        else:
            _write_token(path)
    os.environ["RAY_AUTH_MODE"] = "token"  # one who joins sends no token without it


def _write_token(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # readable by its owner only
        file.write(secrets.token_hex(32))
        file.flush()
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(file.name, path)
