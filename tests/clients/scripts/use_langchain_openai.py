"""langchain-openai: texts; by default it sends token ids, which no other model can read."""

# What it imports is in another environment.
# mypy: ignore-errors

import tiktoken
from langchain_openai import OpenAIEmbeddings
from openai import BadRequestError


def _embeddings(given, **options):
    options = {"check_embedding_ctx_length": False, **options}
    return OpenAIEmbeddings(base_url=f"{given['url']}/v1", api_key=given["key"], model=given["model"], **options)


def texts(given):
    return _embeddings(given).embed_documents(given["texts"])


async def texts_async(given):
    return await _embeddings(given).aembed_documents(given["texts"])


def query(given):
    return _embeddings(given).embed_query(given["texts"][0])


def images(given):
    return _embeddings(given).embed_documents(given["data_uris"])


def shortened(given):
    return _embeddings(given, dimensions=32).embed_documents(given["texts"])


def token_ids(given):
    # Bytes in place of the vocabulary that would be downloaded.
    vocabulary = {bytes([value]): value for value in range(256)}
    tiktoken.registry.ENCODINGS["bytes"] = tiktoken.Encoding(
        "bytes", pat_str=r"[\s\S]", mergeable_ranks=vocabulary, special_tokens={}
    )
    tiktoken.model.MODEL_TO_ENCODING[given["model"]] = "bytes"
    try:
        _embeddings(given, check_embedding_ctx_length=True).embed_documents(given["texts"])
    except BadRequestError as error:
        return str(error)
    raise AssertionError("the request was answered")
