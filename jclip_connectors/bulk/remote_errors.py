"""What goes wrong when files elsewhere are read or written, as our errors."""

import contextlib
from collections.abc import Iterator

from fsspec.implementations.local import LocalFileSystem

from jclip_connectors.bulk.source_names import printable_name
from jclip_connectors.errors import StoreUnavailableError
from jclip_connectors.store_kit.secrets import without_secrets

# What fsspec's file systems talk through; not all of their errors are an `OSError`.
_CLIENTS = frozenset(
    {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "httpx", "huggingface_hub", "requests"}
)


@contextlib.contextmanager
def remote_errors(fs: object, name: str) -> Iterator[None]:
    """Turn the errors of files elsewhere into ours; those of a disk, and a missing file, are left as they are.

    Args:
        fs: the file system, of fsspec.
        name: names in the message what was read or written.

    Raises:
        StoreUnavailableError: it cannot be read or written at the moment.
    """
    if isinstance(fs, LocalFileSystem):
        yield
        return
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        told = str(error) or type(error).__name__
        message = f"{printable_name(name)} cannot be read or written: {told}"
        raise without_secrets(StoreUnavailableError(message)) from None
