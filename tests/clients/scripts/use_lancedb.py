"""lancedb: the embedding function "jina", alone and in a table; its endpoint is a constant of its module."""

# What it imports is in another environment.
# mypy: ignore-errors

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import lancedb
from lancedb.embeddings import get_registry, jinaai, register
from lancedb.pydantic import LanceModel, Vector


def _function(given, **options):
    os.environ["JINA_API_KEY"] = given["key"]  # it takes no key in words
    jinaai.API_URL = f"{given['url']}/v1/embeddings"
    return get_registry().get("jina").create(name=given["model"], **options)


def texts(given):
    return _function(given).compute_source_embeddings(given["texts"])


def images(given):
    return _function(given).compute_source_embeddings([Path(given["paths"][0]).read_bytes(), Path(given["paths"][1])])


def mixed(given):
    first, second = given["paths"]
    return _function(given).compute_source_embeddings([Path(first), given["texts"][0], Path(second).read_bytes()])


def query(given):
    return _function(given).compute_query_embeddings(given["texts"][0])[0]


def image_query(given):
    return _function(given).compute_query_embeddings(Path(given["paths"][0]))[0]


def table(given):
    _function(given)

    @register("jina-of-this-length")
    class OfThisLength(jinaai.JinaEmbeddings):
        def ndims(self):  # which says 768 whatever the model is
            return given["dimensions"]

    function = get_registry().get("jina-of-this-length").create(name=given["model"])

    class Row(LanceModel):
        text: str = function.SourceField()
        vector: Vector(given["dimensions"]) = function.VectorField()

    with TemporaryDirectory() as folder:
        rows = lancedb.connect(folder).create_table("rows", schema=Row)
        rows.add([{"text": text} for text in given["texts"]])
        found = rows.search(given["texts"][1]).limit(1).to_pydantic(Row)[0]
    return {"text": found.text, "vector": list(found.vector)}


def bad_model(given):
    try:
        _function({**given, "model": "jina-embeddings-v3"}, max_retries=0).compute_source_embeddings(["a star"])
    except RuntimeError as error:
        return str(error)
    raise AssertionError("the request was answered")
