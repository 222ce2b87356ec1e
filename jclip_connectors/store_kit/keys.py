"""Keys from the environment: checked before an SDK has them, because its errors quote a header that cannot be sent."""

from collections.abc import Mapping

from jclip_connectors.errors import EmbedInputError


def read_key(environ: Mapping[str, str], variable: str) -> str | None:
    """The key in a variable, without white space around it; `None` if the variable is not set.

    Raises:
        EmbedInputError: the variable is blank, or has a character that a key cannot have; the message does not have it.
    """
    if variable not in environ:
        return None
    key = environ[variable].strip()
    if not is_key(key):
        raise EmbedInputError(
            f"{variable} is not a key: it is empty, or has a blank or another character that no key has"
        )
    return key


def is_key(key: str) -> bool:
    """Whether a text can be sent as a key: printable ASCII without blanks, at least one character."""
    return bool(key) and key.isascii() and key.isprintable() and " " not in key
