"""The embedder over an endpoint: the promises of every embedder, what is sent, and what becomes of bad answers."""

import asyncio
import base64
import contextlib
import copy
import dataclasses
import io
import json
import pickle
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from core_encoder import JinaClipEncoder
from core_encoder.errors import ConfigError
from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.remote import AsyncRemoteEmbedder, RemoteEmbedder
from jclip_connectors.testing.bridge import EventLoop
from jclip_connectors.testing.embedder_contract import EmbedderContract, picture
from tests.remote.jina_server import JinaServer

KEY = "a-secret-key"
NANO = EmbeddingConfig(model="nano", dimensions=64)
V1 = EmbeddingConfig(model="jinaai/jina-clip-v1")
V2 = EmbeddingConfig()


@pytest.fixture(scope="module")
def nano():
    return JinaClipEncoder.load("nano", device="cpu")


def by_nano(encoder):
    def embed(kind, value, request):
        if kind == "text":
            return encoder.encode_text([value], task=request.get("task"))[0]
        return encoder.encode_image([value])[0]

    return embed


def by_content(kind, value, request):
    """A vector of the content alone; an image of one pixel is refused."""
    if kind == "image":
        with Image.open(io.BytesIO(value)) as image:
            if image.size == (1, 1):
                return None
        value = repr(value)
    seed = list((value + request.get("task", "")).encode()) or [0]
    return np.random.default_rng(seed).normal(size=768 if request["model"] == "jina-clip-v1" else 1024)


@pytest.fixture
def server():
    with JinaServer(by_content, api_key=KEY) as running:
        yield running


@pytest.fixture
def connect(server, monkeypatch):
    """Makes embedders for the server, which wait for nothing, and closes them."""
    monkeypatch.setattr("jclip_connectors.store_kit.retry._FIRST_WAIT_S", 0.01)
    made = []

    def make(config=V2, **options):
        made.append(RemoteEmbedder(config, **{"base_url": server.url, "api_key": KEY} | options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


class BridgedStore:
    """An `Embedder` that lets an asyncio one work on `loop`."""

    def __init__(self, embedder, loop):
        self._embedder, self._loop = embedder, loop
        self.config, self.dimensions = embedder.config, embedder.dimensions

    def __getattr__(self, name):
        return lambda *given: self._loop.run(getattr(self._embedder, name)(*given))


@pytest.fixture(scope="module")
def blocking(nano):
    """Makes embedders over the bundled model."""
    with JinaServer(by_nano(nano)) as running, contextlib.ExitStack() as made:
        yield lambda config: made.enter_context(RemoteEmbedder(config, base_url=running.url, max_items=7))


@pytest.fixture(scope="module")
def bridged(nano):
    """Makes asyncio embedders over the bundled model."""
    with JinaServer(by_nano(nano)) as running, EventLoop() as loop, contextlib.ExitStack() as made:

        def make(config):
            embedder = AsyncRemoteEmbedder(config, base_url=running.url, max_items=7)
            made.callback(lambda: loop.run(embedder.close()))
            return BridgedStore(embedder, loop)

        yield make


class TestRemoteEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, blocking):
        return blocking(NANO)

    @pytest.fixture
    def tiled_embedder(self, blocking):
        return blocking(dataclasses.replace(NANO, tiling=Tiling(max_tiles=4)))

    def test_vectors_are_those_of_the_local_encoder(self, embedder, tiled_embedder, nano):
        local = LocalEmbedder(NANO, encoder=nano)
        wide = picture(3, (200, 100))
        np.testing.assert_allclose(embedder.embed_texts(["a", ""]), local.embed_texts(["a", ""]), atol=1e-6)
        np.testing.assert_allclose(embedder.embed_query("a"), local.embed_query("a"), atol=1e-6)
        (found,) = tiled_embedder.embed_image_tiles([wide])
        (expected,) = local.with_config(tiled_embedder.config).embed_image_tiles([wide])
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
        assert embedder.config.fingerprint() == local.config.fingerprint()


class TestAsyncRemoteEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, bridged):
        return bridged(NANO)

    @pytest.fixture
    def tiled_embedder(self, bridged):
        return bridged(dataclasses.replace(NANO, tiling=Tiling(max_tiles=4)))


def test_options_are_asked_for_by_the_names_of_the_schema(connect, server):
    embedder = connect(EmbeddingConfig(dimensions=512, normalize=False), truncate=True)
    embedder.embed_query("data:image/png;base64,AAAA")
    embedder.embed_texts(["a"])
    asked = {"model": "jina-clip-v2", "embedding_type": "base64", "normalized": False, "truncate": True}
    asked["dimensions"] = 512
    assert server.requests == [
        {**asked, "task": "retrieval.query", "input": [{"text": "data:image/png;base64,AAAA"}]},
        {**asked, "input": [{"text": "a"}]},
    ]


def test_dimensions_that_cannot_be_asked_for_are_cut_here(connect, server):
    full, short = connect(V1).embed_query("a"), connect(dataclasses.replace(V1, dimensions=64)).embed_query("a")
    np.testing.assert_allclose(short, full[:64] / np.linalg.norm(full[:64]), atol=1e-6)
    assert all({"dimensions", "task"}.isdisjoint(request) for request in server.requests)


def test_lists_are_split_by_length_and_by_bytes_and_keep_their_order(connect, server):
    texts = [f"{i} " + "x" * 400 for i in range(50)]
    few = connect(max_items=7)
    rows = few.embed_texts(texts)
    assert sorted(len(request["input"]) for request in server.requests) == [1, *[7] * 7]
    server.requests.clear()
    small = connect(max_request_bytes=5000, max_image_bytes=2000)
    np.testing.assert_array_equal(small.embed_texts(texts), rows)
    assert len(server.requests) > 5
    assert max(len(json.dumps(request)) for request in server.requests) <= 5000
    with pytest.raises(EmbedInputError, match="text 1 has 9000 bytes"):
        small.embed_texts(["a", "x" * 9000])


def test_no_more_requests_run_at_once_than_are_allowed(connect, server):
    server.delay_s = 0.2
    connect(max_items=1, max_concurrency=3).embed_texts([str(i) for i in range(12)])
    assert server.most_at_once == 3


async def test_the_asyncio_twin_keeps_order_and_bound_over_several_calls(server):
    server.delay_s = 0.2
    async with AsyncRemoteEmbedder(V2, base_url=server.url, api_key=KEY, max_items=1, max_concurrency=2) as embedder:
        texts = [str(i) for i in range(6)]
        first, again = await asyncio.gather(embedder.embed_texts(texts), embedder.embed_texts(texts[::-1]))
    np.testing.assert_array_equal(first, again[::-1])
    assert server.most_at_once == 2
    with pytest.raises(StoreRequestError, match="closed"):
        await embedder.embed_query("a")


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sent(server):
    return [base64.b64decode(item["image"]) for request in server.requests for item in request["input"]]


def test_files_are_sent_as_they_are_and_never_as_places(connect, server, tmp_path):
    content = saved(picture(0), "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    uri = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    connect().embed_images([path, str(path), content, uri, uri.partition(",")[2]])
    assert sent(server) == [content] * 5
    assert "a.jpg" not in json.dumps(server.requests)


def test_what_readers_could_show_differently_is_sent_as_its_pixels(connect, server):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(picture(0), "PNG", exif=exif)
    clear = saved(picture(0).convert("RGBA"), "PNG")
    as_stored = dataclasses.replace(V2, rendering="as_stored")
    connect(as_stored).embed_images([turned, clear, saved(picture(0), "TIFF"), picture(0)])
    connect().embed_images([turned])
    images = [Image.open(io.BytesIO(content)) for content in sent(server)]
    assert [image.mode for image in images] == ["RGB"] * 5
    assert not any(image.getexif() for image in images)
    for image in images[:4]:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(picture(0)))
    upright = np.asarray(picture(0).transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(np.asarray(images[4]), upright)


def test_an_image_over_the_limit_is_refused_before_it_is_sent(connect, server):
    with pytest.raises(PartialFailureError, match=r"1: the image has \d+ bytes .* `max_image_bytes` 2000") as caught:
        connect(max_image_bytes=2000).embed_images([Image.new("RGB", (9, 9)), picture(0)])
    assert list(caught.value.kept) == [0]
    assert len(sent(server)) == 1


@pytest.mark.parametrize("tiled", [False, True])
def test_images_that_the_endpoint_refuses_fail_alone(connect, tiled):
    embedder = connect(dataclasses.replace(V2, tiling=Tiling(max_tiles=2)))
    embed = embedder.embed_image_tiles if tiled else embedder.embed_images
    with pytest.raises(PartialFailureError, match="1 of 3 images failed: 1: image 1 is refused") as caught:
        embed([picture(0), Image.new("RGB", (1, 1)), picture(1)])
    assert sorted(caught.value.kept) == [0, 2]


def test_a_text_that_the_endpoint_refuses_is_named_and_not_repeated(connect, server):
    with pytest.raises(EmbedInputError, match=r"text 5 is refused: .* 400 \(INPUT_TOKEN.*`truncate=True`") as caught:
        connect(max_items=4).embed_texts(["a"] * 5 + ["forbidden words"])
    assert "words" not in str(caught.value)
    assert len(server.requests) == 2  # neither was tried again


def test_texts_are_all_checked_before_any_is_sent(connect, server):
    for bad in (3, "\ud800"):
        with pytest.raises(EmbedInputError, match="text 9"):
            connect(max_items=1).embed_texts(["a"] * 9 + [bad])
    assert server.requests == []


def refuse(status, **headers):
    return lambda *_: (status, {name.replace("_", "-"): value for name, value in headers.items()}, b"<html>busy</html>")


@pytest.mark.parametrize(
    "fault", [refuse(429, Retry_After="0"), refuse(408), refuse(500), refuse(503), lambda *_: None]
)
def test_what_may_pass_is_tried_again(connect, server, fault):
    server.faults = [fault, fault]
    assert connect().embed_query("a").shape == (1024,)


async def test_the_asyncio_twin_tries_again(server):
    server.faults = [refuse(429, Retry_After="0"), lambda *_: None]
    async with AsyncRemoteEmbedder(V2, base_url=server.url, api_key=KEY) as embedder:
        assert (await embedder.embed_query("a")).shape == (1024,)


def test_the_endpoint_says_how_long_to_wait(connect, server):
    server.faults = [refuse(429, Retry_After="1")]
    start = time.monotonic()
    connect().embed_query("a")
    assert 1 <= time.monotonic() - start < 30


@pytest.mark.parametrize("told", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_who_is_told_to_wait_long_hears_of_it_at_once(connect, server, told):
    server.faults = [refuse(429, Retry_After=told)]
    with pytest.raises(StoreUnavailableError, match="429") as caught:
        connect().embed_query("a")
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s >= 3600
    assert len(server.requests) == 1


def test_tries_are_bounded(connect, server):
    server.faults = [refuse(500)] * 10
    with pytest.raises(StoreUnavailableError, match="500"):
        connect(attempts=3).embed_query("a")
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 402, 404, 409, 422])
def test_no_other_refusal_is_tried_again(connect, server, status):
    server.faults = [refuse(status)]
    with pytest.raises(StoreRequestError, match=str(status)):
        connect().embed_query("a")
    assert len(server.requests) == 1


def test_no_redirect_is_followed(connect, server):
    server.faults = [refuse(307, Location="http://127.0.0.1:9/v1/embeddings")]
    with pytest.raises(StoreRequestError, match="`base_url`"):
        connect().embed_query("a")


def test_a_slow_endpoint_is_unavailable(connect, server):
    server.delay_s = 20
    with pytest.raises(StoreUnavailableError, match="in time"):
        connect(attempts=1, timeout_s=0.5).embed_query("a")


def test_an_endpoint_that_is_not_there_is_unavailable():
    with (
        RemoteEmbedder(V2, base_url="http://127.0.0.1:9/v1", attempts=1) as embedder,
        pytest.raises(StoreUnavailableError, match="cannot be reached"),
    ):
        embedder.embed_query("a")


def test_a_body_that_breaks_off_is_asked_for_again(connect, server):
    server.faults = [lambda status, _, body: (status, {"Content-Length": str(len(body))}, body[:100])]
    assert connect(timeout_s=5).embed_query("a").shape == (1024,)
    assert len(server.requests) == 2


def changed(change):
    def fault(status, headers, body):
        answer = json.loads(body)
        change(answer)
        return status, headers, json.dumps(answer).encode()

    return fault


def embedding(vector):
    def change(answer):
        answer["data"][0]["embedding"] = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()

    return changed(change)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (changed(lambda answer: answer["data"].pop()), "1 vectors came back for 2 items"),
        (changed(lambda answer: answer["data"].append(answer["data"][0])), "3 vectors"),
        (changed(lambda answer: answer["data"][0].update(index=1)), r"not 0\.\.1"),
        (changed(lambda answer: answer.update(model="jina-clip-v1")), "not come from the model 'jina-clip-v2'"),
        (changed(lambda answer: answer["data"][0].update(embedding=[0.1] * 1024)), "not base64"),
        (changed(lambda answer: answer["data"][0].update(embedding="?")), "not base64"),
        (embedding([np.nan] + [0.0] * 1023), "not finite"),
        (embedding([np.inf] + [0.0] * 1023), "not finite"),
        (embedding([1.0] * 1024), "unit length"),
        (embedding([0.0] * 1024), "unit length"),
        (embedding([1.0] + [0.0] * 767), "3072 bytes, not the 4096"),
        (lambda status, headers, body: (status, headers, body[:-9]), "not an object"),
        (lambda status, headers, _: (status, headers, b"[" * 100_000), "not an object"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(connect, server, fault, message):
    server.faults = [fault]
    with pytest.raises(StoreRequestError, match=message):
        connect().embed_texts(["a", "b"])
    assert len(server.requests) == 1


def test_vectors_are_taken_by_their_numbers(connect, server):
    rows = connect().embed_texts(["a", "b", "c"])
    server.faults = [changed(lambda answer: answer["data"].reverse())]
    np.testing.assert_array_equal(connect().embed_texts(["a", "b", "c"]), rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 77}, "`max_tokens` is 77"),
        ({"resize_mode": "squash"}, "`resize_mode` is 'squash'"),
        ({"resampling": "fast"}, "`resampling` is 'fast'"),
        ({"precision": "fp32"}, "`precision` is 'fp32'"),
        ({"revision": "0" * 40}, "`revision` is '0000"),
        ({"model": "jina-clip-v2", "dimensions": 64}, "`revision` is None"),
        ({"model": "of-ours", "revision": "1"}, "`dimensions` is None"),
        ({"model": "of-ours", "revision": "1", "dimensions": 8, "tiling": Tiling()}, "`tiling`"),
        ({"model": "/"}, "folder"),
    ],
)
def test_what_an_endpoint_cannot_be_asked_for_is_refused(options, message):
    for kind in (RemoteEmbedder, AsyncRemoteEmbedder):
        with pytest.raises(ConfigError, match=message):
            kind(EmbeddingConfig(**options))


def test_vectors_named_after_the_endpoint_are_not_taken_for_local_ones():
    config = EmbeddingConfig(model="jina-clip-v2", revision="api.jina.ai", dimensions=1024)
    with RemoteEmbedder(config) as embedder:
        assert embedder.config.fingerprint() != V2.fingerprint()


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "ftp://host/v1"},
        {"base_url": "host/v1"},
        {"base_url": f"https://me:{KEY}@host/v1"},
        {"base_url": f"https://host/v1?key={KEY}"},
        {"api_key": f"{KEY}\nX: y"},
        {"max_concurrency": 0},
        {"max_items": 0},
        {"attempts": True},
        {"timeout_s": 0},
        {"max_request_bytes": 1000},
    ],
)
def test_a_bad_option_is_refused_without_showing_a_key(options):
    with pytest.raises(ConfigError, match=f"`{next(iter(options))}`") as caught:
        RemoteEmbedder(V2, **options)
    assert KEY not in str(caught.value)


def test_the_key_is_shown_nowhere(connect):
    wrong = connect(api_key="another-secret")
    with pytest.raises(StoreRequestError, match=r"401 \(AUTH_INVALID_API_KEY, request 03f5") as caught:
        wrong.embed_query("a")
    for text in (repr(wrong), str(caught.value), repr(caught.value), str(caught.value.__cause__)):
        assert "secret" not in text
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="key"):
            duplicate(wrong)


def test_the_key_of_the_environment_goes_to_the_hosted_api_alone(monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", f"{KEY}\n")
    seen = []

    def note(request):
        seen.append((request.url.host, request.headers.get("Authorization")))
        return httpx.Response(404)

    for url in ("https://api.jina.ai/v1", "http://api.jina.ai/v1", "https://example.com/v1/"):
        with httpx.Client(transport=httpx.MockTransport(note)) as client:
            with RemoteEmbedder(V2, base_url=url, client=client) as embedder, pytest.raises(StoreRequestError):
                embedder.embed_query("a")
            assert not client.is_closed
    assert seen == [("api.jina.ai", f"Bearer {KEY}"), ("api.jina.ai", None), ("example.com", None)]


def test_a_closed_embedder_says_so(connect):
    embedder = connect()
    embedder.close()
    embedder.close()
    with pytest.raises(StoreRequestError, match="closed"):
        embedder.embed_query("a")


def test_importing_it_loads_no_torch():
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from jclip_connectors.config import EmbeddingConfig\n"
        "from jclip_connectors.remote.embedder import RemoteEmbedder\n"
        "RemoteEmbedder(EmbeddingConfig()).close()\n"
        "print([name for name in ('transformers', 'tokenizers', 'safetensors') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 (our own code)
    assert found.stdout.strip() == "[]"


def test_without_httpx_the_error_names_the_extra():
    code = "import sys\nsys.modules['httpx'] = None\nimport jclip_connectors.remote.embedder"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 (our own code)
    assert "httpx is not installed: pip install 'jclip-connectors[remote]'" in found.stderr
