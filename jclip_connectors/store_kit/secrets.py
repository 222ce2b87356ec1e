"""Keys and passwords in the errors of SDKs and servers: taken out of messages, and not shown as causes."""

import re

from jclip_connectors.errors import ConnectorError

# Two kinds of secrets: a word with a digit after the name of a credential (no such word is in our messages), and the
# credentials before the host of a URL.
_SECRET = re.compile(
    r"((?:key|authorization|bearer|password|token)\W{1,4}(?:bearer\s)?)(?=[\w.+/=-]*\d)[\w.+/=-]{8,}"
    r"|(//)[^/\s@]+(?=@)",
    re.IGNORECASE,
)


_WORDS_BESIDE_SECRETS = ("header", "authorization", "bearer", "api-key", "api key", "password", "metadata was invalid")


def may_hold_secrets(error: BaseException) -> bool:
    """Whether the text of an error or of one of its causes may quote a header or a password."""
    seen: list[BaseException] = []
    rest: list[BaseException | None] = [error]
    while rest:
        each = rest.pop()
        if each is None or any(each is other for other in seen):
            continue
        seen.append(each)
        text = f"{each!r} {each}"
        if _SECRET.search(text) or any(word in text.lower() for word in _WORDS_BESIDE_SECRETS):
            return True
        source = getattr(each, "source", None)  # of qdrant-client's error of the transport
        rest += [each.__cause__, each.__context__, source if isinstance(source, BaseException) else None]
    return False


def without_secrets(error: ConnectorError) -> ConnectorError:
    """Remove keys and passwords that a server or the SDK quoted in the message."""
    error.args = (_SECRET.sub(r"\1\2***", str(error)),)
    return error
