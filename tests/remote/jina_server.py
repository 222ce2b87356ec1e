"""A double of a `/v1/embeddings` endpoint on loopback, by the rules of the published schema (2026.04.02).

    with JinaServer(embed, api_key="secret") as server:
        RemoteEmbedder(config, base_url=server.url, api_key="secret")

`embed(kind, values, fields)` gives the full vectors. A fault is a function `(status, headers, body) -> the same, or
None to hang up`; `server.faults` are taken one a request. What arrived is in `server.requests`.
"""

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

FIELDS = {"model", "input", "normalized", "embedding_type", "truncate"}
OPTIONS = {"dimensions", "task"}
MODELS = {"jina-clip-v1": FIELDS, "jina-clip-v2": FIELDS | OPTIONS, "nano": FIELDS | OPTIONS}
IMAGE_BYTES = 8_000_000


class RefusedError(Exception):
    def __init__(self, status, code, detail, *, field=None):
        super().__init__(detail)
        self.status = status
        self.body = {"detail": detail, "code": code, "request_id": "03f58cd9da22fabf"}
        if field is not None:
            self.body["errors"] = [{"field": field, "message": detail, "type": "value_error", "input": "sent"}]


class JinaServer:
    def __init__(self, embed, *, api_key=None, max_items=512, max_body_bytes=16_000_000):
        self.embed = embed
        self.api_key = api_key
        self.max_items = max_items
        self.max_body_bytes = max_body_bytes
        self.faults = []
        self.requests = []
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.end = threading.Event()

    def __enter__(self):
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, headers, body):
        try:
            return 200, {}, json.dumps(self._answer(headers, body)).encode()
        except RefusedError as error:
            return error.status, {}, json.dumps(error.body).encode()

    def _answer(self, headers, body):
        if self.api_key is not None and headers["Authorization"] != f"Bearer {self.api_key}":
            raise RefusedError(401, "AUTH_INVALID_API_KEY", f"Invalid API key {headers['Authorization']}")
        if len(body) > self.max_body_bytes:
            raise RefusedError(413, "BODY", f"{len(body)} bytes")
        request = json.loads(body)
        with self.lock:
            self.requests.append(request)
        if request["model"] not in MODELS:
            raise RefusedError(400, "INPUT_MODEL_NOT_FOUND", f"Model {request['model']!r} not found")
        for name in request.keys() - MODELS[request["model"]]:
            raise RefusedError(422, "VALIDATION", f"{name}: extra inputs are not permitted", field=name)
        if not 1 <= len(request["input"]) <= self.max_items:
            raise RefusedError(422, "VALIDATION", "list length", field="input")
        if request.get("task") not in (None, "retrieval.query") or request["embedding_type"] != "base64":
            raise RefusedError(422, "VALIDATION", "task or embedding_type", field="task")
        rows = [self._row(item, index, request) for index, item in enumerate(request["input"])]
        data = [{"object": "embedding", "index": i, "embedding": _encode(row, request)} for i, row in enumerate(rows)]
        return {"object": "list", "model": request["model"], "usage": {"total_tokens": 1}, "data": data}

    def _row(self, item, index, request):
        ((kind, value),) = item.items()
        if kind == "text":
            if "forbidden" in value:
                detail = f"item {index}: {value}"
                raise RefusedError(400, "INPUT_TOKEN_LIMIT_EXCEEDED", detail)
            return self.embed("text", value, request)
        if kind != "image":
            raise RefusedError(422, "VALIDATION", kind, field=f"input.{index}")
        content = base64.b64decode(value, validate=True)
        if len(content) > IMAGE_BYTES:
            raise RefusedError(422, "VALIDATION", "too large", field=f"body.input.{index}.image")
        row = self.embed("image", content, request)
        if row is None:
            raise RefusedError(422, "VALIDATION", "cannot be decoded", field=f"body.input.{index}.image")
        return row


def _encode(row, request):
    row = row[: request.get("dimensions")]
    row = row / np.linalg.norm(row) if request.get("normalized", True) else row
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with server.lock:
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
                fault = server.faults.pop(0) if server.faults else None
            server.end.wait(server.delay_s)
            found = (404, {}, b"{}") if self.path != "/v1/embeddings" else server.answer(self.headers, body)
            found = found if fault is None else fault(*found)
            with server.lock:
                server.at_once -= 1
            self.close_connection = found is None
            if found is not None:
                self._write(*found)

        def _write(self, status, headers, body):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may be gone
                self.wfile.write(body)
            if headers.get("Content-Length"):  # another length than the body has
                self.close_connection = True

        def log_message(self, *_):
            pass

    return Handler
