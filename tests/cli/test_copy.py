"""`jclip copy`, between folders and through every store."""

import contextlib
import dataclasses
import itertools
import json
import uuid

import pytest

from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.errors import StoreUnavailableError
from tests.bulk.copies import NANO, PLAIN, TILED, assert_equal_records, synthetic
from tests.cli.test_store_urls import SECRET, jclip
from tests.doubles.chroma_stores import shared_server
from tests.doubles.pinecone_server import KEY, PineconeDouble
from tests.doubles.postgres_server import postgres
from tests.doubles.qdrant_server import QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble

pytestmark = pytest.mark.filterwarnings("ignore:Failed to obtain server version")  # the double of Qdrant has none


def collection(path, count=20, config=TILED, **options):
    with QdrantEdgeStore.open(path, config) as store:
        store.upsert(list(synthetic(count, **options)))
    return path


def records_in(path, config=TILED):
    with QdrantEdgeStore.open(path, config, read_only=True) as store:
        return list(store.scroll())


def test_a_folder_is_copied_and_the_same_command_finds_nothing_to_do(tmp_path):
    source = collection(tmp_path / "a")
    told = jclip("copy", source, f"edge:{tmp_path / 'b'}")[1]
    assert f"20 records of '{source}', 8 values each; to a new collection in '{tmp_path / 'b'}'" in told
    assert "20 copied, 0 unchanged, 0 failed" in told
    assert "20 counted in the target; 20 read back and compared" in told
    assert_equal_records(records_in(source), records_in(tmp_path / "b"))
    assert "0 copied, 20 unchanged, 0 failed" in jclip("copy", source, tmp_path / "b")[1]


def test_only_records_like_this_with_a_part_of_each_vector(tmp_path):
    source = collection(tmp_path / "a", 30, NANO, length=128)
    arguments = ("copy", source, tmp_path / "b", "--dimensions", 64, "--where", '{"n": {"lt": 7}}')
    assert "7 records of" in jclip(*arguments, "--dry-run")[1]
    assert not (tmp_path / "b").exists()
    assert "7 copied, 0 unchanged" in jclip(*arguments)[1]
    assert {
        len(record.embedding)
        for record in records_in(tmp_path / "b", carried_config(NANO.fingerprint(), dimensions=64))
    } == {64}
    told = jclip("copy", source, tmp_path / "b", code=2)[1]
    assert "was made with `dimensions` 64 (now 128)" in told
    told = jclip("copy", source, tmp_path / "b", "--dry-run", code=2)[1]
    assert "was made with `dimensions` 64 (now 128)" in told


def test_a_model_that_was_not_trained_for_it_is_not_cut(tmp_path):
    told = jclip("copy", collection(tmp_path / "a"), tmp_path / "b", "--dimensions", 4, code=2)[1]
    assert "'copied' is not known to be trained for shorter vectors" in told
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("{0}/a", "edge:{0}/a", "FROM and TO are the same"),
        ("{0}/a", "edge:", "TO names no folder; write edge:PATH"),
        ("", "{0}/b", "FROM names no folder; write edge:PATH"),
        ("{0}/nothing", "{0}/b", "there is no collection in"),
        (f"qdrant://key:{SECRET}@host/photos", "{0}/b", "FROM contains credentials"),
        ("{0}/a", "qdrant://host", "TO names no collection"),
        ("{0}/a", "mongodb://host/photos", "TO is 'mongodb://host/photos'; write edge:PATH, "),
        ("{0}/a", "{0}", "is a folder with other files in it"),
    ],
)
def test_a_bad_place_is_named_before_anything_is_made(tmp_path, source, target, message):
    collection(tmp_path / "a")
    told = jclip("copy", source.format(tmp_path), target.format(tmp_path), code=2)[1]
    assert message in told
    assert SECRET not in told
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_length_of_vectors_comes_from_the_first_record_where_the_fingerprint_has_none(tmp_path):
    config = carried_config({**PLAIN.fingerprint(), "dimensions": None})
    source = collection(tmp_path / "a", 5, config, tiled=False)
    with QdrantServer() as server:
        told = jclip("copy", source, f"{server.url.replace('http', 'qdrant', 1)}/photos")[1]
        assert "5 records" in told
        assert "8 values each" in told
        assert "5 copied" in told


def test_where_a_copy_stopped_is_said_and_the_same_command_completes_it(tmp_path, monkeypatch):
    source = collection(tmp_path / "a")
    upsert = QdrantEdgeStore.upsert
    writes = []

    def ending(store, records):
        writes.append(len(records))
        if len(writes) == 3:
            raise StoreUnavailableError("the disk is full")
        upsert(store, records)

    monkeypatch.setattr(QdrantEdgeStore, "upsert", ending)
    told = jclip("copy", source, tmp_path / "b", "--batch-size", 6, code=2)[1]
    assert "stopped after 12 of 20 records, which are kept: the same command continues from there" in told
    assert "error: the disk is full" in told
    assert "8 copied, 12 unchanged, 0 failed" in jclip("copy", source, tmp_path / "b", "--batch-size", 6)[1]


def test_an_interrupted_copy_says_that_the_same_command_goes_on(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    source = collection(tmp_path / "a")
    monkeypatch.setattr(QdrantEdgeStore, "upsert", interrupted)
    told = jclip("copy", source, tmp_path / "b", code=130)[1]
    assert "stopped; copied records are kept, and the same command continues from there" in told


def test_refused_records_are_named_and_reported(tmp_path):
    source = tmp_path / "a"
    with QdrantEdgeStore.open(source, PLAIN) as store:
        many = {"text": "x" * 60_000}  # more than Pinecone takes for a record
        store.upsert(
            [
                *synthetic(12, tiled=False),
                *(dataclasses.replace(record, metadata=many) for record in synthetic(11, tiled=False, start=20)),
            ]
        )
    with PineconeDouble() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PINECONE_CONTROLLER_HOST", server.url)
        patch.setenv("PINECONE_API_KEY", KEY)
        told = jclip("copy", source, "pinecone://photos", "--report", tmp_path / "report.jsonl", code=1)[1]
    assert "12 copied, 0 unchanged, 11 failed" in told
    assert "bytes of content and metadata, including fields for filters; Pinecone accepts 40960" in told
    assert f"  and 1 more; all of them are in {tmp_path / 'report.jsonl'}" in told
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(f"r {at}" for at in range(20, 31))


def test_a_collection_goes_into_parquet_files_and_back(tmp_path):
    source = collection(tmp_path / "a")
    files = tmp_path / "files"
    assert f"to a new collection in '{files}'" in jclip("copy", source, f"parquet:{files}", "--dry-run")[1]
    assert not files.exists()
    assert "20 copied, 0 unchanged, 0 failed" in jclip("copy", source, f"parquet:{files}")[1]
    assert sorted(path.name[:14] for path in files.glob("[!.]*")) == ["_jclip.json", "part-00000000-"]
    assert "0 copied, 20 unchanged" in jclip("copy", f"edge:{source}", files)[1]  # the sidecar says what it is
    assert "20 copied" in jclip("copy", files, tmp_path / "b")[1]
    assert_equal_records(records_in(source), records_in(tmp_path / "b"))


def test_export_and_import_are_copies_to_and_from_parquet_files(tmp_path):
    source = collection(tmp_path / "a")
    files = tmp_path / "files"
    told = jclip("export", source, files, "--where", '{"n": {"lt": 7}}', "--batch-size", 3)[1]
    assert "7 copied, 0 unchanged, 0 failed" in told
    assert sorted(path.name[:14] for path in files.glob("[!.]*")) == ["_jclip.json", "part-00000000-"]
    assert "13 copied, 7 unchanged" in jclip("export", source, f"parquet:{files}")[1]
    assert "20 records of" in jclip("import", files, tmp_path / "b", "--dry-run")[1]
    assert not (tmp_path / "b").exists()
    assert "20 copied, 0 unchanged, 0 failed" in jclip("import", files, tmp_path / "b")[1]
    assert_equal_records(records_in(source), records_in(tmp_path / "b"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "{0}/nothing", "{0}/b"), "there is no collection in"),
        (("export", "qdrant://host", "{0}/b"), "STORE names no collection"),
        (("export", "{0}/a", "{0}/a"), "STORE and FOLDER are the same"),
        (("export", "{0}/a", "qdrant://host/photos"), "qdrant:// cannot be read"),
        (("import", "{0}/a", "{0}/b"), "is no folder of vectors"),
        (("import", "{0}/files", "qdrant://host"), "STORE names no collection"),
    ],
)
def test_export_and_import_name_a_bad_place(tmp_path, words, message):
    jclip("export", collection(tmp_path / "a", 3), tmp_path / "files")
    assert message in jclip(*(word.format(tmp_path) for word in words), code=2)[1]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("parquet:{0}/nothing", "{0}/b", "is no folder of vectors"),
        ("parquet:", "{0}/b", "names no folder; write parquet:PATH"),
        ("{0}/a", "parquet:{0}/a", "FROM and TO are the same"),
        ("{0}/a", "parquet:gopher://x/y", "gopher:// cannot be read"),
    ],
)
def test_a_bad_folder_of_files_is_named(tmp_path, source, target, message):
    collection(tmp_path / "a", 3)
    assert message in jclip("copy", source.format(tmp_path), target.format(tmp_path), code=2)[1]


def test_what_was_read_when_a_copy_into_files_is_interrupted_is_kept(tmp_path, monkeypatch):
    source = collection(tmp_path / "a", 30)
    real = QdrantEdgeStore.scroll

    def interrupted(store, **options):
        yield from itertools.islice(real(store, **options), 20)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(QdrantEdgeStore, "scroll", interrupted)
        jclip("copy", source, f"parquet:{tmp_path / 'files'}", "--batch-size", 10, code=130)
    assert "10 copied, 20 unchanged" in jclip("copy", source, tmp_path / "files")[1]


@pytest.mark.slow
def test_two_thousand_records_come_back_through_every_store(tmp_path, monkeypatch):
    source = collection(tmp_path / "first", 2000)
    with contextlib.ExitStack() as stack:
        qdrant = stack.enter_context(QdrantServer())
        weaviate = stack.enter_context(WeaviateDouble())
        pinecone = stack.enter_context(PineconeDouble())
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", pinecone.url)
        monkeypatch.setenv("PINECONE_API_KEY", KEY)
        server = postgres()
        monkeypatch.setenv("PGUSER", server.user)
        monkeypatch.setenv("PGPASSWORD", server.password)
        database = stack.enter_context(server.database())
        places = [
            str(source),
            f"{qdrant.url.replace('http', 'qdrant', 1)}/photos",
            f"weaviate://127.0.0.1:{weaviate.http_port}/Photos?grpc_port={weaviate.grpc_port}",
            "pinecone://photos/copies",
            f"postgresql://{server.host}:{server.port}/{database}/photos",
            f"lancedb:{tmp_path / 'lance'}#photos",
            f"chroma:{tmp_path / 'chroma'}#photos",
            f"chroma://127.0.0.1:{shared_server()}/copies-{uuid.uuid4().hex}",
            f"milvus:{tmp_path / 'photos.db'}#photos",
            f"edge:{tmp_path / 'last'}",
        ]
        for place, following in itertools.pairwise(places):
            assert "2000 copied, 0 unchanged, 0 failed" in jclip("copy", place, following)[1]
        assert weaviate.surprises == []
        assert pinecone.surprises == []
    assert_equal_records(synthetic(2000), records_in(tmp_path / "last"))
