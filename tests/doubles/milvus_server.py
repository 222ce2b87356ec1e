"""Milvus Lite behind a socket of its own, in which calls fail, wait or need a token. The engine is real.

What is added to the engine:
- a token goes with each call, in base64, as `authorization` (read in the client), and any other is UNAUTHENTICATED
  (documented);
- a call that is refused, or is one too many, says so in the status of its answer (documented).
"""

import base64
import threading
from concurrent import futures
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import grpc  # type: ignore[import-untyped]  # no stubs
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus import MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

RATE_LIMIT = 8

_ANSWERS = {
    "Search": milvus_pb2.SearchResults,
    "Query": milvus_pb2.QueryResults,
    "Upsert": milvus_pb2.MutationResult,
    "Delete": milvus_pb2.MutationResult,
    "DescribeCollection": milvus_pb2.DescribeCollectionResponse,
}


@dataclass
class _Fault:
    wanted: bytes
    code: int
    reason: str
    hold: bool


class MilvusServer:
    """A server on a free port of loopback, with the faults that it is told."""

    def __init__(self, token: str = "", version: str | None = None) -> None:
        self.token = token
        self.version = version  # that it tells; Lite's own if it is `None`
        self.calls: list[str] = []
        self._faults: dict[str, _Fault] = {}
        self._released = threading.Event()

    def __enter__(self):
        self._folder = TemporaryDirectory()
        self._db = MilvusLite(self._folder.name)
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), interceptors=[_Troubled(self)])
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(self._db), self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self._db.close()
        self._folder.cleanup()

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def connect(self, **options):
        """A client, which the caller closes."""
        return MilvusClient(uri=self.uri, **{"token": self.token, "dedicated": True, "timeout": 5, **options})

    def stop(self):
        self._released.set()
        self._server.stop(grace=None).wait()

    def fail(self, *methods, code=1, reason="so it is", wanted=b"", hold=False):
        """Let calls of the methods fail whose requests hold the wanted bytes; or hold them until the server ends."""
        self._faults |= dict.fromkeys(methods, _Fault(wanted, code, reason, hold))

    def rows(self, collection):
        """What the engine has, also once the server has ended."""
        return self._db.get_collection(collection).query('pk != ""', output_fields=["record_id"])

    def recover(self):
        """Let no call fail any more."""
        self._faults.clear()

    def answer(self, method, request, context, behaviour):
        self.calls.append(method)
        given = dict(context.invocation_metadata()).get("authorization", "")
        if self.token and given not in (encoded := base64.b64encode(self.token.encode()), encoded.decode()):
            told = base64.b64decode(given).decode()  # the worst that one could say
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"auth check failure, authorization: {told}")
        if method == "GetVersion" and self.version is not None:
            return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version=self.version)
        fault = self._faults.get(method)
        if fault is None or fault.wanted not in request.SerializeToString():
            return behaviour(request, context)
        if fault.hold:
            self._released.wait(timeout=60)
        kind = _ANSWERS.get(method)
        status = common_pb2.Status(code=fault.code, error_code=common_pb2.UnexpectedError, reason=fault.reason)
        return status if kind is None else kind(status=status)


class _Troubled(grpc.ServerInterceptor):  # type: ignore[misc]  # untyped
    def __init__(self, server: MilvusServer) -> None:
        self._server = server

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._server.answer(method, request, context, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
