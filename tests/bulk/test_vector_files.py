"""Files of vectors give back what was written, in bounded batches, and appear in one step."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jclip_connectors.bulk.equality import owned
from jclip_connectors.bulk.vector_files import Sidecar, VectorFolder, file_schema, read_vector_files
from jclip_connectors.bulk.vector_rows import VectorRow, to_batch, to_rows
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError
from jclip_connectors.port import Record

E = 4
CONFIG = EmbeddingConfig(model="test", revision="1", dimensions=E)
SIDECAR = Sidecar(fingerprint=CONFIG.fingerprint(), dimensions=E)


def record(at, *, tiles=None, **fields):
    rng = np.random.default_rng(at)
    vectors: dict[str, Any] = {}
    if tiles is not None:
        vectors = {
            "tile_embeddings": rng.normal(size=(tiles, E)).astype(np.float32),
            "tile_boxes": rng.integers(0, 999, size=(tiles, 4)),
        }
    given: dict[str, Any] = {"record_id": f"r{at}", "modality": "image", "uri": f"/p/{at}.jpg", **fields}
    return Record(embedding=rng.normal(size=E).astype(np.float32), **vectors, **given)


MIXED = [
    VectorRow.of(
        record(0, tiles=3, content_hash="sha256:0", content="ein Hund", metadata={"n": 1, "deep": [None, {}]})
    ),
    VectorRow(key="broken.jpg", error="the image cannot be read", modality="image", uri="/p/broken.jpg"),
    VectorRow(key="a text", record=record(1, modality="text", content="\u00e9 \U0001f600", uri=None)),
    VectorRow.of(record(2, tiles=1, metadata={"surrogate": "\ud800", "big": 2**60})),
    VectorRow(key="also broken", error="empty"),
]


def assert_equal(left, right):
    for name in ("record_id", "modality", "content", "uri", "content_hash", "metadata"):
        assert getattr(left, name) == getattr(right, name)
    for name in ("embedding", "tile_embeddings", "tile_boxes"):
        one, other = getattr(left, name), getattr(right, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.fixture(params=["path", "memory"])
def url(request, tmp_path):
    return tmp_path / "out" if request.param == "path" else f"memory://{uuid.uuid4().hex}/out"


def made(url, sidecar=SIDECAR):
    folder = VectorFolder(url)
    folder.prepare(sidecar)
    return folder


def test_rows_come_back_as_they_were_written(url):
    folder = made(url)
    schema = file_schema(SIDECAR, source="test")
    assert folder.write("a.parquet", [to_batch(MIXED[:2], schema), to_batch(MIXED[2:], schema)], schema) == 5
    assert folder.files() == ["a.parquet"]
    found = [row for batch in folder.batches("a.parquet", rows=2) for row in to_rows(batch)]
    assert [(row.key, row.error) for row in found] == [(row.key, row.error) for row in MIXED]
    assert (found[1].modality, found[1].uri) == ("image", "/p/broken.jpg")
    for row, given in zip(found, MIXED, strict=True):
        assert (row.record is None) == (given.record is None)
        if row.record is not None:
            assert_equal(row.record, given.record)


@pytest.mark.parametrize("start", range(6))
def test_reading_begins_at_any_row(tmp_path, start):
    folder = made(tmp_path)
    schema = file_schema(SIDECAR, source="test")
    folder.write("a.parquet", [to_batch(MIXED, schema)], schema)
    keys = [key for batch in folder.batches("a.parquet", rows=2, start=start) for key in batch["key"].to_pylist()]
    assert keys == [row.key for row in MIXED[start:]]


def test_a_signed_address_is_refused_and_not_repeated():
    with pytest.raises(EmbedInputError, match="signed") as told:
        VectorFolder("https://host/folder?X-Amz-Signature=secret")
    assert "secret" not in str(told.value)


def test_records_of_all_files_come_in_batches_without_what_failed_and_the_newest_file_comes_last(url):
    folder = made(url)
    schema = file_schema(SIDECAR, source="test")
    folder.write("b.parquet", [to_batch(MIXED, schema)], schema)
    folder.write_records("a.parquet", [[record(at)] for at in range(7, 12)], SIDECAR, source="records")
    folder.write_records("c.parquet", [], SIDECAR, source="nothing")
    batches = list(read_vector_files(url, rows=3))
    assert max(map(len, batches)) <= 3
    assert [each.record_id for batch in batches for each in batch] == [f"r{at}" for at in (0, 1, 2, 7, 8, 9, 10, 11)]


def test_records_can_be_read_without_their_vectors(tmp_path):
    folder = made(tmp_path)
    folder.write_records("a.parquet", [[record(0, tiles=2, metadata={"a": 1})]], SIDECAR, source="records")
    ((found,),) = read_vector_files(tmp_path, vectors=False)
    assert (found.embedding.shape, found.tile_embeddings, found.tile_boxes) == ((0,), None, None)
    assert (found.record_id, found.metadata) == ("r0", {"a": 1})


def test_half_precision_keeps_vectors_to_half_precision_and_gives_float32(tmp_path):
    half = Sidecar(fingerprint=CONFIG.fingerprint(), dimensions=E, vector_type="float16")
    given = record(0, tiles=2)
    made(tmp_path, half).write_records("a.parquet", [[given]], half, source="records")
    ((found,),) = read_vector_files(tmp_path)
    assert found.embedding.dtype == np.float32
    assert found.tile_embeddings is not None
    assert found.tile_embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.embedding, given.embedding.astype(np.float16).astype(np.float32))
    assert given.tile_embeddings is not None
    np.testing.assert_array_equal(found.tile_embeddings, given.tile_embeddings.astype(np.float16).astype(np.float32))


def test_a_file_says_what_it_is(tmp_path):
    folder = made(tmp_path)
    schema = file_schema(SIDECAR, source="s3://bucket/0.tar", device="cpu")
    folder.write("a.parquet", [to_batch(MIXED, schema)], schema)
    parquet = pq.ParquetFile(tmp_path / "a.parquet")
    said = {key.decode(): text.decode() for key, text in parquet.schema_arrow.metadata.items()}
    assert json.loads(said["jclip.fingerprint"]) == dict(CONFIG.fingerprint())
    assert (said["jclip.source"], said["jclip.device"]) == ("s3://bucket/0.tar", "cpu")
    assert said["jclip.version"]
    assert parquet.schema_arrow.field("embedding").type == pa.list_(pa.float32(), E)
    group = parquet.metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at).compression for at in range(group.num_columns)}
    assert {name.split(".")[0] for name, kind in columns.items() if kind == "UNCOMPRESSED"} == {"embedding", "tiles"}
    assert {kind for kind in columns.values() if kind != "UNCOMPRESSED"} == {"ZSTD"}


def test_a_file_appears_complete_or_not_at_all(url):
    folder = made(url)
    schema = file_schema(SIDECAR, source="test")

    def interrupted():
        yield to_batch(MIXED, schema)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write("a.parquet", interrupted(), schema)
    assert folder.files() == []
    assert folder.names(".tmp") == []
    folder.write("a.parquet", [to_batch(MIXED, schema)], schema)
    with pytest.raises(KeyboardInterrupt):
        folder.write("a.parquet", interrupted(), schema)
    assert len(list(folder.batches("a.parquet"))) == 1


def test_a_folder_of_another_configuration_is_refused(url):
    folder = made(url)
    other = EmbeddingConfig(model="test", revision="2", dimensions=E)
    with pytest.raises(CollectionMismatchError, match="`revision` '1'"):
        folder.prepare(Sidecar(fingerprint=other.fingerprint(), dimensions=E))
    with pytest.raises(EmbedInputError, match="`vector_type` 'float32', not 'float16'"):
        folder.prepare(Sidecar(fingerprint=CONFIG.fingerprint(), dimensions=E, vector_type="float16"))
    folder.prepare(SIDECAR)
    assert folder.read_sidecar() == SIDECAR


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"of somebody else")
    with pytest.raises(EmbedInputError, match="Parquet files and no _jclip"):
        VectorFolder(tmp_path).prepare(SIDECAR)
    with pytest.raises(EmbedInputError, match="is no folder of vectors"):
        list(read_vector_files(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "damaged"), (b"[]", "format 1"), (b'{"format": 1}', "a field is missing")]
)
def test_a_damaged_sidecar_is_an_error(tmp_path, content, message):
    (tmp_path / "_jclip.json").write_bytes(content)
    with pytest.raises(StoreRequestError, match=message):
        VectorFolder(tmp_path).read_sidecar()


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    folder = made(tmp_path)
    folder.write_records("a.parquet", [[record(at) for at in range(100)]], SIDECAR, source="records")
    path = Path(tmp_path, "a.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreRequestError, match=r"a\.parquet in .* is damaged"):
        list(read_vector_files(tmp_path))
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(StoreRequestError, match=r"a\.parquet in .* is no file of vectors"):
        list(read_vector_files(tmp_path))


def test_a_record_owns_its_vectors_when_asked(tmp_path):
    folder = made(tmp_path)
    folder.write_records("a.parquet", [[record(0, tiles=2)]], SIDECAR, source="records")
    ((found,),) = read_vector_files(tmp_path)
    assert found.embedding.base is not None
    kept = owned(found)
    assert kept.embedding.base is None
    assert_equal(kept, found)


def test_an_unknown_file_system_is_an_error():
    with pytest.raises(EmbedInputError, match="nowhere:// cannot be read"):
        VectorFolder("nowhere://there")


def test_importing_the_package_loads_neither_an_engine_nor_pyarrow():
    code = "import sys, jclip_connectors.bulk; print([m for m in ('ray', 'torch', 'pyarrow') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603 (our own code)
    assert shown == "[]\n"
