"""qdrant-client with our encoder behind it: what reaches the database is what the embedder gives."""

import dataclasses
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from fastembed import ImageEmbedding, TextEmbedding
from fastembed.image.onnx_embedding import OnnxImageEmbedding
from fastembed.text.onnx_embedding import OnnxTextEmbedding
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from core_encoder.errors import ConfigError
from core_encoder.models import KNOWN_MODELS
from core_encoder.tiling import Tiling
from jclip_connectors import qdrant_inference
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.qdrant_inference import register
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.checkpoints import write_v1, write_v2

TEXT = "a large red circle"
WAYS = [("nano", {}, 128), ("nano", {"dimensions": 32}, 32), ("nano@64", {}, 64), ("Nano@64", {"dimensions": 64}, 64)]


@pytest.fixture(autouse=True)
def registered():
    """Every test begins with the known models, and no other has its names afterwards."""
    before = dict(qdrant_inference._MODELS)
    register()
    yield
    qdrant_inference._MODELS.clear()
    qdrant_inference._MODELS.update(before)


@pytest.fixture(scope="module")
def nano():
    return LocalEmbedder(EmbeddingConfig(model="nano"))


@pytest.fixture
def client():
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture
def v2_folder(tmp_path):
    """A small model with the layout of v2: its queries have a prefix."""
    write_v2(tmp_path / "v2")
    return str(tmp_path / "v2")


def text(content=TEXT, model="nano", **options):
    return models.Document(text=content, model=model, options=options)


def image(source, model="nano", **options):
    return models.Image(image=source, model=model, options=options)


def cosine(size):
    return models.VectorParams(size=size, distance=models.Distance.COSINE)


def rows(client, name):
    """The vectors of a collection, by id."""
    return {point.id: np.array(point.vector) for point in client.scroll(name, with_vectors=True)[0]}


def expected(config):
    """The vectors of the text, the query and the picture, by an embedder of our own."""
    embedder = LocalEmbedder(config)
    return embedder.embed_texts([TEXT])[0], embedder.embed_query(TEXT), embedder.embed_images([picture(0)])[0]


@pytest.mark.parametrize(("model", "options", "dimensions"), WAYS)
def test_texts_and_images_are_stored_as_the_embedder_gives_them(client, model, options, dimensions):
    client.create_collection("photos", vectors_config=cosine(dimensions))
    client.upsert("photos", [models.PointStruct(id=1, vector=text(model=model, **options))])
    client.upsert("photos", [models.PointStruct(id=2, vector=image(picture(0), model=model, **options))])
    as_text, _, as_image = expected(EmbeddingConfig(model="nano", dimensions=dimensions))
    stored = rows(client, "photos")
    np.testing.assert_allclose(stored[1], as_text, atol=1e-6)
    np.testing.assert_allclose(stored[2], as_image, atol=1e-6)


@pytest.mark.parametrize(("model", "options", "dimensions"), WAYS)
def test_a_search_by_text_or_image_scores_as_the_embedder_does(client, model, options, dimensions):
    client.create_collection("photos", vectors_config=cosine(dimensions))
    points = [models.PointStruct(id=seed, vector=image(picture(seed), model=model, **options)) for seed in range(1, 4)]
    client.upsert("photos", points)
    embedder = LocalEmbedder(EmbeddingConfig(model="nano", dimensions=dimensions))
    there = embedder.embed_images([picture(seed) for seed in range(1, 4)])  # (3, E)
    for query, vector in (
        (text(model=model, **options), embedder.embed_query(TEXT)),
        (image(picture(2), model=model, **options), there[1]),
    ):
        hits = client.query_points("photos", query).points
        assert [hit.id for hit in hits] == (1 + np.argsort(-(there @ vector))).tolist()
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(there @ vector)[::-1], atol=1e-6)


def test_a_batch_of_mixed_items_keeps_its_order(client, nano):
    client.create_collection("photos", vectors_config={"full": cosine(128), "short": cosine(32)})
    both = [(text("one"), text("one", dimensions=32)), (image(picture(5)), image(picture(5), dimensions=32))] * 6
    points = [
        models.PointStruct(id=position, vector={"full": full, "short": short})
        for position, (full, short) in enumerate(both)
    ]
    client.upload_points("photos", points)
    short = LocalEmbedder(EmbeddingConfig(model="nano", dimensions=32))
    found = client.scroll("photos", with_vectors=True, limit=20)[0]
    assert len(found) == 12
    for point in found:
        for name, embedder in (("full", nano), ("short", short)):
            rows = [
                each.embed_images([picture(5)])[0] if point.id % 2 else each.embed_texts(["one"])[0]
                for each in (embedder, nano)
            ]
            # What sharing a batch moves, 1e-6, is stretched with the prefix that is brought to unit length.
            stretch = 1 / float(np.linalg.norm(rows[1][: rows[0].size]))
            np.testing.assert_allclose(point.vector[name], rows[0], atol=1e-6 * stretch)


def test_a_text_in_a_query_gets_the_prefix_of_queries_and_one_that_is_stored_does_not(client, v2_folder):
    register(EmbeddingConfig(model=v2_folder), name="mine")
    as_text, as_query, _ = expected(EmbeddingConfig(model=v2_folder))
    assert as_text @ as_query < 0.999
    client.create_collection("texts", vectors_config=cosine(as_text.size))
    client.upsert("texts", [models.PointStruct(id=1, vector=text(model="mine"))])
    np.testing.assert_allclose(rows(client, "texts")[1], as_text, atol=1e-6)
    (hit,) = client.query_points("texts", text(model="mine")).points
    assert hit.score == pytest.approx(as_text @ as_query, abs=1e-6)


def test_nested_queries_are_embedded_too(client, nano):
    client.create_collection("photos", vectors_config={"full": cosine(128), "short": cosine(32)})
    vectors = {"full": image(picture(1)), "short": image(picture(1), dimensions=32)}
    client.upsert("photos", [models.PointStruct(id=1, vector=vectors)])
    prefetch = models.Prefetch(query=text(dimensions=32), using="short", limit=5)
    (hit,) = client.query_points("photos", text(), using="full", prefetch=prefetch).points
    assert hit.score == pytest.approx(nano.embed_query(TEXT) @ nano.embed_images([picture(1)])[0], abs=1e-6)


async def test_the_async_client_embeds_the_same(nano):
    client = AsyncQdrantClient(":memory:")
    await client.create_collection("photos", vectors_config=cosine(128))
    await client.upsert("photos", [models.PointStruct(id=1, vector=image(picture(1)))])
    (hit,) = (await client.query_points("photos", text())).points
    assert hit.score == pytest.approx(nano.embed_query(TEXT) @ nano.embed_images([picture(1)])[0], abs=1e-6)
    await client.close()


@contextmanager
def server(requests):
    """Something that accepts whatever a remote client writes or asks, and keeps it."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = {"operation_id": 0, "status": "completed"} if self.command == "PUT" else {"points": []}
            body = json.dumps({"result": answer, "status": "ok", "time": 0.0}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT

        def log_message(self, *arguments):
            """Nothing is printed."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


async def test_vectors_and_not_texts_go_to_a_server(nano):
    requests: list[dict[str, Any]] = []
    with server(requests) as url:
        client = QdrantClient(url, check_compatibility=False)
        client.upsert("photos", [models.PointStruct(id=1, vector=image(picture(1)))])
        client.query_points("photos", text())
        client.close()
        remote = AsyncQdrantClient(url, check_compatibility=False)
        await remote.upsert("photos", [models.PointStruct(id=1, vector=image(picture(1)))])
        await remote.query_points("photos", text())
        await remote.close()
    assert len(requests) == 4
    for upsert, query in (requests[:2], requests[2:]):
        np.testing.assert_allclose(upsert["points"][0]["vector"], nano.embed_images([picture(1)])[0], atol=1e-6)
        np.testing.assert_allclose(query["query"]["nearest"], nano.embed_query(TEXT), atol=1e-6)


def test_each_model_is_listed_with_its_length(client):
    for model in KNOWN_MODELS:
        assert client.get_embedding_size(model.name) == model.embedding_dim
    for name, dimensions in (("jinaai/jina-clip-v2@256", 256), ("jinaai/jina-clip-v2@768", 768), ("nano@32", 32)):
        assert client.get_embedding_size(name) == dimensions
        assert TextEmbedding.get_embedding_size(name) == ImageEmbedding.get_embedding_size(name) == dimensions
    with pytest.raises(ValueError, match="jina-clip-v1@256"):
        client.get_embedding_size("jinaai/jina-clip-v1@256")  # not trained for it: `dimensions` can ask for it still


def test_registering_again_changes_nothing():
    listed = len(TextEmbedding.list_supported_models()), len(ImageEmbedding.list_supported_models())
    for _ in range(2):
        register()
    assert listed == (len(TextEmbedding.list_supported_models()), len(ImageEmbedding.list_supported_models()))
    names = [model["model"] for model in TextEmbedding.list_supported_models()]
    assert names.count("nano") == 1


@pytest.fixture
def v1_is_here(tmp_path, monkeypatch):
    """A small model of v1's layout in the place of the published one, and a fastembed that must not download."""
    write_v1(tmp_path)
    made: list[EmbeddingConfig] = []

    class Small(LocalEmbedder):
        def __init__(self, config):
            made.append(config)
            super().__init__(EmbeddingConfig(model=str(tmp_path)))

        def with_config(self, config):
            return super().with_config(dataclasses.replace(config, model=str(tmp_path)))

    monkeypatch.setattr(qdrant_inference, "LocalEmbedder", Small)
    monkeypatch.setattr(qdrant_inference, "_LOADED", {})
    for export in (OnnxTextEmbedding, OnnxImageEmbedding):
        monkeypatch.setattr(export, "download_model", None)  # it cannot be called
    return made, LocalEmbedder(EmbeddingConfig(model=str(tmp_path)))


def test_our_v1_is_used_and_not_the_onnx_export_of_fastembed(v1_is_here):
    made, small = v1_is_here
    for export in (OnnxTextEmbedding, OnnxImageEmbedding):
        assert "jinaai/jina-clip-v1" in [model.model for model in export._list_supported_models()]
    (row,) = TextEmbedding("jinaai/jina-clip-v1").embed(TEXT)
    np.testing.assert_allclose(row, small.embed_texts([TEXT])[0], atol=1e-6)
    (row,) = ImageEmbedding("jinaai/jina-clip-v1").embed(picture(1))
    np.testing.assert_allclose(row, small.embed_images([picture(1)])[0], atol=1e-6)
    assert [config.model for config in made] == ["jinaai/jina-clip-v1"]


def test_one_loaded_model_serves_both_towers_every_length_and_every_thread(monkeypatch):
    loaded = []

    class Counted(LocalEmbedder):
        def __init__(self, *arguments, **options):
            loaded.append(arguments)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(qdrant_inference, "LocalEmbedder", Counted)
    monkeypatch.setattr(qdrant_inference, "_LOADED", {})

    def embed(number):
        options = {"dimensions": 8 + number, "max_tokens": 16}
        if number % 2:
            return next(iter(TextEmbedding("nano", **options).embed(TEXT)))
        return next(iter(ImageEmbedding("nano", **options).embed(picture(0))))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(embed, range(16)))
    assert len(loaded) == 1
    for number, row in enumerate(found):
        as_text, _, as_image = expected(EmbeddingConfig(model="nano", dimensions=8 + number))
        np.testing.assert_allclose(row, as_text if number % 2 else as_image, atol=1e-6)
    next(iter(TextEmbedding("nano", device="cpu").embed(TEXT)))
    assert len(loaded) == 2


def test_every_option_reaches_the_encoder(v2_folder):
    register(EmbeddingConfig(model=v2_folder), name="mine")
    options: dict[str, Any] = {"dimensions": 8, "normalize": False, "resize_mode": "squash", "rendering": "as_stored"}
    wide = picture(0, (200, 100))
    (row,) = ImageEmbedding("mine", **options, device="cpu", local_files_only=True).embed(wide)
    embedder = LocalEmbedder(EmbeddingConfig(model=v2_folder, **options))
    np.testing.assert_allclose(row, embedder.embed_images([wide])[0], atol=1e-6)
    assert np.abs(row - LocalEmbedder(EmbeddingConfig(model=v2_folder)).embed_images([wide])[0][:8]).max() > 1e-3


def test_a_folder_goes_by_its_own_name_and_length(client, v2_folder):
    register(EmbeddingConfig(model=v2_folder))
    register(EmbeddingConfig(model=v2_folder, dimensions=8))
    register(EmbeddingConfig(model=v2_folder, dimensions=16), name="sixteen")
    assert client.get_embedding_size(v2_folder) == LocalEmbedder(EmbeddingConfig(model=v2_folder)).dimensions
    assert client.get_embedding_size(f"{v2_folder}@8") == 8
    (row,) = TextEmbedding("sixteen").embed(TEXT)
    np.testing.assert_allclose(row, expected(EmbeddingConfig(model=v2_folder, dimensions=16))[0], atol=1e-6)


def test_any_embedder_can_be_registered(client):
    embedder = HashEmbedder(EmbeddingConfig(model="hash", revision="1", dimensions=24, tiling=Tiling()))
    register(embedder, name="hashes")
    client.create_collection("photos", vectors_config=cosine(client.get_embedding_size("hashes")))
    client.upsert("photos", [models.PointStruct(id=1, vector=image(picture(0), model="hashes", dimensions=24))])
    np.testing.assert_allclose(rows(client, "photos")[1], embedder.embed_images([picture(0)])[0], atol=1e-6)
    with pytest.raises(ConfigError, match=r"'hashes' is an embedder .* `device`, `dimensions` cannot be changed"):
        TextEmbedding("hashes", dimensions=12, device="cpu")


def test_an_embedder_takes_the_place_of_a_configuration_of_the_same_vectors():
    class Marked(LocalEmbedder):
        def embed_texts(self, texts):
            return np.full((len(texts), self.dimensions), 0.25, np.float32)

    register(Marked(EmbeddingConfig(model="nano")), name="nano")
    register()
    (row,) = TextEmbedding("nano").embed(TEXT)
    assert row.tolist() == [0.25] * 128


def test_a_name_stands_for_one_kind_of_vectors(nano):
    with pytest.raises(ConfigError, match=r"'NANO' is registered for other vectors .*use another `name`"):
        register(EmbeddingConfig(model="nano", max_tokens=5), name="NANO")
    register(dataclasses.replace(nano.config, max_tokens=5), name="Nano-5")
    with pytest.warns(UserWarning, match="cut to 5 tokens"):
        next(iter(TextEmbedding("nANO-5").embed("a red circle " * 5)))
    with pytest.raises(ConfigError, match="`name` is 'mine' without an `embedder`"):
        register(name="mine")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nano", {"dimension": 64}, "'nano' has no option `dimension`; it takes revision, dimensions, "),
        ("nano", {"model": "jinaai/jina-clip-v2"}, "has no option `model`"),
        ("nano", {"task": "text-matching"}, "has no option `task`"),
        ("nano", {"providers": ["CPUExecutionProvider"]}, "no option `providers`, which is for ONNX models"),
        ("nano", {"cuda": True}, "no option `cuda`, which is for ONNX models .`device` says where"),
        ("nano", {"dimensions": 256}, "`dimensions` is 256, but nano has only 128"),
        ("nano", {"dimensions": "64"}, "`dimensions` is '64'; use an int"),
        ("nano@64", {"dimensions": 32}, "'nano@64' has 64 `dimensions`, not 32"),
        ("nano", {"resize_mode": "crop"}, "`resize_mode` is 'crop'"),
        ("nano", {"device": "abacus"}, "`device` is 'abacus'"),
    ],
)
def test_a_bad_option_is_refused_by_name_and_nothing_is_written(client, model, options, message):
    client.create_collection("photos", vectors_config=cosine(128))
    for bad in (
        models.Document(text=TEXT, model=model, options=options),
        models.Image(image=picture(0), model=model, options=options),
    ):
        with pytest.raises(ConfigError, match=message):
            client.upsert("photos", [models.PointStruct(id=1, vector=bad)])
    assert client.count("photos").count == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no-such.png", "the image is 'no-such.png': as a path"),
        ("https://user:secret@example.org/cat.png", "the image is a URL .'https://...'., and this package never"),
        (b"GIF89a", "the image "),
        (17, "the image is a int; pass a path"),
        ({"url": "cat.png"}, "the image is a dict; pass a path"),
        (np.zeros((4, 4, 3)), "the image is an array of float64; it must be uint8"),
    ],
)
def test_what_is_no_image_is_refused_and_nothing_is_written(client, source, message):
    client.create_collection("photos", vectors_config=cosine(128))
    with pytest.raises(EmbedInputError, match=message) as caught:
        client.upsert("photos", [models.PointStruct(id=n, vector=image(s)) for n, s in enumerate((picture(1), source))])
    assert "secret" not in str(caught.value)
    assert client.count("photos").count == 0


@pytest.mark.parametrize(
    "form", [str, lambda path: path, lambda path: path.read_bytes(), lambda _: np.asarray(picture(3))]
)
def test_an_image_may_come_in_every_form(client, nano, tmp_path, form):
    path = tmp_path / "picture.png"
    picture(3).save(path)
    client.create_collection("photos", vectors_config=cosine(128))
    client.upsert("photos", [models.PointStruct(id=1, vector=image(form(path)))])
    np.testing.assert_allclose(rows(client, "photos")[1], nano.embed_images([picture(3)])[0], atol=1e-6)


def test_fastembed_itself_embeds_with_us_a_few_at_a_time(nano):
    texts = [f"text {number}" for number in range(5)]
    found = list(TextEmbedding("nano").embed(iter(texts), batch_size=2))
    np.testing.assert_allclose(found, nano.embed_texts(texts), atol=1e-6)
    np.testing.assert_allclose(list(TextEmbedding("nano").passage_embed(texts)), nano.embed_texts(texts), atol=1e-6)
    np.testing.assert_allclose(list(TextEmbedding("nano").query_embed(TEXT)), [nano.embed_query(TEXT)], atol=1e-6)
    with pytest.raises(ConfigError, match="`parallel` is 4"):
        list(TextEmbedding("nano").embed(texts, parallel=4))
    with pytest.raises(ConfigError, match="`dimensions` is not an option of a call"):
        list(ImageEmbedding("nano").embed([picture(0)], dimensions=5))


def test_without_fastembed_the_error_names_the_extra():
    code = (
        "import sys\nsys.modules['fastembed'] = None\n"
        "from jclip_connectors.errors import MissingDependencyError\n"
        "try:\n    import jclip_connectors.qdrant_inference\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603 (ourselves)
    assert out == "fastembed is not installed: pip install 'jclip-connectors[qdrant-inference]'\n"
