"""API keys: read from the environment or a file, compared so that timing does not help to guess a key."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from core_encoder.errors import ConfigError
from jclip_connectors.server.requests import RequestError
from jclip_connectors.store_kit.keys import is_key

KEYS_VARIABLE = "JCLIP_SERVER_API_KEYS"


def read_api_keys(environ: Mapping[str, str], *, file: str | Path | None = None) -> tuple[str, ...]:
    """Read keys: separated by commas in JCLIP_SERVER_API_KEYS, and one per line in `file`.

    Raises:
        ConfigError: the variable or the file exists but holds no key, or the file cannot be read.
    """
    found: list[str] = []
    if KEYS_VARIABLE in environ:
        found += _some(environ[KEYS_VARIABLE].split(","), KEYS_VARIABLE)
    if file is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the file of API keys {str(file)!r} cannot be read: {type(error).__name__}") from None
        found += _some(lines, f"the file of API keys {str(file)!r}")
    return tuple(found)


class ApiKeys:
    """The accepted keys, as hashes; without any key the server is open to everyone."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Keep the hash of each key.

        Raises:
            ConfigError: a key is empty or has white space around it.
        """
        keys = tuple(keys)
        if any(not key or key != key.strip() for key in keys):
            raise ConfigError("an API key is empty or has white space around it")
        self._hashes = tuple(_hash(key.encode()) for key in keys)

    def check(self, authorization: bytes | None) -> None:
        """Check the value of the header `Authorization`.

        Raises:
            RequestError: 401, with a different code for a missing header, a wrong format and an unknown key.
        """
        if not self._hashes:
            return
        if authorization is None:
            raise _unauthorized("AUTH_MISSING_API_KEY", "no API key: send the header 'Authorization: Bearer <key>'")
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            raise _unauthorized("AUTH_INVALID_FORMAT", "write the header as 'Authorization: Bearer <key>'")
        given = _hash(key.strip())
        # Compare with every key, so that the response time does not depend on which key matches.
        if not any([hmac.compare_digest(given, known) for known in self._hashes]):  # noqa: C419 (the list is the point)
            raise _unauthorized("AUTH_INVALID_API_KEY", "the API key is not one of this server's")


def _unauthorized(code: str, detail: str) -> RequestError:
    return RequestError(detail, status=401, code=code)


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _some(candidates: Iterable[str], source: str) -> list[str]:
    keys = [key.strip() for key in candidates if key.strip()]
    if not keys:
        raise ConfigError(f"{source} holds no API key; remove it to serve without keys")
    if not all(is_key(key) for key in keys):  # never the key itself
        raise ConfigError(f"{source} has a key with a blank or another character that no client can send in a header")
    return keys
