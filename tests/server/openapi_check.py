"""The hosted API's OpenAPI file, and whether what the server answers agrees with it.

`openapi/` holds what version 2026.04.02 says of the routes that the server shares with the hosted API. Routes of other
dialects are not in it and are not judged here.
"""

import json
from functools import cache
from http import HTTPStatus
from pathlib import Path

import jsonschema_rs

SPEC = json.loads((Path(__file__).parent / "openapi" / "hosted-api-2026.04.02.json").read_text(encoding="utf-8"))
ENCODINGS = SPEC["components"]["schemas"]["ClipV2Request"]["properties"]["embedding_type"]["anyOf"][0]["enum"]
_SCHEMAS = "#/components/schemas/"
_METHODS = {"GET": "get", "HEAD": "get", "POST": "post"}

# What the file says of clip models alone: it describes sparse, per-token and cheaper answers beside theirs.
_CLIP_ANSWER = {
    "properties": {
        "data": {"items": {"$ref": f"{_SCHEMAS}SingleEmbeddingData"}},
        "usage": {"$ref": f"{_SCHEMAS}EmbeddingUsage"},
    }
}


class Judged:
    """An ASGI application whose every answer is compared with the file before its end leaves.

    Attributes:
        problems: one string for each answer that disagreed.
        statuses: of all answers so far.
    """

    def __init__(self, app):
        self._app = app
        self.problems = []
        self.statuses = set()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, body = {}, []

        async def judge_and_send(message):
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self._judge(scope, start, b"".join(body))
            await send(message)

        await self._app(scope, receive, judge_and_send)

    def _judge(self, scope, start, body):
        content_type = dict(start["headers"]).get(b"content-type", b"").decode("latin-1")
        found = find_problem(scope["method"], scope["path"], start["status"], content_type, body)
        self.statuses.add(start["status"])
        if found is not None:
            self.problems.append(f"{scope['method']} {scope['path'][:80]} -> {start['status']}: {found}")


def find_problem(method, path, status, content_type, body):
    """Say how an answer disagrees with the file; None where it agrees, or where the file has no such route."""
    path = path.rstrip("/")
    route = "/v1/models/{model_id}" if path.startswith("/v1/models/") else path
    if route not in SPEC["paths"] or (method, status) == ("OPTIONS", 204):  # the file says nothing of browsers
        return None
    schemas = _schemas_of(method, route, status)
    if not schemas:
        return "the file has no such status"
    if content_type.partition(";")[0] != "application/json":
        return f"the content type is {content_type!r}"
    try:
        answer = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        return f"the body is no JSON: {error}"
    versions = [answer]
    if schemas[0] == "EmbeddingResponse":
        versions = _one_encoding_at_a_time(answer)
    return next((str(error) for schema in schemas for each in versions for error in _errors(schema, each)), None)


def _schemas_of(method, route, status):
    """Name the schemas that an answer must agree with."""
    operation = SPEC["paths"][route].get(_METHODS.get(method), {"responses": {}})
    listed = operation["responses"].get(str(status))
    if listed is None:  # the server knows more errors than the file lists: 405, 408, 413, 499; their form is the same
        return ["ErrorResponse"] if status >= HTTPStatus.BAD_REQUEST else []
    if "$ref" in listed:
        listed = SPEC["components"]["responses"][listed["$ref"].rpartition("/")[2]]
    schema = listed["content"]["application/json"]["schema"]
    name = schema["$ref"].removeprefix(_SCHEMAS) if schema else "anything"
    # The schema of a 422 demands nothing, not even `detail`.
    return [name, "ErrorResponse"] if name == "HTTPValidationError" else [name]


def _one_encoding_at_a_time(answer):
    """THE exception: an embedding that is an object is judged as if each of its members were the embedding.

    A request may ask for a list of encodings, says the file, but what it says of answers has no place for more than
    one: an embedding is a string, a list of numbers, or an object of numbers (sparse vectors, which no clip model has).
    The server answers with an object keyed by encoding, as the hosted API's clients read it.
    """
    objects = [each["embedding"] for each in answer.get("data", []) if isinstance(each.get("embedding"), dict)]
    if not objects:
        return [answer]
    if any(not each or each.keys() - set(ENCODINGS) or each.keys() != objects[0].keys() for each in objects):
        return [{"embedding": "is an object, but not of the same encodings for every item"}]
    if len(objects) < len(answer["data"]):
        return [{"embedding": "is an object for some items only"}]
    return [
        {**answer, "data": [{**each, "embedding": each["embedding"][name]} for each in answer["data"]]}
        for name in objects[0]
    ]


def _errors(schema, answer):
    return _validator(schema).iter_errors(answer)


@cache
def _validator(name):
    schema = {"components": SPEC["components"]}
    if name == "EmbeddingResponse":
        schema["allOf"] = [{"$ref": f"{_SCHEMAS}{name}"}, _CLIP_ANSWER]
    elif name != "anything":
        schema["$ref"] = f"{_SCHEMAS}{name}"
    return jsonschema_rs.Draft202012Validator(schema)


def _refuse_constant(name):
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's
