"""Opening a collection of Milvus, or making it; and the client for a database of Milvus Lite."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from pymilvus import AsyncMilvusClient, CollectionSchema, MilvusClient

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.milvus.client_log import quiet
from jclip_connectors.milvus.clients import Calls, LiteClient
from jclip_connectors.milvus.errors import is_missing, is_not_indexed, translate
from jclip_connectors.milvus.locks import Lease, lite_path
from jclip_connectors.milvus.operations import MilvusFlows
from jclip_connectors.milvus.reading import Place
from jclip_connectors.milvus.schema import (
    INDEX,
    MOST_DIMENSIONS,
    check_name,
    properties_of,
    read_dimensions,
    read_fingerprint,
    schema_of_records,
    schema_of_tiles,
)
from jclip_connectors.store_kit.clients import check_client, check_config
from jclip_connectors.store_kit.flows import Flow, run
from jclip_connectors.store_kit.places import connect
from jclip_connectors.store_kit.validation import check_count, check_fingerprint, require_dimensions, resolve_dimensions

Index: TypeAlias = Literal["FLAT", "HNSW", "AUTOINDEX"]
"""How vectors are searched: each is compared, by a graph, or as the server takes to be best."""

_LOG = logging.getLogger(__package__)
TIMEOUT_S = 60.0
EXAMPLE, ASYNC_EXAMPLE = "MilvusClient(uri=...)", "AsyncMilvusClient(uri=...)"
# The client asks every ten seconds whether its server is there; that of Milvus Lite hangs up on who does, and gRPC says
# so on stderr.
_WITHOUT_PINGS = MappingProxyType({"grpc.keepalive_time_ms": 2**31 - 1})
_LITE = "lite"  # in the version that Milvus Lite tells
_EF = 128
_FILTERED = ("terms", "owner", "lineage")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The checked arguments of `open`."""

    name: str
    fingerprint: Fingerprint
    dimensions: int | None
    tiled: bool
    index: str | None
    ef: int | None
    calls: Calls


def make_plan(
    name: str, config: EmbeddingConfig, *, index: object, hnsw_ef: int | None, dimensions: int | None, timeout_s: object
) -> Plan:
    """Check the arguments of `open`.

    Raises:
        EmbedInputError: a bad name or option.
    """
    check_config(config)
    check_name(name)
    if hnsw_ef is not None:
        check_count(hnsw_ef, name="hnsw_ef")
    if index is not None and index not in get_args(Index):
        raise EmbedInputError(f"`index` is {index!r}; use one of {get_args(Index)}, or None")
    return Plan(
        name=name,
        fingerprint=config.fingerprint(),
        dimensions=resolve_dimensions(config, dimensions, most=MOST_DIMENSIONS),
        tiled=config.tiling is not None,
        index=None if index is None else str(index),
        ef=hnsw_ef,
        calls=Calls(check_timeout(timeout_s)),
    )


def check_timeout(timeout_s: object) -> float:
    """Check the option `timeout_s`.

    Raises:
        EmbedInputError: not a positive number.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
        raise EmbedInputError(f"`timeout_s` is {timeout_s!r}; use a positive number of seconds")
    return float(timeout_s)


def check_kind(client: object, *, asyncio: bool) -> None:
    """Check the kind of a client.

    Raises:
        EmbedInputError: it is no client, or one of the other kind.
    """
    check_client(
        client,
        kinds=(AsyncMilvusClient,) if asyncio else (MilvusClient,),
        needs="describe_collection",
        asyncio=asyncio,
        twin="MilvusStore" if asyncio else "AsyncMilvusStore",
        example=ASYNC_EXAMPLE if asyncio else EXAMPLE,
    )


def client_of(client: object, stack: ExitStack) -> tuple[Any, AbstractContextManager[Any]]:
    """The caller's blocking client, or one for a path that `stack` closes; and what is held while it is used here."""
    path = lite_path(client, example=EXAMPLE)
    if path is None:
        check_kind(client, asyncio=False)
        return client, nullcontext()
    lease = Lease(path)
    stack.callback(lease.release)
    made = connected(lease)
    stack.callback(made.close)
    return made, lease.alone


def connected(lease: Lease) -> LiteClient:
    """A client of the server of a path, which it starts."""
    lease.start()
    with quiet():
        client = connect(
            lambda: MilvusClient(uri=lease.uri, dedicated=True, grpc_options=dict(_WITHOUT_PINGS)), translate
        )
    return LiteClient(client, lease.alone)


def look_up(client: object, name: str, *, timeout_s: float = TIMEOUT_S) -> Mapping[str, Any] | None:
    """The description of a collection; `None` if there is none, or no database at the path.

    Args:
        client: the caller's, or the path of a Milvus Lite database.
        name: of the collection.
        timeout_s: how long the call may take.
    """
    check_name(name)
    calls = Calls(check_timeout(timeout_s))
    path = lite_path(client, example=EXAMPLE)
    if path is not None and not path.exists():
        return None
    with ExitStack() as stack:
        used, alone = client_of(client, stack)
        with alone:
            return run(describe(calls, name), used, translate=translate, attempts=1)


def open_alone(plan: Plan, client: Any, alone: AbstractContextManager[Any]) -> MilvusFlows:  # noqa: ANN401 (of the caller, which may wrap the SDK's)
    """Open a collection on a blocking client, while no other thread opens one."""
    with alone:
        return run(open_collection(plan), client, translate=translate, attempts=1)


def open_collection(plan: Plan) -> Flow[MilvusFlows]:
    """Open a collection, or make it, and bring it into memory."""
    found = yield from describe(plan.calls, plan.name)
    if found is None:
        found = yield from _create(plan)
    stored = read_fingerprint(found)
    check_fingerprint(stored, plan.fingerprint, collection=f"the collection {plan.name!r}")
    dimensions, index = read_dimensions(found), str(found["properties"].get(INDEX))
    for option, given, made_with in (("dimensions", plan.dimensions, dimensions), ("index", plan.index, index)):
        if given not in (None, made_with):
            raise EmbedInputError(
                f"`{option}` is {given!r}, but the collection {plan.name!r} was made with {made_with!r}: leave it out, "
                "or make a new collection"
            )
    place = Place(
        given=plan.name,
        name=found["collection_name"],
        dimensions=dimensions,
        tiled=plan.tiled,
        calls=plan.calls,
        search_params={"ef": _EF if plan.ef is None else plan.ef} if index == "HNSW" else {},
    )
    if plan.tiled:
        yield from _open_tiles(place, stored, index)
    yield from _load(plan.calls, place.name, index)
    return MilvusFlows(place, stored)


def describe(calls: Calls, name: str) -> Flow[Mapping[str, Any] | None]:
    """The description of a collection; `None` if there is none."""
    try:
        found: Mapping[str, Any] = yield calls("describe_collection", name)
    except StoreRequestError as error:
        if is_missing(error):
            return None
        raise
    return found


def _create(plan: Plan) -> Flow[Mapping[str, Any]]:
    dimensions = require_dimensions(plan.dimensions)
    index = plan.index
    if index is None:
        index = "FLAT" if (yield from _is_lite(plan.calls)) else "HNSW"
    properties = properties_of(plan.fingerprint, index=index)
    return (yield from _make(plan.calls, plan.name, schema_of_records(dimensions), index, properties))


def _is_lite(calls: Calls) -> Flow[bool]:
    version: str = yield calls.of_server("get_server_version")
    return _LITE in version


def _open_tiles(place: Place, fingerprint: Fingerprint, index: str) -> Flow[None]:
    """Open the collection of tiles, or make it, which may have been interrupted when the one of records was made."""
    found = yield from describe(place.calls, place.tiles)
    if found is None:
        properties = properties_of(fingerprint, index=index, tiles=True)
        found = yield from _make(place.calls, place.tiles, schema_of_tiles(place.dimensions), index, properties)
    check_fingerprint(read_fingerprint(found, tiles=True), fingerprint, collection=f"the collection {place.tiles!r}")
    if read_dimensions(found) != place.dimensions:
        raise StoreRequestError(
            f"the collection {place.tiles!r} is for vectors of {read_dimensions(found)} values, and {place.name!r} for "
            f"{place.dimensions}: it is left of another collection; remove it"
        )
    yield from _load(place.calls, place.tiles, index)


def _make(
    calls: Calls, name: str, schema: CollectionSchema, index: str, properties: Mapping[str, str]
) -> Flow[Mapping[str, Any]]:
    try:
        yield calls(
            "create_collection",
            name,
            schema=schema,
            index_params=_index_params(index),
            properties=dict(properties),
            consistency_level="Strong",
        )
    except StoreRequestError:
        found = yield from describe(calls, name)
        if found is None:
            raise
        return found  # another process has made it in the meantime
    if not (yield from _is_lite(calls)):  # which has none for lists
        yield from _index_filters(calls, name, [field.name for field in schema.fields])
    made: Mapping[str, Any] = yield calls("describe_collection", name)
    return made


def _index_filters(calls: Calls, name: str, fields: Sequence[str]) -> Flow[None]:
    """Make what finds the rows of a filter; without it they are found all the same."""
    for field in _FILTERED:
        if field in fields:
            params = MilvusClient.prepare_index_params(field, index_type="INVERTED")
            try:
                yield calls("create_index", name, index_params=params)
            except StoreRequestError as error:
                _LOG.warning("%r: no index of %s, so filters read every row: %s", name, field, error)


def _load(calls: Calls, name: str, index: str) -> Flow[None]:
    """Bring a collection into memory: none can be searched after a restart before that."""
    try:
        yield calls("load_collection", name)
    except StoreRequestError as error:
        if not is_not_indexed(error):
            raise
        # Whoever made the collection was killed before the index.
        yield calls("create_index", name, index_params=_index_params(index))
        yield calls("load_collection", name)


def _index_params(index: str) -> Any:  # noqa: ANN401 (the client's own class is not public)
    params = {"M": 16, "efConstruction": 200} if index == "HNSW" else {}
    return MilvusClient.prepare_index_params("embedding", index_type=index, metric_type="COSINE", params=params)
