"""Opening collections in LanceDB: whose table it is, and what the engine's errors become."""

import dataclasses
import http.server
import threading
import traceback
from typing import Any

import lancedb
import pyarrow as pa
import pytest

from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.lancedb import LanceStore, lance_optimize, stored_fingerprint
from jclip_connectors.lancedb.errors import translate
from jclip_connectors.store_kit.patience import ClientGaveUpError
from tests.lancedb.parts import CONFIG, UNSIZED, E, records


def test_the_fingerprint_is_in_the_schema_and_stays_through_writes_and_optimising(connection, folder):
    assert stored_fingerprint(connection, "photos") is None
    store = LanceStore.open(connection, "photos", CONFIG)
    store.upsert(records(0, 10))
    store.upsert(records(0, 10))
    lance_optimize(store)
    assert stored_fingerprint(lancedb.connect(folder), "photos") == CONFIG.fingerprint()
    with pytest.raises(CollectionMismatchError, match="revision"):
        LanceStore.open(connection, "photos", dataclasses.replace(CONFIG, revision="2"))


@pytest.mark.usefixtures("store")
def test_the_id_is_the_primary_key_and_no_column_but_texts_may_be_null(connection):
    schema = connection.open_table("photos").schema
    assert schema.field("record_id").metadata == {b"lance-schema:unenforced-primary-key": b"true"}
    nullable = {field.name for field in schema if field.nullable}
    assert nullable == {"content", "uri", "content_hash", "tile_boxes"}


@pytest.mark.parametrize("metadata", [None, {"jclip": "no JSON"}, {"jclip": "[]"}, {"jclip": "{}"}])
def test_a_table_of_another_program_is_refused_and_left_as_it_is(connection, metadata):
    table = connection.create_table("theirs", pa.table({"a": [1]}).replace_schema_metadata(metadata))
    for call in (
        lambda: LanceStore.open(connection, "theirs", CONFIG),
        lambda: stored_fingerprint(connection, "theirs"),
    ):
        with pytest.raises(StoreRequestError, match="another program made it"):
            call()
    assert table.to_arrow().to_pydict() == {"a": [1]}


def test_a_newer_format_is_refused(connection):
    described = '{"format": 2, "fingerprint": {}}'
    connection.create_table("newer", pa.table({"a": [1]}).replace_schema_metadata({"jclip": described}))
    with pytest.raises(StoreRequestError, match=r"has the format 2, .* upgrade it"):
        LanceStore.open(connection, "newer", CONFIG)


def test_the_length_is_an_option_where_the_configuration_does_not_know_it(connection):
    with pytest.raises(EmbedInputError, match="give `dimensions`"):
        LanceStore.open(connection, "photos", UNSIZED)
    LanceStore.open(connection, "photos", UNSIZED, dimensions=E).upsert(records(0, 3))
    assert LanceStore.open(connection, "photos", UNSIZED).count() == 3
    with pytest.raises(EmbedInputError, match=f"`dimensions` is 5, but the collection 'photos' was made with {E}"):
        LanceStore.open(connection, "photos", UNSIZED, dimensions=5)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("refine_factor", 0),
        ("nprobes", True),
        ("dimensions", "16"),
        ("patience_s", -1),
        ("collection_name", ""),
        ("collection_name", "a b"),
        ("collection_name", "ü"),
        ("collection_name", "a/b"),
        ("collection_name", "x" * 300),
        ("collection_name", 7),
    ],
)
def test_a_bad_option_is_refused_by_name(connection, option, value):
    options = {"collection_name": "photos", option: value}
    with pytest.raises(EmbedInputError, match=f"`{option}` is"):
        LanceStore.open(connection, config=CONFIG, **options)
    assert list(connection.list_tables().tables) == []


@pytest.mark.parametrize("name", ["photos", "A-1_b.c", "x" * 249])
def test_every_name_that_lancedb_takes_is_a_collection(connection, name):
    LanceStore.open(connection, name, CONFIG).upsert(records(0, 1))
    assert LanceStore.open(connection, name, CONFIG).count() == 1


def test_lancedb_cloud_is_refused_with_what_to_do():
    remote = lancedb.connect("db://somewhere", api_key="sk_secret", region="us-east-1")
    with pytest.raises(EmbedInputError, match="Cloud or Enterprise, which is not supported") as caught:
        LanceStore.open(remote, "photos", CONFIG)
    assert "secret" not in str(caught.value)


def test_only_a_store_of_lancedb_can_be_optimised(store):
    optimize: Any = lance_optimize
    with pytest.raises(EmbedInputError, match="pass a LanceStore"):
        optimize("photos")
    with pytest.raises(EmbedInputError, match="`keep` is 7"):
        optimize(store, keep=7)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (RuntimeError("lance error: Commit conflict for version 3: at /x/y.rs:1:2"), StoreUnavailableError, "too many"),
        (RuntimeError("Too many concurrent writers. Attempted 20 times"), StoreUnavailableError, "too many writers"),
        (
            RuntimeError("LanceError(IO): Generic LocalFileSystem error: No space left on device (os error 28)"),
            StoreUnavailableError,
            "the disk is full",
        ),
        (RuntimeError("Too many open files (os error 24)"), StoreUnavailableError, "cannot open its files now"),
        (RuntimeError("Permission denied (os error 13)"), StoreRequestError, "may not write or read"),
        (RuntimeError("Generic S3 error: Error after 10 retries"), ClientGaveUpError, "cannot reach its files"),
        (
            RuntimeError("lance error: Not found: a/_versions, /r/src/c.rs:653:26"),
            StoreUnavailableError,
            "is gone: Not",
        ),
        (RuntimeError("Connection is closed"), StoreRequestError, "connect again"),
        (ValueError("Table 'x' was not found"), StoreRequestError, "Table 'x' was not found"),
        (ValueError("Invalid input, Schema error"), StoreRequestError, "refuses the request: Invalid input"),
        (KeyError("ours"), None, ""),
    ],
)
def test_an_error_of_lancedb_is_known_by_its_text(error, kind, told):
    ours = translate(error)
    if kind is None:
        assert ours is None
        return
    assert type(ours) is kind
    assert told in str(ours)
    assert ".rs" not in str(ours)


class EmptyBucket(http.server.BaseHTTPRequestHandler):
    """A storage without files, in the protocol of S3."""

    def do_GET(self):
        self.answer(b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>")

    def do_HEAD(self):
        self.answer(b"", status=404)

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_storage_that_cannot_be_reached_is_told_without_its_key():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EmptyBucket)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    options = {
        "endpoint": f"http://127.0.0.1:{server.server_port}",
        "allow_http": "true",
        "aws_access_key_id": "AKIA-SECRET-1",
        "aws_secret_access_key": "SECRET-2",
        "region": "nowhere",
        "client_max_retries": "0",
        "client_retry_timeout": "1",
    }
    try:
        connection = lancedb.connect("s3://bucket/lance", storage_options=options)
        assert stored_fingerprint(connection, "photos") is None
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
    with pytest.raises(ClientGaveUpError, match="LanceDB cannot reach its files") as caught:
        LanceStore.open(connection, "photos", CONFIG)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
