"""jina-haystack: a query, documents, and documents that are images."""

# What it imports is in another environment.
# mypy: ignore-errors

from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.embedders.jina import (
    JinaDocumentEmbedder,
    JinaDocumentImageEmbedder,
    JinaTextEmbedder,
)


def _make(component, given, **options):
    return component(
        base_url=f"{given['url']}/v1/embeddings",
        api_key=Secret.from_token(given["key"]),
        **{"model": given["model"], **options},
    )


def _documents(given):
    return [Document(content=text) for text in given["texts"]]


def _pictures(given):
    return [Document(content="", meta={"file_path": path}) for path in given["paths"]]


def _vectors(result):
    return [document.embedding for document in result["documents"]]


def texts(given):
    return _vectors(_make(JinaDocumentEmbedder, given, batch_size=2, progress_bar=False).run(_documents(given)))


async def texts_async(given):
    embedder = _make(JinaDocumentEmbedder, given, batch_size=2, progress_bar=False)
    return _vectors(await embedder.run_async(_documents(given)))


def shortened(given):
    return _vectors(_make(JinaDocumentEmbedder, given, dimensions=32, progress_bar=False).run(_documents(given)))


def query(given):
    return _make(JinaTextEmbedder, given, task="retrieval.query").run(given["texts"][0])["embedding"]


async def query_async(given):
    embedder = _make(JinaTextEmbedder, given, task="retrieval.query")
    return (await embedder.run_async(given["texts"][0]))["embedding"]


def images(given):
    return _vectors(_make(JinaDocumentImageEmbedder, given).run(_pictures(given)))


async def images_async(given):
    return _vectors(await _make(JinaDocumentImageEmbedder, given).run_async(_pictures(given)))


def usage(given):
    meta = _make(JinaTextEmbedder, given).run(given["texts"][0])["meta"]
    return {"model": meta["model"], "prompt": meta["usage"]["prompt_tokens"], "total": meta["usage"]["total_tokens"]}


def bad_model(given):
    try:
        _make(JinaTextEmbedder, given, model="jina-embeddings-v3").run("a star")
    except RuntimeError as error:
        return str(error)
    raise AssertionError("the request was answered")


def bad_item(given):
    try:
        _make(JinaDocumentImageEmbedder, given).run(
            [*_pictures(given), Document(content="", meta={"file_path": given["damaged"]})]
        )
    except RuntimeError as error:
        return str(error)
    raise AssertionError("the request was answered")
