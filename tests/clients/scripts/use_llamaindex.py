"""llama-index-embeddings-jinaai: texts and images; its endpoint is an attribute that no argument sets."""

# What it imports is in another environment.
# mypy: ignore-errors

from aiohttp import ClientResponseError
from llama_index.embeddings.jinaai import JinaEmbedding


def _embedding(given, **options):
    embedding = JinaEmbedding(api_key=given["key"], **{"model": given["model"], **options})
    embedding._api.api_url = f"{given['url']}/v1/embeddings"
    return embedding


def texts(given):
    return _embedding(given).get_text_embedding_batch(given["texts"])


async def texts_async(given):
    return await _embedding(given).aget_text_embedding_batch(given["texts"])


def query(given):
    return _embedding(given, task="retrieval.query").get_query_embedding(given["texts"][0])


async def query_async(given):
    return await _embedding(given, task="retrieval.query").aget_query_embedding(given["texts"][0])


def one_image(given):
    return _embedding(given).get_image_embedding(given["paths"][0])


def images(given):
    return _embedding(given).get_image_embedding_batch(given["paths"])


async def images_async(given):
    return await _embedding(given).aget_image_embedding_batch(given["paths"])


def shortened(given):
    return _embedding(given, dimensions=32).get_text_embedding_batch(given["texts"])


def bits(given):
    return _embedding(given, encoding_documents="ubinary").get_text_embedding_batch(given["texts"])


def signed_bits(given):
    return _embedding(given, encoding_documents="binary").get_text_embedding_batch(given["texts"])


def bad_model(given):
    try:
        _embedding(given, model="jina-embeddings-v3").get_text_embedding("a star")
    except RuntimeError as error:
        return str(error)
    raise AssertionError("the request was answered")


async def bad_model_async(given):
    try:
        await _embedding(given, model="jina-embeddings-v3").aget_text_embedding("a star")
    except ClientResponseError as error:
        return error.status
    raise AssertionError("the request was answered")
