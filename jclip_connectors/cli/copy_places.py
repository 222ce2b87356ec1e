"""FROM and TO of `jclip copy`: a collection by its URL or its folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jclip_connectors.bulk.carried import CarriedConfig, carried_config
from jclip_connectors.bulk.copying import RecordSource, RecordTarget
from jclip_connectors.cli.store_urls import Place, connected, edge_url
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError

_OPTION = "`--store`"  # how the errors about URLs name what they are about


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where records are read from.

    Attributes:
        name: for messages; without credentials.
        records: the records.
    """

    name: str
    records: RecordSource


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where records are written to.

    Attributes:
        name: for messages; without credentials.
        fingerprint: reads the fingerprint of what is there; `None` if there is nothing yet.
        open: opens or makes it for vectors of a configuration, and of the given length where that is known.
    """

    name: str
    fingerprint: Callable[[], Fingerprint | None]
    open: Callable[[CarriedConfig, int | None], RecordTarget]


@contextmanager
def opened_source(text: str) -> Iterator[Source]:
    """Open what records are read from; a collection in a folder is read without locking it.

    Raises:
        StoreRequestError: there is no collection.
        EmbedInputError: a bad URL.
    """
    with _connected(text, "FROM", read_only=True) as place:
        fingerprint = place.fingerprint()
        if fingerprint is None:
            raise StoreRequestError(f"there is no collection in {place.name}")
        yield Source(name=place.name, records=place.open(carried_config(fingerprint), None))


@contextmanager
def connected_target(text: str) -> Iterator[Target]:
    """Connect to what records are written to.

    Raises:
        EmbedInputError: a bad URL.
    """
    with _connected(text, "TO", read_only=False) as place:
        yield Target(name=place.name, fingerprint=place.fingerprint, open=place.open)


def check_different(source: str, target: str) -> None:
    """Refuse to copy a collection into itself.

    Raises:
        EmbedInputError: both texts name one collection.
    """
    if _identity(source) == _identity(target):
        raise EmbedInputError(f"FROM and TO are the same, {target!r}: name another place to copy to")


@contextmanager
def _connected(text: str, argument: str, *, read_only: bool) -> Iterator[Place]:
    with ExitStack() as stack:
        try:
            place = stack.enter_context(connected(_url(text), read_only=read_only))
        except EmbedInputError as error:
            raise EmbedInputError(str(error).replace(_OPTION, argument)) from error
        yield place


def _url(text: str) -> str:
    return text if "://" in text or text.startswith("edge:") else edge_url(Path(text)) if text else "edge:"


def _identity(text: str) -> str:
    scheme, _, rest = _url(text).partition(":")
    if scheme == "edge":
        return f"edge:{os.path.realpath(os.path.expanduser(rest))}"  # noqa: PTH111 (as for `--store`)
    return f"{scheme}:{rest.partition('?')[0].rstrip('/')}"
