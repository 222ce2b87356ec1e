"""cohere: `/v2/embed` with texts, images and mixed inputs."""

# What it imports is in another environment.
# mypy: ignore-errors

from cohere import AsyncClientV2, ClientV2
from cohere.core import ApiError


def _embed(given, *, key=None, **request):
    client = ClientV2(base_url=given["url"], api_key=key or given["key"], max_retries=0)
    request = {"model": given["model"], "input_type": "search_document", "embedding_types": ["float"], **request}
    return client.embed(**request)


def _refused(given, **request):
    try:
        _embed(given, **request)
    except ApiError as error:
        return {"kind": type(error).__name__, "status": error.status_code, "body": error.body}
    raise AssertionError("the request was answered")


def _mixed(given):
    image = {"type": "image_url", "image_url": {"url": given["data_uris"][0]}}
    text = {"type": "text", "text": given["texts"][0]}
    return [{"content": [image]}, {"content": [text]}]


def texts(given):
    return _embed(given, texts=given["texts"]).embeddings.float_


async def texts_async(given):
    async with AsyncClientV2(base_url=given["url"], api_key=given["key"]) as client:
        answer = await client.embed(
            model=given["model"], input_type="search_document", embedding_types=["float"], texts=given["texts"]
        )
    return answer.embeddings.float_


def query(given):
    return _embed(given, texts=given["texts"][:1], input_type="search_query").embeddings.float_[0]


def images(given):
    return _embed(given, images=given["data_uris"], input_type="image").embeddings.float_


def mixed(given):
    return _embed(given, inputs=_mixed(given)).embeddings.float_


def shortened(given):
    return _embed(given, texts=given["texts"], output_dimension=32).embeddings.float_


def without_types(given):
    client = ClientV2(base_url=given["url"], api_key=given["key"])
    answer = client.embed(model=given["model"], input_type="search_document", texts=given["texts"])
    return answer.embeddings.float_


def encoded(given):
    embeddings = _embed(
        given, texts=given["texts"], embedding_types=["float", "binary", "ubinary", "base64"]
    ).embeddings
    return {
        "float": embeddings.float_,
        "binary": embeddings.binary,
        "ubinary": embeddings.ubinary,
        "base64": embeddings.base64,
    }


def answer(given):
    answer = _embed(given, texts=given["texts"])
    return {"id": answer.id, "texts": answer.texts, "tokens": answer.meta.billed_units.input_tokens}


def bad_model(given):
    return _refused(given, model="embed-v4.0", texts=["a star"])


def bad_item(given):
    return _refused(given, images=[given["data_uris"][0], "data:image/png;base64,AAAA"], input_type="image")


def bad_key(given):
    return _refused(given, key="another-key", texts=["a star"])
