"""A process that may not download does not: Python tells of every look-up, connection and program before it happens."""

import ipaddress
import os
import sys
from pathlib import PurePath
from typing import Any

from jclip_connectors.errors import EvaluationError

_LOOK_UPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_CONNECTIONS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_STARTS = frozenset({"os.posix_spawn", "os.exec", "os.spawn"})
# What a harness downloads by, in a shell or alone.
_PROGRAMS = frozenset(
    {"sh", "bash", "dash", "zsh", "ksh", "env", "cmd", "powershell", "pwsh"}
    | {"wget", "curl", "aria2c", "kaggle", "gdown", "git", "git-lfs", "hf", "rsync", "scp", "ssh"}
)


def forbid_network() -> None:
    """Refuse, until the process ends, hosts that are not this one, shells, and the usual programs to download by.

    The refused call raises `EvaluationError`, which names the host or the command. There is no way back, so only a
    process that was started for a job calls this.

    Source: PEP 578, events of `sys.addaudithook`.
    """
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _LOOK_UPS:
        _check_host(arguments[0])
    elif event in _CONNECTIONS:
        address = arguments[1]
        if isinstance(address, tuple):  # of a Unix socket it is a path
            _check_host(address[0])
    elif event == "subprocess.Popen" or event in _STARTS:
        _check_program(arguments[1])
    elif event == "os.system":
        raise _refusal(f"to run {_text(arguments[0])!r}")


def _check_host(host: object) -> None:
    name = _text(host)
    if name in {"", "localhost", "None"}:
        return
    try:
        inside = ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise _refusal(f"to reach {name!r}")


def _check_program(arguments: object) -> None:
    words = [_text(word) for word in arguments] if isinstance(arguments, list | tuple) else [_text(arguments)]
    if words and PurePath(words[0]).stem.lower() in _PROGRAMS:
        raise _refusal(f"to run {' '.join(words)!r}")


def _refusal(what: str) -> EvaluationError:
    return EvaluationError(
        f"the harness wants {what}, and downloads are off: put the data into the folder of --data, or allow --download"
    )


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
