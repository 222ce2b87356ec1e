"""Opening or creating a collection in Pinecone: first the index, then the namespace and its fingerprint."""

import functools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pinecone import DenseVectorField

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.pinecone.dialects import Dialect, Documents, Vectors
from jclip_connectors.pinecone.errors import is_missing, is_taken
from jclip_connectors.pinecone.items import FINGERPRINT_ID, OWN_FIELDS, fingerprint_item, read_fingerprint
from jclip_connectors.pinecone.operations import PineconeFlows
from jclip_connectors.store_kit.clients import check_config
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_fingerprint, require_dimensions, resolve_dimensions

Pause: TypeAlias = Callable[[float], Any]  # `time.sleep` or `asyncio.sleep`

_LOG = logging.getLogger(__package__)
_FIELD = "embedding"  # the vector field of a new index
_LEGACY_FIELD = "_values"  # the only field in the description of an index without a schema
_MOST_DIMENSIONS = 20_000
_NAME = re.compile(r"[a-z0-9-]{1,45}")
_NAMESPACE = re.compile(r"[\x21-\x7e]{1,512}")
# Seconds between polls, about a minute in all.
_PAUSES_S = (0.25, 0.5, 1.0, 2.0, *([4.0] * 14))
_FEW_PAUSES_S = _PAUSES_S[:4]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The checked arguments of `open`."""

    index_name: str
    namespace: str
    fingerprint: Fingerprint
    dimensions: int | None
    tiled: bool
    deployment: dict[str, Any]

    @property
    def collection(self) -> str:
        """The name of the collection in errors."""
        return f"namespace {self.namespace!r} of index {self.index_name!r}"


@dataclass(frozen=True, kw_only=True)
class OpenIndex:
    """The description of an index."""

    host: str | None
    ready: bool
    state: str
    dimensions: int
    dialect: Dialect


def make_plan(
    index_name: str, config: EmbeddingConfig, *, namespace: str, cloud: str, region: str, dimensions: int | None
) -> Plan:
    """Check the arguments of `open`.

    Raises:
        EmbedInputError: a bad name or option.
    """
    check_config(config)
    check_names(index_name, namespace)
    options: dict[str, object] = {"cloud": cloud, "region": region}  # annotations are not enforced
    for option, value in options.items():
        if not isinstance(value, str) or not value:
            raise EmbedInputError(f"`{option}` is {value!r}; use a name like 'aws' and 'us-east-1'")
    return Plan(
        index_name=index_name,
        namespace=namespace,
        fingerprint=config.fingerprint(),
        dimensions=resolve_dimensions(config, dimensions, most=_MOST_DIMENSIONS),
        tiled=config.tiling is not None,
        deployment={"deployment_type": "managed", "cloud": cloud, "region": region},
    )


def check_names(index_name: object, namespace: object) -> None:
    """Check the names of an index and of a namespace.

    Raises:
        EmbedInputError: Pinecone does not accept a name; the message says which.
    """
    if not isinstance(index_name, str) or _NAME.fullmatch(index_name) is None:
        raise EmbedInputError(f"`index_name` is {index_name!r}; use lower case letters, digits and hyphens, at most 45")
    if not isinstance(namespace, str) or _NAMESPACE.fullmatch(namespace) is None:
        raise EmbedInputError(f"`namespace` is {namespace!r}; use ASCII without spaces, 1 to 512 characters")


def open_index(plan: Plan, pause: Pause) -> Flow[OpenIndex]:
    """Open or create an index, and wait until it is ready."""
    index = yield from describe_index(plan.index_name, plan.namespace)
    if index is None:
        length = require_dimensions(plan.dimensions)
        try:
            yield from _create(plan, length)
        except StoreRequestError as error:
            if not is_taken(error):  # otherwise another process has just made it
                raise
    for seconds in _PAUSES_S:
        if index is not None and index.ready:
            return index
        yield functools.partial(_pause, pause, seconds)
        index = yield from describe_index(plan.index_name, plan.namespace)
    state = "not found" if index is None else index.state
    raise StoreUnavailableError(
        f"index {plan.index_name!r} is not ready yet (state: {state}): open it again in a few seconds"
    )


def _create(plan: Plan, dimensions: int) -> Flow[None]:
    field = {"type": "dense_vector", "dimension": dimensions, "metric": "cosine"}
    yield lambda client: client.indexes.create(
        name=plan.index_name,
        schema={"fields": {_FIELD: field}},
        deployment=plan.deployment,
        timeout=-1,  # do not wait here: `open_index` polls, the same way for both clients
    )
    _LOG.debug("made the index %r for vectors of %d values", plan.index_name, dimensions)


def describe_index(index_name: str, namespace: str) -> Flow[OpenIndex | None]:
    """Describe an index; `None` if it does not exist."""
    try:
        found = yield lambda client: client.indexes.describe(index_name)
    except StoreRequestError as error:
        if is_missing(error):
            return None
        raise
    fields = found.schema.fields
    dense = {name: field for name, field in fields.items() if isinstance(field, DenseVectorField)}
    ((name, field),) = dense.items() if len(dense) == 1 else (("", None),)
    if field is None or field.metric != "cosine" or OWN_FIELDS.intersection(fields):
        raise StoreRequestError(
            f"index {index_name!r} has the fields {_told(fields)}; a collection needs one dense vector with the metric "
            f"'cosine', and none of {', '.join(sorted(OWN_FIELDS))}: use another index"
        )
    legacy = set(fields) == {_LEGACY_FIELD}
    dialect: Dialect = Vectors(namespace=namespace) if legacy else Documents(namespace=namespace, field=name)
    return OpenIndex(
        host=found.host,
        ready=found.status.ready and found.host is not None,
        state=found.status.state,
        dimensions=field.dimension,
        dialect=dialect,
    )


def _told(fields: Mapping[str, Any]) -> str:
    metrics = {name: getattr(field, "metric", None) for name, field in fields.items()}
    return ", ".join(name if metric is None else f"{name} (metric {metric!r})" for name, metric in metrics.items())


def connect(index: OpenIndex) -> Flow[Any]:
    """The SDK's client of an index."""
    return (yield lambda client: client.index(host=index.host))


def open_collection(plan: Plan, index: OpenIndex, pause: Pause) -> Flow[PineconeFlows]:
    """Open a namespace: check its fingerprint, or write the fingerprint into an empty namespace."""
    stored = yield from find_fingerprint(index.dialect)
    if stored is None and (yield from _has_records(plan.namespace)):
        # A new collection whose fingerprint is not visible yet, or records of another program.
        stored = yield from _await_fingerprint(index.dialect, pause, pauses_s=_FEW_PAUSES_S)
        if stored is None:
            raise StoreRequestError(
                f"{plan.collection} has records but no fingerprint: another program wrote them; use another `namespace`"
            )
    if stored is not None:
        check_fingerprint(stored, plan.fingerprint, collection=plan.collection)
    if plan.dimensions not in (None, index.dimensions):
        raise StoreRequestError(
            f"index {plan.index_name!r} is for vectors of {index.dimensions} values; the configuration makes "
            f"{plan.dimensions}: use another index, or set `dimensions`"
        )
    if stored is None:
        yield from index.dialect.write([fingerprint_item(plan.fingerprint, dimensions=index.dimensions)])
        # Another process may have written its own fingerprint at the same time: read back which one is stored.
        stored = yield from _await_fingerprint(index.dialect, pause, pauses_s=_PAUSES_S)
        if stored is None:
            raise StoreUnavailableError(
                f"{plan.collection} is made, but its fingerprint is not visible yet: open it again in a few seconds"
            )
        check_fingerprint(stored, plan.fingerprint, collection=plan.collection)
    return PineconeFlows(index.dialect, stored, dimensions=index.dimensions, tiled=plan.tiled)


def find_fingerprint(dialect: Dialect) -> Flow[Fingerprint | None]:
    """The fingerprint of a namespace; `None` if there is none, or it is not visible yet."""
    try:
        items = yield from dialect.fetch([FINGERPRINT_ID])
    except StoreRequestError as error:
        if is_missing(error):  # the namespace does not exist until its first record
            return None
        raise
    return read_fingerprint(items[FINGERPRINT_ID]) if FINGERPRINT_ID in items else None


def _await_fingerprint(dialect: Dialect, pause: Pause, *, pauses_s: tuple[float, ...]) -> Flow[Fingerprint | None]:
    for seconds in (0.0, *pauses_s):
        if seconds:
            yield functools.partial(_pause, pause, seconds)
        found = yield from find_fingerprint(dialect)
        if found is not None:
            return found
    return None


def _pause(pause: Pause, seconds: float, _client: object) -> Any:  # noqa: ANN401 (nothing, or a coroutine)
    return pause(seconds)


def _has_records(namespace: str) -> Flow[bool]:
    try:
        found = yield lambda index: index.describe_namespace(name=namespace)
    except StoreRequestError as error:
        if is_missing(error):
            return False
        raise
    return bool(found.record_count)
