"""The components that embed: what they give, what they refuse, and that they share one model."""

import asyncio
import base64
import dataclasses
import gc
import os
import threading

import numpy as np
import pytest

from core_encoder.errors import ConfigError
from jclip_connectors import EmbeddingConfig, EmbedInputError, PartialFailureError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.server.serve import load_served_model
from tests.late import late
from tests.pictures import PICTURE, encoded
from tests.server.harness import Server

ours = late("jclip_connectors.haystack")
models = late("jclip_connectors.haystack.models")
haystack = late("haystack")
dataclass_of = late("haystack.dataclasses")
utils = late("haystack.utils")
converters = late("haystack.components.converters.image")

NANO = EmbeddingConfig(model="nano", dimensions=64)
PNG = encoded(PICTURE, "PNG")


@pytest.fixture(scope="module")
def local():
    return LocalEmbedder(NANO)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    return path


def same(found, row):
    return np.allclose(found, row, atol=1e-6)


def test_a_text_is_embedded_as_a_query_and_a_document_as_a_document(local):
    found = ours().JinaClipTextEmbedder(NANO).run(text="a red square")
    assert same(found["embedding"], local.embed_query("a red square"))
    assert found["meta"] == {"model": "nano"}
    given = haystack().Document(content="a red square", meta={"title": "Squares", "none": None, "n": 3})
    made = ours().JinaClipDocumentEmbedder(NANO).run(documents=[given])["documents"]
    assert same(made[0].embedding, local.embed_texts(["a red square"])[0])
    assert (made[0].id, made[0].meta, given.embedding) == (given.id, given.meta, None)
    with_meta = ours().JinaClipDocumentEmbedder(
        NANO, meta_fields_to_embed=["title", "none", "n", "absent"], embedding_separator=" | "
    )
    [made] = with_meta.run(documents=[given])["documents"]
    assert same(made.embedding, local.embed_texts(["Squares | 3 | a red square"])[0])


def test_batches_give_the_vectors_of_all_documents_in_order(local):
    texts = [f"text {n}" for n in range(5)]
    documents = [haystack().Document(content=text) for text in texts]
    made = ours().JinaClipDocumentEmbedder(NANO, batch_size=2).run(documents=documents)["documents"]
    assert same([document.embedding for document in made], local.embed_texts(texts))
    assert ours().JinaClipDocumentEmbedder(NANO).run(documents=[])["documents"] == []


def test_an_image_comes_from_a_path_a_byte_stream_or_an_image_content(local, picture):
    embedder = ours().JinaClipImageEmbedder(NANO)
    row = local.embed_images([PNG])[0]
    content = dataclass_of().ImageContent(base64_image=base64.b64encode(PNG).decode())
    for image in (picture, str(picture), dataclass_of().ByteStream(PNG), content):
        assert same(embedder.run(image=image)["embedding"], row)


def test_a_document_with_an_image_comes_from_haystacks_converter_or_holds_its_bytes(local, picture):
    converter = converters().ImageFileToDocument(store_full_path=True)
    [document] = converter.run(sources=[picture])["documents"]
    held = haystack().Document(blob=dataclass_of().ByteStream(PNG, mime_type="image/png"))
    made = ours().JinaClipImageDocumentEmbedder(NANO).run(documents=[document, held])["documents"]
    assert same([each.embedding for each in made], local.embed_images([PNG, PNG]))
    source = {"type": "image", "file_path_meta_field": "file_path"}
    assert made[0].meta == {"file_path": str(picture), "embedding_source": source}
    assert [each.id for each in made] == [document.id, held.id]


def test_the_name_of_a_file_alone_is_looked_for_in_the_root_path_and_the_error_says_how_to_keep_all_of_it(picture):
    documents = converters().ImageFileToDocument().run(sources=[picture])["documents"]
    with pytest.raises(RuntimeError, match=r"'a\.png': .*`store_full_path=True`; or give the embedder a `root_path`"):
        ours().JinaClipImageDocumentEmbedder(NANO).run(documents=documents)
    embedder = ours().JinaClipImageDocumentEmbedder(NANO, root_path=str(picture.parent))
    assert embedder.run(documents=documents)["documents"][0].embedding


def test_what_cannot_be_embedded_is_named_by_its_id_and_the_rest_is_kept(local, picture, tmp_path, caplog):
    (tmp_path / "b.png").write_bytes(b"no picture")
    metas = [{"file_path": str(picture)}, {"file_path": str(tmp_path / "b.png")}, {}, {"file_path": "paper.PDF"}]
    documents = [haystack().Document(id=f"d{n}", meta=meta) for n, meta in enumerate(metas)]
    with pytest.raises(
        ours().DocumentsNotEmbeddedError, match=r"'d1': .*'d2': .*'file_path'.*'d3': it is a PDF"
    ) as caught:
        ours().JinaClipImageDocumentEmbedder(NANO).run(documents=documents)
    assert (issubclass(caught.type, RuntimeError), issubclass(caught.type, PartialFailureError)) == (True, True)
    assert sorted(caught.value.failed) == [1, 2, 3]
    assert same(caught.value.kept[0].embedding, local.embed_images([PNG])[0])
    patient = ours().JinaClipImageDocumentEmbedder(NANO, raise_on_failure=False)
    made = patient.run(documents=documents)["documents"]
    assert [each.embedding is None for each in made] == [False, True, True, True]
    assert made[1] is documents[1]
    assert "3 of 4 documents failed" in caplog.text


def test_a_url_is_not_downloaded_and_not_repeated():
    document = haystack().Document(id="a", meta={"file_path": "https://user:secret-1@host/a.png"})
    with pytest.raises(RuntimeError, match="'a': its metadata has a URL at 'file_path'") as caught:
        ours().JinaClipImageDocumentEmbedder(NANO).run(documents=[document])
    assert "secret-1" not in str(caught.value)


def test_an_empty_text_is_a_text(local):
    [made] = ours().JinaClipDocumentEmbedder(NANO).run(documents=[haystack().Document(content="")])["documents"]
    assert same(made.embedding, local.embed_texts([""])[0])


def test_one_text_that_is_refused_keeps_no_other_text_out(local):
    documents = [
        haystack().Document(id=name, content=text) for name, text in (("a", "one"), ("b", None), ("c", "three"))
    ]
    with pytest.raises(ours().DocumentsNotEmbeddedError, match="'b': it has no `content`") as caught:
        ours().JinaClipDocumentEmbedder(NANO).run(documents=documents)
    assert same([each.embedding for each in caught.value.kept.values()], local.embed_texts(["one", "three"]))
    broken = dataclasses.replace(documents[1], content="\ud800")
    with pytest.raises(ours().DocumentsNotEmbeddedError, match="'b': ") as caught:
        ours().JinaClipDocumentEmbedder(NANO).run(documents=[documents[0], broken, documents[2]])
    assert sorted(caught.value.kept) == [0, 2]


@pytest.mark.parametrize("given", ["one", {"content": "one"}, ["one"], None])
def test_anything_but_a_list_of_documents_is_a_type_error(given):
    for embedder in (ours().JinaClipDocumentEmbedder(NANO), ours().JinaClipImageDocumentEmbedder(NANO)):
        with pytest.raises(TypeError, match="`documents`"):
            embedder.run(documents=given)


def test_anything_but_a_text_or_an_image_is_refused():
    with pytest.raises(EmbedInputError, match="`text` is list"):
        ours().JinaClipTextEmbedder(NANO).run(text=["one"])
    with pytest.raises(EmbedInputError, match="the image is int; use a path, a ByteStream or an ImageContent"):
        ours().JinaClipImageEmbedder(NANO).run(image=3)
    with pytest.raises(EmbedInputError, match=r"`image` cannot be embedded: .*no picture"):
        ours().JinaClipImageEmbedder(NANO).run(image="no picture.png")
    with pytest.raises(EmbedInputError, match="it is a PDF"):
        ours().JinaClipImageEmbedder(NANO).run(image=dataclass_of().ByteStream(b"%PDF", mime_type="application/pdf"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "nano"}, "`config` is str; use an EmbeddingConfig"),
        ({"url": "http://x/v1", "device": "cpu"}, "`device` is for a model in this process"),
    ],
)
def test_an_option_without_effect_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ours().JinaClipTextEmbedder(**{"config": NANO} | options)


def test_a_key_is_a_secret_and_belongs_to_a_server():
    with pytest.raises(ConfigError, match=r"`api_key` is str; use Secret\.from_env_var") as caught:
        ours().JinaClipTextEmbedder(NANO, url="http://x/v1", api_key="secret-123")
    assert "secret-123" not in str(caught.value)
    with pytest.raises(ConfigError, match="`api_key` is for a server"):
        ours().JinaClipTextEmbedder(NANO, api_key=utils().Secret.from_token("secret-123"))


def test_a_batch_size_is_a_count():
    for embedder in (ours().JinaClipDocumentEmbedder, ours().JinaClipImageDocumentEmbedder):
        with pytest.raises(EmbedInputError, match="`batch_size` is 0"):
            embedder(NANO, batch_size=0)


def test_components_with_one_model_load_it_once_and_forget_it_with_the_last(monkeypatch):
    loaded = []

    class Counted(LocalEmbedder):
        def __init__(self, config, **options):
            loaded.extend([config] * (options.get("encoder") is None))
            super().__init__(config, **options)

    monkeypatch.setattr(models(), "LocalEmbedder", Counted)
    gc.collect()
    short = dataclasses.replace(NANO, dimensions=32)
    made = [ours().JinaClipTextEmbedder(NANO), ours().JinaClipImageEmbedder(short), ours().JinaClipTextEmbedder(short)]
    for embedder in made * 2:
        embedder.warm_up()
    assert len(loaded) == 1
    assert [len(made[at].run(text="one")["embedding"]) for at in (0, 2)] == [64, 32]
    for embedder in made:
        embedder.close()
    gc.collect()
    assert not models()._loaded
    assert len(made[0].run(text="one")["embedding"]) == 64
    assert len(loaded) == 2


async def test_the_event_loop_goes_on_while_the_model_is_loaded_and_works(monkeypatch):
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[threading.Event] = asyncio.Queue()

    def waiting(function):
        def call(*given, **options):
            passed = threading.Event()
            loop.call_soon_threadsafe(arrived.put_nowait, passed)
            assert passed.wait(20), "the event loop waited for the model"
            return function(*given, **options)

        return call

    for name in ("__init__", "embed_query"):
        monkeypatch.setattr(LocalEmbedder, name, waiting(getattr(LocalEmbedder, name)))
    gc.collect()
    config = dataclasses.replace(NANO, precision="fp32")  # which no other test has loaded
    running = asyncio.create_task(ours().JinaClipTextEmbedder(config).run_async(text="one"))
    for _ in range(2):
        (await asyncio.wait_for(arrived.get(), 20)).set()  # only a loop that is free comes here
    assert len((await running)["embedding"]) == 64


async def test_asyncio_gives_the_same(local, picture):
    text, image = ours().JinaClipTextEmbedder(NANO), ours().JinaClipImageEmbedder(NANO)
    await text.warm_up_async()
    assert same((await text.run_async(text="one"))["embedding"], local.embed_query("one"))
    assert same((await image.run_async(image=picture))["embedding"], local.embed_images([PNG])[0])
    documents = [haystack().Document(content="one", meta={"file_path": str(picture)})]
    made = (await ours().JinaClipDocumentEmbedder(NANO).run_async(documents=documents))["documents"]
    assert same(made[0].embedding, local.embed_texts(["one"])[0])
    made = (await ours().JinaClipImageDocumentEmbedder(NANO).run_async(documents=documents))["documents"]
    assert same(made[0].embedding, local.embed_images([PNG])[0])
    await text.close_async()


@pytest.fixture
def server():
    config = EmbeddingConfig(model="nano")
    with Server(load_served_model(config, device="cpu"), config=config, api_keys=["secret-key-1"]) as started:
        yield started


async def test_a_server_embeds_with_a_key_that_is_read_from_the_environment(server, monkeypatch, local):
    monkeypatch.setenv("OUR_KEY", "secret-key-1")
    place = {"url": f"{server.url}/v1", "api_key": utils().Secret.from_env_var("OUR_KEY")}
    embedder = ours().JinaClipTextEmbedder(NANO, **place)
    assert same(embedder.run(text="one")["embedding"], local.embed_query("one"))
    assert same((await embedder.run_async(text="one"))["embedding"], local.embed_query("one"))
    await embedder.close_async()
    documents = ours().JinaClipDocumentEmbedder(NANO, **place)
    made = documents.run(documents=[haystack().Document(content="two")])["documents"]
    assert same(made[0].embedding, local.embed_texts(["two"])[0])
    documents.close()
    documents.close()


def test_what_is_saved_has_the_name_of_the_variable_and_never_the_key(monkeypatch):
    monkeypatch.setenv("OUR_KEY", "secret-key-1")
    embedder = ours().JinaClipTextEmbedder(NANO, url="http://x/v1", api_key=utils().Secret.from_env_var("OUR_KEY"))
    saved = embedder.to_dict()
    assert "secret-key-1" not in str(saved)
    assert saved["init_parameters"]["api_key"]["env_vars"] == ["OUR_KEY"]
    assert ours().JinaClipTextEmbedder.from_dict(saved).to_dict() == saved
    given = ours().JinaClipTextEmbedder(NANO, url="http://x/v1", api_key=utils().Secret.from_token("secret-key-1"))
    with pytest.raises(ValueError, match="Cannot serialize token-based secret") as caught:
        given.to_dict()
    assert "secret-key-1" not in str(caught.value)
    assert "secret-key-1" not in f"{given!r}{given.__dict__}{given.model.place!r}"


def test_telemetry_is_off_here():
    assert os.environ["HAYSTACK_TELEMETRY_ENABLED"] == "False"
