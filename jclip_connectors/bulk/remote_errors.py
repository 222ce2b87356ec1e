"""What goes wrong when files elsewhere are read or written, as our errors."""

import contextlib
from collections.abc import Iterator

from jclip_connectors.bulk.source_names import printable_name
from jclip_connectors.errors import StoreUnavailableError
from jclip_connectors.store_kit.secrets import without_secrets

# What fsspec's file systems talk through; not all of their errors are an `OSError`.
_CLIENTS = frozenset(
    {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "httpx", "huggingface_hub", "requests"}
)


@contextlib.contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """Turn the errors of files elsewhere into ours.

    Args:
        url: names in the message what was read or written.

    Raises:
        StoreUnavailableError: it cannot be read or written at the moment.
    """
    try:
        yield
    except Exception as error:
        of_client = type(error).__module__.partition(".")[0] in _CLIENTS
        if not of_client and not (isinstance(error, OSError) and "://" in url):
            raise
        message = f"{printable_name(url)} cannot be read or written: {error}"
        raise without_secrets(StoreUnavailableError(message)) from None
