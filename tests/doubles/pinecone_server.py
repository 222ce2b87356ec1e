"""A double of Pinecone: the routes that the store calls through the real SDK, with the service's documented rules.

    with PineconeDouble() as server, server.connect() as client: ...

What no rule here covers (a route, a field, an operator) is answered with 501 and kept in `surprises`, which a test
asserts to be empty. Each rule tells its source; where there is none, the stricter reading is assumed.
"""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
import numpy as np
import pyarrow.parquet as pq
from pinecone import AsyncPinecone, Pinecone
from pinecone._internal.http_client import get_budget_registry

from tests.doubles.pinecone_rules import (
    DOCUMENT_RULES,
    RESULT_BYTES,
    UPSERT_BYTES,
    VECTOR_RULES,
    AnswerError,
    Rules,
    SurpriseError,
    check_index_name,
    check_schema,
    matches,
    read,
)

KEY = "pcsk_double_0123456789abcdef"
VERSION = "2026-07"  # Read in the client (pinecone 10.2, _internal/constants.py)
MAX_ADDRESS = 8000  # characters of a GET: Assumed


@dataclass
class Fault:
    """What happens to the next `times` requests of one route.

    `status` is answered instead of what was asked, `hold_s` later; `taken` lets an upsert count fewer than it was sent.
    """

    route: str
    status: int | None = None
    times: int = 1
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    hold_s: float = 0.0
    message: str = "a fault of the test"
    taken: int | None = None


class Namespace:
    """Items by id; what is written is seen at its time."""

    def __init__(self):
        self.items = {}
        self._pending: deque[tuple[float, Callable[[dict[str, Any]], None]]] = deque()

    def write(self, change, seen_at):
        """Write what can be seen at `seen_at`. Documented."""
        self._pending.append((seen_at, change))

    def seen(self, now):
        """What can be seen by now. What is written can be seen after a while: Documented."""
        while self._pending and self._pending[0][0] <= now:
            self._pending.popleft()[1](self.items)
        return self.items


class Index:
    def __init__(self, name, schema, host, ready_at):
        """An index of documents, or of vectors if its only field is `_values`.

        Read in the client (pinecone 10.2, _internal/legacy_index_translation.py).
        """
        self.name, self.schema, self.host, self.ready_at = name, schema, host, ready_at
        legacy = set(schema["fields"]) == {"_values"}
        self.rules: Rules = VECTOR_RULES if legacy else DOCUMENT_RULES
        ((self.dense, self.vector),) = [
            (name, kind) for name, kind in schema["fields"].items() if kind["type"] == "dense_vector"
        ]
        self.namespaces = {}

    def describe(self, now):
        """The description of an index. Read in the client (pinecone 10.2, models/indexes/index.py)."""
        ready = now >= self.ready_at
        return {
            "name": self.name,
            "host": self.host,
            "schema": self.schema,
            "status": {"ready": ready, "state": "Ready" if ready else "Initializing"},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "deletion_protection": "disabled",
        }


class PineconeDouble:
    """The service, on a port of its own; a context manager."""

    def __init__(self, *, delay_s=0.0, ready_after_s=0.0):
        self.delay_s, self.ready_after_s = delay_s, ready_after_s
        self.skipped_s = 0.0  # of time that a test does not wait for
        self.indexes = {}
        self.faults = []
        self.poison = set()  # ids that no upsert may hold
        self.surprises = []
        self.requests = []  # (method, route) of each
        self.imports = []  # (address, integration) of each
        self.lock = threading.RLock()
        self._end = threading.Event()

    def __enter__(self):
        # The SDK's budget of retries is one for all ports of a host, so what another double failed would count here.
        get_budget_registry()._reset()
        self._http = _Server(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._http.shutdown()
        self._http.server_close()

    def connect(self, **options):
        # Without TLS there is nothing to verify, and reading the certificates takes longer than a test.
        return Pinecone(api_key=KEY, host=self.url, ssl_verify=False, **options)

    def connect_async(self, **options):
        return AsyncPinecone(api_key=KEY, host=self.url, ssl_verify=False, **options)

    def now(self):
        return time.monotonic() + self.skipped_s

    def fail(self, route, **what):
        self.faults.append(Fault(route, **what))

    def items(self, index, namespace="jclip"):
        """What is stored and seen, by id."""
        return self.indexes[index].namespaces[namespace].seen(self.now())

    def answer(self, method, path, params, headers, body):
        """The JSON that a request is answered with, or an `AnswerError`.

        The key: Documented. The version: Read in the client (pinecone 10.2, _internal/constants.py).
        """
        index, route, arguments = self._route(method, path)
        self.requests.append((method, route))
        if headers.get("Api-Key") != KEY:
            raise AnswerError(401, f"no such key: {headers.get('Api-Key')!r}")
        if headers.get("X-Pinecone-Api-Version") != VERSION:
            raise SurpriseError(f"version {headers.get('X-Pinecone-Api-Version')!r}")
        fault = self._fault(route)
        if fault is not None:
            self._end.wait(fault.hold_s)
            if fault.status is not None:
                raise AnswerError(fault.status, fault.message, headers=fault.headers)
        with self.lock:
            answer = getattr(self, f"_{route}")(index, *arguments, **read(route, params, body))
        if fault is not None and fault.taken is not None:
            answer[next(name for name in answer if name.startswith("upserted"))] = fault.taken
        return answer

    def _fault(self, route):
        with self.lock:
            for fault in self.faults:
                if fault.route != route or not fault.times:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    def _route(self, method, path):
        """The index, the route and its arguments. Read in the client (pinecone 10.2, index/__init__.py)."""
        parts = [unquote(part) for part in path.split("/")[1:]]
        if parts[0] == "indexes":
            route = {("GET", 2): "describe_index", ("POST", 1): "create_index"}.get((method, len(parts)))
            if route:
                return None, route, parts[1:]
        if parts[0] == "data" and parts[1] in self.indexes:
            index, parts = self.indexes[parts[1]], parts[2:]
            if parts[0] == "namespaces" and len(parts) == 4 and method == "POST" and parts[2] == "documents":
                return index, f"documents_{parts[3]}", [parts[1]]
            if parts[0] == "namespaces" and len(parts) == 2 and method == "GET":
                return index, "describe_namespace", [parts[1]]
            route = {
                ("POST", "vectors/upsert"): "vectors_upsert",
                ("POST", "query"): "vectors_query",
                ("GET", "vectors/fetch"): "vectors_fetch",
                ("POST", "vectors/fetch_by_metadata"): "vectors_fetch_by_metadata",
                ("POST", "vectors/delete"): "vectors_delete",
                ("POST", "bulk/imports"): "start_import",
            }.get((method, "/".join(parts)))
            if route:
                return index, route, []
        raise SurpriseError(f"no such route: {method} {path}")

    def _describe_index(self, _, name):
        """Describe an index; 404 for one that is not there. Documented."""
        if name not in self.indexes:
            raise AnswerError(404, f"Resource {name} not found", code="NOT_FOUND")
        return self.indexes[name].describe(self.now())

    def _create_index(self, _, *, name, schema, deployment):
        """Create an index; 409 if it exists. Documented."""
        check_index_name(name)
        check_schema(schema)
        if set(deployment) != {"deployment_type", "cloud", "region"}:
            raise SurpriseError(f"deployment {deployment}")
        if name in self.indexes:
            raise AnswerError(409, "Resource already exists", code="ALREADY_EXISTS")
        ready_at = self.now() + self.ready_after_s
        self.indexes[name] = Index(name, schema, f"{self.url}/data/{name}", ready_at)
        return self.indexes[name].describe(self.now())

    def _describe_namespace(self, index, name):
        """Describe a namespace; one exists with its first item. Documented."""
        if name not in index.namespaces:
            raise AnswerError(404, f"Namespace {name} not found", code="NOT_FOUND")
        return {"name": name, "record_count": str(len(index.namespaces[name].seen(self.now())))}

    def _documents_upsert(self, index, namespace, *, documents):
        """Write documents. Read in the client (pinecone 10.2, models/documents/responses.py)."""
        self._upsert(index, namespace, documents, DOCUMENT_RULES)
        return {"upserted_count": len(documents)}

    def _documents_search(self, index, namespace, *, score_by, top_k, include_fields=(), filter=None):
        """Search documents.

        Read in the client (pinecone 10.2, models/documents/requests.py). A field that is not in the schema: Assumed.
        """
        (clause,) = score_by
        if clause.keys() != {"type", "field", "values"} or clause["type"] != "dense_vector":
            raise SurpriseError(f"clause {clause}")
        if clause["field"] != index.dense:
            raise AnswerError(400, f"field {clause['field']} is not in the schema")
        found = self._nearest(index, namespace, clause["values"], top_k, filter, DOCUMENT_RULES)
        shown = [{**_shown(item, include_fields), "_score": score} for item, score in found]
        return {"matches": shown, "namespace": namespace, "usage": {"read_units": 1}}

    def _documents_fetch(self, index, namespace, *, include_fields=(), **which):
        """Documents by ids or by a filter. Read in the client (pinecone 10.2, models/documents/requests.py)."""
        items, after = self._fetch(index, namespace, DOCUMENT_RULES, **which)
        names = include_fields or ["*"]
        answer = {"documents": {item["_id"]: _shown(item, names) for item in items}, "namespace": namespace}
        return {**answer, "usage": {"read_units": 1}, **after}

    def _documents_delete(self, index, namespace, *, ids=None, filter=None):
        """Delete documents. Read in the client (pinecone 10.2, models/documents/requests.py)."""
        self._delete(index, namespace, DOCUMENT_RULES, ids, filter)
        return {} if filter is None else {"matched_records": 0}

    def _vectors_upsert(self, index, *, vectors, namespace):
        """Write vectors. Read in the client (pinecone 10.2, index/__init__.py)."""
        documents = [VECTOR_RULES.from_wire(vector) for vector in vectors]
        self._upsert(index, namespace, documents, VECTOR_RULES)
        return {"upsertedCount": len(documents)}

    def _vectors_query(self, index, *, vector, topK, namespace, filter=None, includeValues, includeMetadata):
        """Search vectors. Read in the client (pinecone 10.2, index/__init__.py)."""
        found = self._nearest(index, namespace, vector, topK, filter, VECTOR_RULES)
        shown = [
            {**VECTOR_RULES.to_wire(item, values=includeValues, metadata=includeMetadata), "score": score}
            for item, score in found
        ]
        return {"matches": shown, "namespace": namespace, "usage": {"readUnits": 1}}

    def _vectors_fetch(self, index, *, ids, namespace):
        """Vectors by ids. Read in the client (pinecone 10.2, index/__init__.py)."""
        items, _ = self._fetch(index, namespace, VECTOR_RULES, ids=ids)
        return self._vectors(items, namespace)

    def _vectors_fetch_by_metadata(self, index, *, filter, namespace, limit=100, paginationToken=None):
        """Vectors by a filter, 100 a page. Documented."""
        items, after = self._fetch(
            index, namespace, VECTOR_RULES, filter=filter, limit=limit, pagination_token=paginationToken
        )
        return {**self._vectors(items, namespace), **after}

    def _vectors_delete(self, index, *, namespace, ids=None, filter=None):
        """Delete vectors; 404 for a namespace that is not there. Documented."""
        if filter is not None and namespace not in index.namespaces:
            raise AnswerError(404, f"Namespace {namespace} not found")
        self._delete(index, namespace, VECTOR_RULES, ids, filter)
        return {}

    def _start_import(self, index, *, uri, errorMode, integrationId=None):
        """Import what is at an address, as other requests would write it, and at once.

        The schemes: Read in the client (pinecone 10.2, index/__init__.py). A folder for each namespace, Parquet for
        vectors: Documented. Lines of JSON for documents: Assumed.
        """
        if not uri.startswith(("s3://", "gs://", "https://")) or errorMode != {"onError": "abort"}:
            raise AnswerError(400, "the address of the import cannot be read")
        fs, root = fsspec.url_to_fs(uri)
        legacy = index.dense == "_values"
        rules, suffix = (VECTOR_RULES, ".parquet") if legacy else (DOCUMENT_RULES, ".jsonl")
        for path in fs.find(root):
            if not path.endswith(suffix):
                raise AnswerError(400, f"a file of the import is no {suffix}")
            with fs.open(path) as file:
                items = _vectors_in(file) if legacy else [json.loads(line) for line in file]
            for start in range(0, len(items), 100):
                self._upsert(index, path.split("/")[-2], items[start : start + 100], rules)
        self.imports.append((uri, integrationId))
        return {"id": str(len(self.imports))}

    def _vectors(self, items, namespace):
        """The answer with vectors. Read in the client (pinecone 10.2, models/vectors/responses.py)."""
        found = {item["_id"]: VECTOR_RULES.to_wire(item, values=True, metadata=True) for item in items}
        return {"vectors": found, "namespace": namespace, "usage": {"readUnits": 1}}

    def _upsert(self, index, namespace, documents, rules):
        """Write all items or none, each in place of its former.

        An upsert replaces an item: Documented. All or none: Assumed. Vectors are float32: Documented.
        """
        _check_kind(index, rules)
        rules.check_items(documents, field=index.dense, **{k: index.vector[k] for k in ("dimension", "metric")})
        for document in documents:
            if document["_id"] in self.poison:
                raise AnswerError(400, f"document {document['_id']} is refused by the test")
        stored = {document["_id"]: rules.stored(document) for document in documents}
        for document in stored.values():
            unit = np.array(document[index.dense], np.float32)
            document[index.dense] = unit.tolist()
        seen_at = self.now() + self.delay_s
        index.namespaces.setdefault(namespace, Namespace()).write(lambda items: items.update(stored), seen_at)

    def _nearest(self, index, namespace, vector, top_k, condition, rules):
        """The items of the best cosines. Documented."""
        _check_kind(index, rules)
        rules.check_query(vector, top_k, dimension=index.vector["dimension"])
        items = self._matching(index, namespace, condition)
        if not items:
            return []
        rows = np.array([item[index.dense] for item in items], np.float32)  # (N, E)
        query = np.array(vector, np.float32)
        scores = rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [(items[position], float(scores[position])) for position in order]

    def _fetch(self, index, namespace, rules, *, ids=None, filter=None, limit=100, pagination_token=None):
        """Items by ids, or a page of those that match, in the order of ids.

        The limit: Read in the client (pinecone 10.2, _internal/validation.py). The order: Assumed.
        """
        _check_kind(index, rules)
        if ids is not None:
            rules.check_ids(ids)
            items = self._seen(index, namespace)
            return [items[item_id] for item_id in dict.fromkeys(ids) if item_id in items], {}
        if not 1 <= limit <= 10_000:
            raise AnswerError(400, "limit must be 1 to 10000")
        items = sorted(self._matching(index, namespace, filter), key=lambda item: item["_id"])
        if pagination_token is not None:
            items = [item for item in items if item["_id"] > pagination_token]
        after = {"pagination": {"next": items[limit - 1]["_id"]}} if len(items) > limit else {}
        return items[:limit], after

    def _delete(self, index, namespace, rules, ids, condition):
        """Delete by ids or by a filter; an unknown id is ignored.

        Read in the client (pinecone 10.2, models/documents/requests.py).
        """
        _check_kind(index, rules)
        if (ids is None) == (condition is None):
            raise AnswerError(400, "one of ids and filter")
        if ids is not None:
            rules.check_ids(ids)
        else:
            matches({}, condition)

        def change(items):
            doomed = [name for name, item in items.items() if matches(item, condition)] if ids is None else ids
            for name in doomed:
                items.pop(name, None)

        if namespace in index.namespaces:
            index.namespaces[namespace].write(change, self.now() + self.delay_s)

    def _seen(self, index, namespace):
        """What can be seen of a namespace; nothing of one that is not there. Assumed."""
        return index.namespaces[namespace].seen(self.now()) if namespace in index.namespaces else {}

    def _matching(self, index, namespace, condition):
        """The items that match; a bad filter is refused where nothing is stored, too. Assumed."""
        matches({}, condition)  # a bad one is refused where nothing is stored, too
        return [item for item in self._seen(index, namespace).values() if matches(item, condition)]


def _check_kind(index, rules):
    """Refuse a call for the other kind of index. Assumed."""
    if index.rules is not rules:
        raise AnswerError(400, f"index {index.name} is not of the kind that this call is for")


def _vectors_in(file):
    """The vectors of a file of an import: three columns. Documented."""
    table = pq.read_table(file)
    if table.column_names != ["id", "values", "metadata"]:
        raise AnswerError(400, f"the columns are {table.column_names}")
    return [VECTOR_RULES.from_wire({**row, "metadata": json.loads(row["metadata"])}) for row in table.to_pylist()]


def _shown(item, names):
    """The fields of a document that were asked for. Read in the client (pinecone 10.2, client/documents.py)."""
    return dict(item) if "*" in names else {"_id": item["_id"], **{name: item[name] for name in names if name in item}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, double):
        self.double = double
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_):
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # a client that did not wait
            self.double.surprises.append(repr(error))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self):
        self._do("GET")

    def do_POST(self):
        self._do("POST")

    def do_DELETE(self):
        self._do("DELETE")

    def do_PATCH(self):
        self._do("PATCH")

    def _do(self, method):
        """Answer a request; an error has a code and a message.

        Read in the client (pinecone 10.2, errors/exceptions.py).
        """
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = 200
        headers: dict[str, str] = {}
        try:
            sent = self._answer(method, data)
        except AnswerError as error:
            status, headers = error.status, error.headers
            sent = json.dumps({"error": {"code": error.code, "message": str(error)}, "status": error.status}).encode()
        except Exception as error:  # noqa: BLE001 (whatever the double is not ready for)
            self.server.double.surprises.append(repr(error))
            status, sent = 501, json.dumps({"error": {"code": "SURPRISE", "message": repr(error)}}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(sent), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(sent)

    def _answer(self, method, data):
        """The bytes of an answer.

        2 MB of a request and 4 MB of a result: Documented. The length of an address: Assumed.
        """
        address = urlsplit(self.path)
        if len(self.path) > MAX_ADDRESS or len(data) > UPSERT_BYTES:
            self.server.double.requests.append((method, "too large"))
        if len(self.path) > MAX_ADDRESS:
            raise AnswerError(414, "the address is too long")
        if len(data) > UPSERT_BYTES:
            raise AnswerError(413, f"message length too large: found {len(data)} bytes")
        params = parse_qs(address.query, keep_blank_values=True)
        body = json.loads(data) if data else {}
        sent = json.dumps(self.server.double.answer(method, address.path, params, self.headers, body)).encode()
        if address.path.endswith(("/query", "/search")) and len(sent) > RESULT_BYTES:
            raise AnswerError(400, "the result is larger than 4 MB")
        return sent

    def log_message(self, *_):
        pass
