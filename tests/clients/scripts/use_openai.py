"""openai: texts and, as data URIs, images."""

# What it imports is in another environment.
# mypy: ignore-errors

import json

from openai import APIStatusError, AsyncOpenAI, OpenAI


def _client(given):
    return OpenAI(base_url=f"{given['url']}/v1", api_key=given["key"], max_retries=0)


def _embed(given, **request):
    answer = _client(given).embeddings.create(**{"model": given["model"], **request})
    return [each.embedding for each in sorted(answer.data, key=lambda each: each.index)]


def _refused(given, *, key=None, **request):
    client = OpenAI(base_url=f"{given['url']}/v1", api_key=key or given["key"], max_retries=0)
    try:
        client.embeddings.create(**{"model": given["model"], **request})
    except APIStatusError as error:
        return {
            "kind": type(error).__name__,
            "message": str(error),
            "body": error.body,
            "code": error.code,
            "type": error.type,
            "param": error.param,
            "request_id": error.request_id,
        }
    raise AssertionError("the request was answered")


def texts(given):
    return _embed(given, input=given["texts"])


async def texts_async(given):
    async with AsyncOpenAI(base_url=f"{given['url']}/v1", api_key=given["key"]) as client:
        answer = await client.embeddings.create(model=given["model"], input=given["texts"])
    return [each.embedding for each in answer.data]


def one_text(given):
    return _embed(given, input=given["texts"][0])


def images(given):
    return _embed(given, input=given["data_uris"])


def mixed(given):
    return _embed(given, input=[given["data_uris"][0], given["texts"][0], given["data_uris"][1]])


def floats(given):
    return _embed(given, input=given["texts"], encoding_format="float")


def shortened(given):
    return _embed(given, input=given["texts"], dimensions=32)


def usage(given):
    answer = _client(given).embeddings.create(model=given["model"], input=given["texts"])
    return {"model": answer.model, "prompt": answer.usage.prompt_tokens, "total": answer.usage.total_tokens}


def encoding_on_the_wire(given):
    raw = _client(given).embeddings.with_raw_response.create(model=given["model"], input=given["texts"])
    return [type(each["embedding"]).__name__ for each in json.loads(raw.text)["data"]]


def models(given):
    client = _client(given)
    return [*(model.id for model in client.models.list()), client.models.retrieve(given["model"]).id]


def bad_model(given):
    return _refused(given, model="text-embedding-3-small", input="a star")


def bad_item(given):
    return _refused(given, input=["a star", "data:image/png;base64,AAAA"])


def bad_dimensions(given):
    return _refused(given, input="a star", dimensions=65)


def bad_key(given):
    return _refused(given, key="another-key", input="a star")


def token_ids(given):
    return _refused(given, input=[[1, 2, 3]])
