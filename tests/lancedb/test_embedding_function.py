"""The embedding function in LanceDB's registry: tables that embed pictures and texts by themselves."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
from PIL import Image

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.lancedb import JinaClipEmbeddings
from jclip_connectors.local import LocalEmbedder
from tests.lancedb.parts import start

NANO = EmbeddingConfig(model="nano", dimensions=64)


@pytest.fixture(scope="module")
def embedder():
    return LocalEmbedder(NANO, device="cpu")


def function(**options: Any) -> Any:
    return get_registry().get("jclip").create(model="nano", dimensions=64, device="cpu", **options)


def table_of(connection, source, kind=str):
    made = function(source=source)

    class Row(LanceModel):
        source: kind = made.SourceField()  # type: ignore[valid-type]
        n: int
        vector: Vector(made.ndims()) = made.VectorField()  # type: ignore[valid-type]

    return connection.create_table(source, schema=Row)


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{colour} ü.png" for colour in ("red", "blue")]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (20, 30), colour).save(path)
    return paths


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_a_table_embeds_its_pictures_and_finds_them_by_text_and_by_picture(connection, pictures, embedder):
    table = table_of(connection, "image")
    table.add([{"source": str(pictures[0]), "n": 1}, {"source": pictures[1].as_uri(), "n": 2}])
    rows = np.stack(table.to_arrow()["vector"].to_pylist())
    np.testing.assert_allclose(rows, embedder.embed_images(pictures), atol=1e-6)

    def first(query):
        return table.search(query).distance_type("cosine").limit(1).to_list()[0]

    wanted = embedder.embed_images(pictures) @ embedder.embed_query("a red square")
    assert first("a red square")["source"] == [str(pictures[0]), pictures[1].as_uri()][int(wanted.argmax())]
    assert first("a red square")["_distance"] == pytest.approx(1 - wanted.max(), abs=1e-6)
    assert first(Image.open(pictures[1]))["source"] == pictures[1].as_uri()
    assert first(Image.open(pictures[1]))["_distance"] == pytest.approx(0, abs=1e-6)


def test_a_table_embeds_the_bytes_of_pictures_and_what_is_merged(connection, pictures, embedder):
    table = table_of(connection, "image", kind=bytes)
    table.add([{"source": pictures[0].read_bytes(), "n": 1}])
    merge = table.merge_insert("n").when_matched_update_all().when_not_matched_insert_all()
    merge.execute([{"source": pictures[1].read_bytes(), "n": 1}, {"source": pictures[0].read_bytes(), "n": 2}])
    rows = {row["n"]: row["vector"] for row in table.to_arrow().to_pylist()}
    wanted = embedder.embed_images(pictures)
    np.testing.assert_allclose(np.stack([rows[1], rows[2]]), wanted[::-1], atol=1e-6)


def test_texts_are_embedded_as_documents_and_queries_as_queries(connection, embedder):
    table = table_of(connection, "text")
    table.add([{"source": "a red circle", "n": 1}, {"source": "a blue star", "n": 2}])
    rows = np.stack(table.to_arrow()["vector"].to_pylist())
    np.testing.assert_allclose(rows, embedder.embed_texts(["a red circle", "a blue star"]), atol=1e-6)
    (query,) = function().compute_query_embeddings("a blue star")
    np.testing.assert_allclose(query, embedder.embed_query("a blue star"), atol=1e-6)


def test_null_has_no_vector_and_every_form_of_a_column_is_taken(pictures, embedder):
    texts = function(source="text")
    wanted = embedder.embed_texts(["a"])[0]
    for column in (["a", None], pa.array(["a", None]), pa.chunked_array([["a"], [None]]), np.array(["a", None])):
        first, second = texts.compute_source_embeddings(column)
        np.testing.assert_allclose(first, wanted, atol=1e-6)
        assert second is None
    assert texts.compute_source_embeddings([None]) == [None]
    assert len(texts.compute_source_embeddings("a")) == 1
    assert len(function().compute_source_embeddings(pictures[0].read_bytes())) == 1


def test_a_bad_picture_is_told_at_once_by_its_position_and_nothing_is_written(connection, pictures, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waits for {seconds} s"))
    table = table_of(connection, "image")
    with pytest.raises(RuntimeError, match="item 1 of the column of images cannot be embedded"):
        table.add([{"source": str(pictures[0]), "n": 1}, {"source": "/nowhere.png", "n": 2}])
    assert table.count_rows() == 0
    with pytest.raises(EmbedInputError, match="the query cannot be embedded"):
        function().compute_query_embeddings(b"no image")
    with pytest.raises(EmbedInputError, match="item 1: a text must be a str"):
        function(source="text").compute_source_embeddings(["a", 7])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dimensions": 0}, "`dimensions` is 0"),
        ({"tiling": 4}, "tiling"),
        ({"source": "audio"}, "'image' or 'text'"),
        ({"rendering": "upright"}, "rendering"),
    ],
)
def test_a_bad_option_is_refused_by_name(options, told):
    with pytest.raises(ValueError, match=told):
        JinaClipEmbeddings.create(**{"model": "nano"} | options)


def test_the_length_is_known_without_the_model():
    made = JinaClipEmbeddings.create(model="jinaai/jina-clip-v2")
    assert made.ndims() == 1024
    assert made.max_retries == 0
    assert made.embedding_config() == EmbeddingConfig()


REOPEN = """
import sys, lancedb
if sys.argv[2] == "with":
    import jclip_connectors.lancedb
table = lancedb.connect(sys.argv[1]).open_table("text")
print(table.search("a blue star").distance_type("cosine").limit(1).to_list()[0]["source"])
"""


@pytest.mark.slow
def test_another_process_opens_the_table_where_our_module_is_imported(connection, folder):
    table_of(connection, "text").add([{"source": "a red circle", "n": 1}, {"source": "a blue star", "n": 2}])
    told, error = start(REOPEN, str(folder), "with").communicate(timeout=200)
    assert told == "a blue star\n", error
    told, error = start(REOPEN, str(folder), "without").communicate(timeout=200)
    assert (told, "KeyError: 'jclip'" in error) == ("", True)
