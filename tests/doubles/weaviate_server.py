"""A double of a Weaviate server (1.40), for weaviate-client over real sockets: the REST and gRPC calls that we make.

    with WeaviateDouble(api_key=None) as server:
        client = server.connect()

What it does not know it answers with an error that says so, and keeps in `surprises`. Faults are told beforehand:

    server.fail("Search", grpc.StatusCode.INTERNAL, times=2)     # gRPC methods by name, REST calls like "GET /v1/meta"
    server.delay("Search", 0.5)
    server.gather("Search", 2)                                   # two at once
    server.refused["a"] = "no room"                              # by the `record_id` of an object
    server.lose("Photos", ["a"])                                 # from the vector index, as by `kill -9`
    server.kill_during("BatchObjects", grpc.StatusCode.UNAVAILABLE)
"""

import contextlib
import json
import socket
import threading
import uuid
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc  # type: ignore[import-untyped]  # no stubs
import numpy as np
import weaviate
from google.protobuf import json_format  # type: ignore[import-untyped]  # no stubs
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.proto.v1 import (
    aggregate_pb2,
    batch_delete_pb2,
    batch_pb2,
    health_weaviate_pb2,
    properties_pb2,
    search_get_pb2,
    weaviate_pb2_grpc,
)

from tests.doubles.weaviate_collections import Collection, Refused, Surprise, TooLarge
from tests.doubles.weaviate_queries import hybrid, know, matching, nearest, pack, unpack

VERSION = "1.40.0"  # the server on which rules were seen. Read in the client (weaviate-client 4.24, connect/v4.py)
MOST_RESULTS, DEFAULT_RESULTS = 10_000, 10  # QUERY_MAXIMUM_RESULTS, QUERY_DEFAULTS_LIMIT: Documented
MESSAGE_BYTES = 104_858_000  # Seen on a real server (Weaviate 1.40.0-dev)
KILLED = "the server was killed"


class WeaviateDouble:
    def __init__(self, *, api_key=None, version=VERSION, most_results=MOST_RESULTS, auto_schema=True):
        self.version = version
        self.auto_schema = auto_schema  # AUTOSCHEMA_ENABLED: on by default, as in a server. Documented
        self.message_bytes = MESSAGE_BYTES
        self.most_results = most_results
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.calls: list[str] = []
        self.surprises: list[str] = []
        self.refused: dict[str, str] = {}
        self.lock = threading.RLock()
        self._authorization = None if api_key is None else f"Bearer {api_key}"
        self._faults: dict[str, list[tuple[object, str] | None]] = {}
        self._delays: dict[str, float] = {}
        self._meetings: dict[str, threading.Barrier] = {}

    def __enter__(self):
        self._stop = threading.Event()
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
        self._grpc = grpc.server(futures.ThreadPoolExecutor(8), options=options)
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(_Servicer(self), self._grpc)
        self._grpc.add_generic_rpc_handlers((_health_handler(),))
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._http = _HttpServer(("127.0.0.1", 0), _handler(self))
        self.http_port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.hang_up()
        self._thread.join()
        self._http.server_close()

    def fail(self, call, status, *, times=1, after=0, details="a fault that was asked for"):
        """Let the next `times` calls fail, once `after` calls have passed."""
        self._faults.setdefault(call, []).extend([None] * after + [(status, details)] * times)

    def kill_during(self, call, status, *, after=0):
        """Let a later `BatchObjects` store its objects, lose them from the vector index, and fail.

        Seen on a real server (Weaviate 1.40.0-dev).
        """
        self._faults.setdefault(call, []).extend([None] * after + [(status, KILLED)])

    def delay(self, call, seconds):
        self._delays[call] = seconds

    def lose(self, name, record_ids):
        """Let the vector index lack these objects; see `Collection.put`.

        Seen on a real server (Weaviate 1.40.0-dev).
        """
        collection = self.collections[name]
        for stored in collection.objects.values():
            if stored.properties["record_id"] in record_ids:
                collection.lost.add(stored.number)

    def gather(self, call, parties):
        """Let the next calls wait until there are as many; none is answered before each of them was worked on."""

        def met():
            self._meetings.pop(call, None)  # it is called at the beginning and at the end

        self._meetings[call] = threading.Barrier(parties, action=met)

    @contextlib.contextmanager
    def connect(self, *, api_key=None, timeout_s=30.0):
        with weaviate.connect_to_custom(**self.address(api_key=api_key, timeout_s=timeout_s)) as client:
            yield client

    @contextlib.asynccontextmanager
    async def connect_async(self, *, api_key=None, timeout_s=30.0):
        async with weaviate.use_async_with_custom(**self.address(api_key=api_key, timeout_s=timeout_s)) as client:
            yield client

    def address(self, *, api_key=None, timeout_s=30.0):
        return {
            "http_host": "127.0.0.1",
            "http_port": self.http_port,
            "http_secure": False,
            "grpc_host": "127.0.0.1",
            "grpc_port": self.grpc_port,
            "grpc_secure": False,
            "auth_credentials": None if api_key is None else Auth.api_key(api_key),
            "additional_config": AdditionalConfig(timeout=Timeout(init=5, query=timeout_s, insert=timeout_s)),
            "skip_init_checks": True,  # one of them asks the package index for a newer client
        }

    def begin(self, call, authorization):
        """Note a call, delay it as it was told, and give the fault it is to have.

        The answer without the right key: Documented.
        """
        self.calls.append(call)
        self._stop.wait(self._delays.get(call, 0.0))
        if self._authorization not in (None, authorization):
            return "unauthorized", "anonymous access not enabled, please provide an auth scheme"
        faults = self._faults.get(call)
        return faults.pop(0) if faults else None

    @contextlib.contextmanager
    def meeting(self, call):
        """Work on a call together with those that it is to be gathered with."""
        barrier = self._meetings.get(call)
        if barrier is None:
            yield
            return
        barrier.wait(timeout=20)
        try:
            yield
        finally:  # what is refused was worked on, too
            barrier.wait(timeout=20)

    def collection(self, name):
        """The collection of a name. Read in the server's source (Weaviate)."""
        if name not in self.collections:
            raise Refused(f"could not find class {name} in schema")
        return self.collections[name]

    def surprised(self, surprise):
        self.surprises.append(str(surprise))
        return f"the double does not know: {surprise}"


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    connections: tuple[socket.socket, ...] = ()

    def get_request(self):
        connection, address = super().get_request()
        self.connections = (*self.connections, connection)
        return connection, address

    def hang_up(self):
        for connection in self.connections:
            with contextlib.suppress(OSError):  # most have ended by themselves
                connection.shutdown(socket.SHUT_RDWR)


def _handler(server):  # noqa: C901 (ruff counts the methods of the class in it)
    """Answers REST calls: 401 without the key, 422 for what is refused, with the message in `error`. Documented."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in two packets waits 40 ms for the second

        def log_message(self, *_):
            pass

        def do_GET(self):
            self._answer()

        def do_POST(self):
            self._answer()

        def do_DELETE(self):
            self._answer()

        def __getattr__(self, name):
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = f"{self.command} {self.path}"
            fault = server.begin(call, self.headers.get("Authorization"))
            if fault is not None:
                status, details = fault
                return self._send(401 if status == "unauthorized" else status, {"error": [{"message": details}]})
            try:
                with server.meeting(call), server.lock:
                    status, answer = _rest(server, self.command, self.path, json.loads(body) if body else None)
            except Refused as refused:
                status, answer = 422, {"error": [{"message": str(refused)}]}
            except Surprise as surprise:
                status, answer = 501, {"error": [{"message": server.surprised(surprise)}]}
            except Exception as error:
                server.surprised(f"{error!r} in {call}")
                raise
            return self._send(status, answer)

        def _send(self, status, answer):
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def _rest(server, verb, path, body):
    """The status and the answer of a REST call.

    The routes: Read in the client (weaviate-client 4.24, collections/collections/executor.py). A name that
    differs only in capitals is taken, and a definition is not found by an alias: Read in the server's source
    (Weaviate).
    """
    match verb, path.removeprefix("/v1/").split("/"):
        case "GET", ["meta"]:
            return 200, {
                "hostname": "double",
                "modules": {},
                "version": server.version,
                "grpcMaxMessageSize": MESSAGE_BYTES,
            }
        case "GET", [".well-known", "ready" | "live"]:
            return 200, None
        case "POST", ["schema"]:
            made = Collection(body)
            if made.name.lower() in map(str.lower, server.collections):
                raise Refused(f"class name {made.name} already exists")
            server.collections[made.name] = made
            return 200, made.definition
        case _, ["aliases", name]:
            return _alias(server, verb, name, body)
        case "GET", ["schema", name]:
            return (200, server.collections[name].definition) if name in server.collections else (404, None)
        case "GET", ["schema", name, "shards"]:
            status = "READY" if server.collection(name).read_only is None else "READONLY"
            return 200, [{"name": "shard", "status": status, "vectorQueueSize": 0}]
        case "DELETE", ["schema", name]:
            server.collections.pop(name, None)
            return 200, None
        case "POST", ["schema", name, "properties"]:
            return 200, server.collection(name).add_property(body)
    raise Surprise(f"{verb} {path}")


def _alias(server, verb, name, body):
    """Ask for an alias, or change it. Read in the client (weaviate-client 4.24, aliases/executor.py)."""
    if verb not in ("GET", "PUT"):
        raise Surprise(f"{verb} of an alias")
    if name not in server.aliases or (verb == "PUT" and body["class"] not in server.collections):
        return 404, None
    if verb == "PUT":
        server.aliases[name] = body["class"]
    return 200, {"alias": name, "class": server.aliases[name]}


def _health_handler():
    """The health service, with Weaviate's own messages. Read in the client (weaviate-client 4.24, connect/v4.py)."""

    def check(*_):
        serving = health_weaviate_pb2.WeaviateHealthCheckResponse.SERVING
        return health_weaviate_pb2.WeaviateHealthCheckResponse(status=serving)

    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=health_weaviate_pb2.WeaviateHealthCheckRequest.FromString,
        response_serializer=health_weaviate_pb2.WeaviateHealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})


class _Servicer(weaviate_pb2_grpc.WeaviateServicer):
    def __init__(self, server):
        self._server = server

    def Search(self, request, context):
        return self._answer("Search", _search, request, context)

    def BatchObjects(self, request, context):
        return self._answer("BatchObjects", _batch_objects, request, context)

    def BatchDelete(self, request, context):
        return self._answer("BatchDelete", _batch_delete, request, context)

    def Aggregate(self, request, context):
        return self._answer("Aggregate", _aggregate, request, context)

    def _answer(self, call, work, request, context):
        """Answer a gRPC call, or end it with a status.

        UNKNOWN for what is refused: Assumed. RESOURCE_EXHAUSTED for a message that is too large: Documented.
        """
        authorization = dict(context.invocation_metadata()).get("authorization")
        fault = self._server.begin(call, authorization)
        if fault is not None:
            status, details = fault
            if details == KILLED:
                with self._server.lock:
                    work(self._server, request)
                    ids = {wanted.properties.non_ref_properties["record_id"] for wanted in request.objects}
                    self._server.lose(request.objects[0].collection, ids)
            context.abort(grpc.StatusCode.UNAUTHENTICATED if status == "unauthorized" else status, details)
        try:
            with self._server.meeting(call), self._server.lock:
                return work(self._server, request)
        except TooLarge as refused:
            return context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refused))
        except Refused as refused:
            return context.abort(grpc.StatusCode.UNKNOWN, str(refused))
        except Surprise as surprise:
            return context.abort(grpc.StatusCode.UNIMPLEMENTED, self._server.surprised(surprise))
        except Exception as error:
            self._server.surprised(f"{error!r} in {call}")
            raise


# The fields that the client sends: Read in the client (weaviate-client 4.24, collections/grpc/query.py)
_SEARCHES = ("near_vector", "hybrid_search")
_PAGING = ("limit", "offset", "after")
_REQUEST = ("collection", "properties", "metadata", "filters", "uses_123_api", "uses_125_api", "uses_127_api")


def _search(server, request):
    """Answer a search.

    `after` goes by ids and suffers no filter: Documented; its words: Read in the server's source (Weaviate). The limit
    of `offset` + `limit`: Documented.
    """
    know(request, (*_REQUEST, *_PAGING, *_SEARCHES), "Search")
    collection = server.collection(request.collection)
    limit = request.limit or DEFAULT_RESULTS
    if request.offset + limit > server.most_results:
        raise Refused("query maximum results exceeded")
    allowed = matching(collection, request.filters) if request.HasField("filters") else None
    beside = allowed is not None or request.offset or any(request.HasField(name) for name in _SEARCHES)
    if request.after and beside:
        raise Refused("cursor api: invalid 'after' parameter: where cannot be set with after and limit parameters")
    if request.HasField("near_vector"):
        know(request.near_vector, ("vectors", "targets"), "near_vector")
        vectors, targets = request.near_vector.vectors, request.near_vector.targets
        scored = nearest(collection, vectors, targets, limit=request.offset + limit, allowed=allowed)
        kind = "distance"
    elif request.HasField("hybrid_search"):
        known = ("query", "properties", "alpha_param", "use_alpha_param", "vector_bytes", "vectors", "targets")
        know(request.hybrid_search, known, "hybrid_search")
        most = {"limit": request.offset + limit, "most_results": server.most_results}
        scored, kind = hybrid(collection, request.hybrid_search, allowed, **most), "score"
    else:
        # With a filter, objects come in the order of their numbers: Seen on a real server (Weaviate 1.40.0-dev)
        by_identity = allowed is None
        objects = sorted(
            collection.objects.values(),
            key=lambda stored: stored.identity.bytes if by_identity else stored.number,
        )
        after = uuid.UUID(request.after).bytes if request.after else b""
        scored, kind = [(stored, None) for stored in objects if stored.identity.bytes > after], None
    kept = [pair for pair in scored if allowed is None or pair[0].number in allowed]
    results = [_result(request, collection, stored, kind, score) for stored, score in kept]
    reply = search_get_pb2.SearchReply(results=results[request.offset : request.offset + limit])
    if reply.ByteSize() > server.message_bytes:  # Seen on a real server (Weaviate 1.40.0-dev)
        sizes = f"({reply.ByteSize()} vs. {server.message_bytes})"
        raise TooLarge(f"grpc: trying to send message larger than max {sizes}")
    return reply


def _result(request, collection, stored, kind, score):
    """One object of an answer: the properties and metadata that were asked for.

    Read in the client (weaviate-client 4.24, collections/grpc/query.py).
    """
    wanted = request.metadata
    know(wanted, ("uuid", "vectors", "distance", "score"), "metadata")
    metadata = search_get_pb2.MetadataResult(id=str(stored.identity), id_as_bytes=stored.identity.bytes)
    if kind is not None and getattr(wanted, kind):
        setattr(metadata, kind, score)
        setattr(metadata, f"{kind}_present", True)
    metadata.vectors.extend(pack(name, stored.vectors[name]) for name in wanted.vectors if name in stored.vectors)
    know(request.properties, ("non_ref_properties",), "properties")
    fields = {}
    for name in request.properties.non_ref_properties:
        collection.property_named(name)
        value = stored.properties.get(name)
        if value is None:
            fields[name] = properties_pb2.Value(null_value=0)
        elif isinstance(value, str):
            fields[name] = properties_pb2.Value(text_value=value)
        else:
            raise Surprise(f"property {name!r} asked for")
    properties = search_get_pb2.PropertiesResult(
        target_collection=collection.name, non_ref_props=properties_pb2.Properties(fields=fields)
    )
    return search_get_pb2.SearchResult(properties=properties, metadata=metadata)


def _batch_objects(server, request):
    """Write objects one by one; the error of each refused object is told by its position.

    Read in the client (weaviate-client 4.24, collections/batch/grpc_batch.py).
    """
    know(request, ("objects",), "BatchObjects")
    errors = []
    for index, wanted in enumerate(request.objects):
        know(wanted, ("uuid", "properties", "collection", "vectors"), "object")
        try:
            _put(server, wanted)
        except (Refused, ValueError) as refused:
            errors.append(batch_pb2.BatchObjectsReply.BatchError(index=index, error=str(refused)))
    return batch_pb2.BatchObjectsReply(took=0.001, errors=errors)


def _put(server, wanted):
    """Write an object of a batch. Read in the client (weaviate-client 4.24, collections/batch/grpc_batch.py)."""
    know(wanted.properties, ("non_ref_properties", "text_array_properties"), "object properties")
    properties = json_format.MessageToDict(wanted.properties.non_ref_properties)
    properties |= {array.prop_name: list(array.values) for array in wanted.properties.text_array_properties}
    if properties.get("record_id") in server.refused:
        raise Refused(server.refused[properties["record_id"]])
    vectors = {vector.name: np.array(unpack(vector)) for vector in wanted.vectors}
    _collection_for(server, wanted.collection, properties, vectors).put(uuid.UUID(wanted.uuid), properties, vectors)


def _collection_for(server, name, properties, vectors):
    """The collection of an object. With auto-schema, the server makes what is missing.

    Seen on a real server (Weaviate 1.40.0-dev), with AUTOSCHEMA_ENABLED=true and false. The words: Assumed.
    """
    if not server.auto_schema:
        if name not in server.collections:
            raise Refused(f"class '{name}' not present in schema")
        return server.collections[name]
    if name not in server.collections:
        made = {"vectorizer": {"none": {}}, "vectorIndexType": "hnsw"}
        server.collections[name] = Collection({"class": name, "vectorConfig": dict.fromkeys(vectors, made)})
    collection = server.collections[name]
    known = {each["name"] for each in collection.definition["properties"]}
    for unknown in sorted(properties.keys() - known):
        kind = {str: "text", float: "number", list: "text[]"}[type(properties[unknown])]
        collection.add_property({"name": unknown, "dataType": [kind]})
    return collection


def _batch_delete(server, request):
    """Delete what meets a filter, at most as many objects as a query gives.

    The limit: Documented. No filter is refused: Read in the server's source (Weaviate).
    """
    know(request, ("collection", "filters"), "BatchDelete")
    collection = server.collection(request.collection)
    if not request.HasField("filters"):
        raise Refused("no filters in batch delete request")
    numbers = matching(collection, request.filters)
    # One failure a shard, not one an object: Seen on a real server (Weaviate 1.40.0-dev)
    if collection.read_only is not None:
        return batch_delete_pb2.BatchDeleteReply(took=0.001, matches=len(numbers), failed=1, successful=0)
    doomed = [stored for stored in collection.objects.values() if stored.number in numbers][: server.most_results]
    kept = [stored for stored in doomed if stored.properties.get("record_id") in server.refused]
    for stored in doomed:
        if stored not in kept:
            collection.delete(stored.identity)
    return batch_delete_pb2.BatchDeleteReply(
        took=0.001, matches=len(numbers), failed=len(kept), successful=len(doomed) - len(kept)
    )


def _aggregate(server, request):
    """Count the objects that meet a filter.

    Read in the client (weaviate-client 4.24, collections/grpc/aggregate.py).
    """
    know(request, ("collection", "objects_count", "filters"), "Aggregate")
    collection = server.collection(request.collection)
    count = len(matching(collection, request.filters)) if request.HasField("filters") else len(collection.objects)
    single = aggregate_pb2.AggregateReply.Single(objects_count=count if request.objects_count else None)
    return aggregate_pb2.AggregateReply(took=0.001, single_result=single)
