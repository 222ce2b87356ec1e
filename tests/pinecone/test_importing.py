"""Pinecone's import from cloud storage: the files, and what the collection has after it."""

import contextlib

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.pinecone import importing
from jclip_connectors.pinecone.store import PineconeStore
from jclip_connectors.testing.store_contract import PLAIN, TILED, E, image
from tests.bulk.copies import assert_equal_records, synthetic
from tests.cli.test_store_urls import jclip

URI = "s3://bucket/import"


@pytest.fixture(autouse=True)
def bucket():
    """Amazon S3 in memory, for the store and for the double."""
    known = fsspec.registry.get("s3")
    fsspec.register_implementation("s3", MemoryFileSystem, clobber=True)
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    if known is not None:
        fsspec.register_implementation("s3", known, clobber=True)


@pytest.mark.parametrize("file_bytes", [64 * 2**20, 1])
def test_an_import_gives_the_collection_what_writing_the_records_gives(server, tiled, monkeypatch, file_bytes):
    monkeypatch.setattr(importing, "_FILE_BYTES", file_bytes)
    records = list(synthetic(40, length=E))
    assert tiled.import_records([records[:25], records[25:]], f"{URI}/", integration_id="one") == "1"
    assert server.imports == [(URI, "one")]
    fs, root = fsspec.url_to_fs(URI)
    assert len(fs.find(root)) == (1 if file_bytes > 1 else 2)
    assert_equal_records(records, tiled.scroll())
    assert tiled.count() == 40


def test_a_folder_with_files_of_the_namespace_is_refused(store):
    store.import_records([[image("a")]], URI)
    with pytest.raises(EmbedInputError, match="name another folder"):
        store.import_records([[image("b")]], URI)


@pytest.mark.parametrize("uri", ["/a/folder", "s3://key:secret@bucket/a", "https://a.example/b?sig=secret", "ftp://a"])
def test_an_address_that_pinecone_cannot_read_is_refused_and_not_repeated(server, store, uri):
    with pytest.raises(EmbedInputError, match="Pinecone imports from a folder") as told:
        store.import_records([[image("a")]], uri)
    assert "secret" not in str(told.value)
    assert server.imports == []


def test_a_record_that_pinecone_cannot_have_starts_no_import(server, store):
    with pytest.raises(EmbedInputError, match="large"):
        store.import_records([[image("large", metadata={"a": ["x" * 41_000]})]], URI)
    assert server.imports == []


def test_the_command_needs_pinecone(tmp_path):
    told = jclip("load", tmp_path, "--collection", tmp_path / "c", "--pinecone-import", URI, code=2)[1]
    assert "needs --store pinecone://INDEX" in " ".join(told.split())
    told = jclip("load", tmp_path, "--collection", tmp_path / "c", "--integration", "one", code=2)[1]
    assert "no effect without --pinecone-import" in " ".join(told.split())


def test_a_collection_opens_as_before_after_an_import(client, index_name):
    with contextlib.closing(PineconeStore.open(client, index_name, TILED)) as opened:
        opened.import_records([list(synthetic(5, length=E))], URI)
    with contextlib.closing(PineconeStore.open(client, index_name, TILED)) as again:
        assert again.count() == 5
    assert PLAIN.fingerprint() != TILED.fingerprint()
