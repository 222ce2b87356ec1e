"""langchain-community: `JinaEmbeddings`, texts and images; its endpoint is a constant of its module."""

# What it imports is in another environment.
# mypy: ignore-errors

from langchain_community.embeddings import JinaEmbeddings, jina


def _embeddings(given, **options):
    jina.JINA_API_URL = f"{given['url']}/v1/embeddings"
    return JinaEmbeddings(jina_api_key=given["key"], model_name=given["model"], **options)


def texts(given):
    return _embeddings(given).embed_documents(given["texts"])


async def texts_async(given):
    return await _embeddings(given).aembed_documents(given["texts"])


def query(given):
    return _embeddings(given).embed_query(given["texts"][0])


def images(given):
    return _embeddings(given).embed_images(given["paths"])


def image_url(given):
    try:
        _embeddings(given).embed_images([given["paths"][0], "https://example.com/picture.png"])
    except RuntimeError as error:
        return str(error)
    raise AssertionError("the request was answered")
