"""A Qdrant server on loopback: the REST calls that we make, answered by qdrant-client's local mode.

What the real server enforces and local mode does not is enforced here: keys, the size of a request, ids that are UUIDs,
`wait=true`. Whatever else it is asked is a failure that names it.
"""

import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel, ValidationError
from qdrant_client import QdrantClient, models
from qdrant_client.common import client_warnings

MAX_BODY_BYTES = 32 * 2**20  # Documented

# Local mode says once a process what it ignores. Here that is known, and a warning would be an error.
client_warnings.SEEN_MESSAGES |= {"create-local-payload-indexes", "local_query_points_search_params_ignored"}


@dataclass
class Fault:
    """What the server does instead of answering, to the next `times` requests that match."""

    pattern: str  # of "METHOD /path"
    status: int = 200  # 200 answers as usual, after the delay
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"status": {"error": "out of order"}, "time": 0}'
    delay_s: float = 0.0
    meeting: threading.Barrier | None = None  # at which requests wait for each other first
    times: int = 1
    skip: int = 0  # so many matching requests are answered as usual first


@dataclass
class Request:
    call: str  # "METHOD /path"
    body: bytes
    headers: dict[str, str]

    @property
    def json(self):
        return json.loads(self.body)


class RefusedError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class QdrantServer:
    """A context manager; `url` is where it listens."""

    def __init__(self, *, api_key=None, read_only_key=None):
        self.faults: list[Fault] = []
        self.on_fault: Callable[[Fault], object] | None = None  # is told of each fault
        self.requests: list[Request] = []
        self.keys = {key: kind for key, kind in ((api_key, "all"), (read_only_key, "read")) if key is not None}
        self.indexes: dict[str, dict[str, Any]] = {}
        self.links: dict[str, dict[str, int]] = {}  # of the search index, where they were changed
        self._client: Any = QdrantClient(":memory:")
        self._end = threading.Event()
        self._lock = threading.Lock()  # local mode is for one thread

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def log_message(self, *_):
                pass

            def _answer(self):
                server.answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _answer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        return self

    def __exit__(self, *_):
        self.stop()
        self._client.close()

    def stop(self):
        """Answer nobody any more; a second call does nothing."""
        self._end.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def calls(self):
        return [request.call for request in self.requests]

    def answer(self, handler):
        """Answer a request: 400 for what local mode refuses, with the message in `status.error`. Documented."""
        length = int(handler.headers.get("Content-Length", 0))
        path, _, query = handler.path.partition("?")
        call = f"{handler.command} {path}"
        body = handler.rfile.read(length)
        self.requests.append(Request(call, body, dict(handler.headers)))
        fault = self._fault(call)
        if fault is not None:
            if fault.meeting is not None:
                fault.meeting.wait(20)
            if self._end.wait(fault.delay_s):
                return
            if fault.status != 200:
                self._send(handler, fault.status, fault.body, fault.headers)
                return
        try:
            with self._lock:
                result = self._perform(call, query, body, handler.headers)
        except RefusedError as error:
            status, answer = error.status, {"status": {"error": str(error)}, "time": 0}
        except (ValueError, ValidationError) as error:  # what local mode says of a bad request
            status, answer = 400, {"status": {"error": str(error)}, "time": 0}
        except Exception as error:
            status, answer = 500, {"status": {"error": f"the double is broken: {error!r}"}, "time": 0}
            raise
        else:
            status, answer = 200, {"result": result, "status": "ok", "time": 0}
        finally:
            self._send(handler, status, json.dumps(answer, default=to_json).encode(), {})

    def _fault(self, call):
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, call):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if self.on_fault is not None:
                    self.on_fault(fault)
                return fault
        return None

    def _send(self, handler, status, body, headers):
        try:
            handler.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has not waited

    def _perform(self, call, query, body, headers):
        """Perform a call.

        The limit of a body: Documented; its status: Assumed. A call without `wait=true` is answered before its points
        can be read: Documented.
        """
        if len(body) > MAX_BODY_BYTES:
            raise RefusedError(413, "Payload too large")
        for pattern, perform, kind in ROUTES:
            found = re.fullmatch(pattern, call)
            if found:
                self._check_key(headers.get("api-key"), kind)
                if kind == "write" and "wait=true" not in query.split("&"):
                    raise RefusedError(500, f"the double answers no {call!r} that does not wait")
                return perform(self, found[1], body)
        raise RefusedError(500, f"the double has no {call!r}")

    def _check_key(self, key, kind):
        """Check the key.

        A wrong key, a missing key, and a key that may only read: Seen on a real server (Qdrant 1.19.0). The statuses,
        and the words of 401: Documented. The words of 403: Assumed.
        """
        if not self.keys:
            return
        if key not in self.keys:
            raise RefusedError(401, "Must provide an API key or an Authorization bearer token")
        if kind != "read" and self.keys[key] == "read":
            raise RefusedError(403, "Global write access is required")

    def exists(self, name, _):
        """Whether a collection exists. Read in the client (qdrant-client 1.20, http/api/collections_api.py)."""
        return {"exists": self._client.collection_exists(name)}

    def describe(self, name, _):
        """The description of a collection, with its indexes.

        Read in the client (qdrant-client 1.20, http/models/models.py).
        """
        self._check_exists(name)
        info = self._client.get_collection(name).model_dump(mode="json", exclude_none=True)
        info["payload_schema"] = self.indexes[self._named(name)]
        for vector, links in self.links.get(self._named(name), {}).items():
            info["config"]["params"]["vectors"][vector].setdefault("hnsw_config", {})["m"] = links
        return info

    def update(self, name, body):
        """Change the links of the search index of some vectors, which local mode does not have.

        Which fields there are, and that a field that is left out stays: Read in the client (qdrant-client 1.20,
        http/models/models.py). A vector of an unknown name is refused: Assumed.
        """
        self._check_exists(name)
        asked: Any = models.UpdateCollection.model_validate_json(body)
        if set(json.loads(body)) != {"vectors"}:
            raise RefusedError(500, f"the double changes nothing but vectors: {body!r}")
        known = self._client.get_collection(name).config.params.vectors
        for vector, changed in asked.vectors.items():
            if vector not in known:
                raise RefusedError(400, f"Wrong input: Not existing vector name error: {vector}")
            self.links.setdefault(self._named(name), {})[vector] = changed.hnsw_config.m
        return True

    def create(self, name, body):
        """Create a collection; 409 if it exists: Documented. The words: Assumed."""
        if self._client.collection_exists(name):
            raise RefusedError(409, f"Wrong input: Collection `{name}` already exists!")
        asked = models.CreateCollection.model_validate_json(body)
        self._client.create_collection(name, vectors_config=asked.vectors, metadata=asked.metadata)
        self.indexes[name] = {}
        return True

    def aliases(self, *_):
        """All aliases. Read in the client (qdrant-client 1.20, http/api/aliases_api.py)."""
        return self._client.get_aliases()

    def change_aliases(self, _, body):
        """Change aliases, all of them or none. Read in the client (qdrant-client 1.20, http/api/aliases_api.py).

        An alias with the name of a collection is refused: Documented.
        """
        asked = models.ChangeAliasesOperation.model_validate_json(body)
        return self._client.update_collection_aliases(asked.actions)

    def drop(self, name, _):
        """Delete a collection; one that is not there is no error. Documented."""
        return self._client.delete_collection(name)

    def index(self, name, body):
        """Index a field of the payload. The name in the description is unquoted: Assumed."""
        self._check_exists(name)
        asked = models.CreateFieldIndex.model_validate_json(body)
        # The server tells a path in its own spelling: quoted only where it must be.
        field_name = re.sub(r'"([\w-]+)"', r"\1", asked.field_name)
        self.indexes[self._named(name)][field_name] = {
            "data_type": asked.field_schema,
            "points": 0,
        }
        return {"operation_id": 0, "status": "completed"}

    def upsert(self, name, body):
        """Write points. An id is a UUID or an unsigned integer: Documented. We send only UUIDs."""
        self._check_exists(name)
        asked = models.PointsList.model_validate_json(body)
        for point in asked.points:
            uuid.UUID(str(point.id))
        return self._client.upsert(name, asked.points)

    def retrieve(self, name, body):
        """Points by ids. Read in the client (qdrant-client 1.20, http/models/models.py)."""
        self._check_exists(name)
        asked = models.PointRequest.model_validate_json(body)
        return self._client.retrieve(name, asked.ids, with_payload=asked.with_payload, with_vectors=asked.with_vector)

    def scroll(self, name, body):
        """A page of points, and the id with which the next page begins.

        Read in the client (qdrant-client 1.20, http/models/models.py).
        """
        self._check_exists(name)
        asked = models.ScrollRequest.model_validate_json(body)
        points, following = self._client.scroll(
            name,
            scroll_filter=asked.filter,
            limit=asked.limit,
            offset=asked.offset,
            with_payload=asked.with_payload,
            with_vectors=asked.with_vector,
        )
        return {"points": points, "next_page_offset": following}

    def count(self, name, body):
        """Count points. Read in the client (qdrant-client 1.20, http/models/models.py)."""
        self._check_exists(name)
        asked = models.CountRequest.model_validate_json(body)
        return self._client.count(name, count_filter=asked.filter, exact=asked.exact)

    def query(self, name, body):
        """Search. Read in the client (qdrant-client 1.20, http/models/models.py)."""
        self._check_exists(name)
        return self._query(name, [models.QueryRequest.model_validate_json(body)])[0]

    def query_batch(self, name, body):
        """Search several times. Read in the client (qdrant-client 1.20, http/models/models.py)."""
        self._check_exists(name)
        return self._query(name, models.QueryRequestBatch.model_validate_json(body).searches)

    def _query(self, name, asked):
        """Search; a limit that may be too much for a server is a failure of the test. The limit: Assumed."""
        for one in asked:
            if one.limit is None or one.limit > 1_000_000:
                raise RefusedError(500, f"a real server may fall over a limit of {one.limit}")
        return self._client.query_batch_points(name, asked)

    def delete(self, name, body):
        """Delete points by ids or by a filter. Read in the client (qdrant-client 1.20, http/models/models.py)."""
        self._check_exists(name)
        chosen = json.loads(body)
        kind = models.FilterSelector if "filter" in chosen else models.PointIdsList
        return self._client.delete(name, kind.model_validate(chosen))

    def _named(self, name):
        """The collection of a name or an alias. Documented."""
        found = {each.alias_name: each.collection_name for each in self._client.get_aliases().aliases}
        return found.get(name, name)

    def _check_exists(self, name):
        """Refuse a collection that does not exist, with 404.

        Seen on a real server (Qdrant 1.19.0). The words: Read in the server's source (Qdrant).
        """
        if not self._client.collection_exists(name):
            raise RefusedError(404, f"Not found: Collection `{name}` doesn't exist!")


def to_json(value):
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"the double answers no {value!r}")


# Read in the client (qdrant-client 1.20, http/api/points_api.py)
COLLECTION = "/collections/([^/]+)"
ROUTES = (
    ("GET (/aliases)", QdrantServer.aliases, "read"),
    ("POST (/collections/aliases)", QdrantServer.change_aliases, "manage"),
    (f"GET {COLLECTION}/exists", QdrantServer.exists, "read"),
    (f"GET {COLLECTION}", QdrantServer.describe, "read"),
    (f"PUT {COLLECTION}", QdrantServer.create, "manage"),
    (f"DELETE {COLLECTION}", QdrantServer.drop, "manage"),
    (f"PATCH {COLLECTION}", QdrantServer.update, "manage"),
    (f"PUT {COLLECTION}/index", QdrantServer.index, "write"),
    (f"PUT {COLLECTION}/points", QdrantServer.upsert, "write"),
    (f"POST {COLLECTION}/points", QdrantServer.retrieve, "read"),
    (f"POST {COLLECTION}/points/scroll", QdrantServer.scroll, "read"),
    (f"POST {COLLECTION}/points/count", QdrantServer.count, "read"),
    (f"POST {COLLECTION}/points/query", QdrantServer.query, "read"),
    (f"POST {COLLECTION}/points/query/batch", QdrantServer.query_batch, "read"),
    (f"POST {COLLECTION}/points/delete", QdrantServer.delete, "write"),
)
