"""Shards of pictures and texts become files of vectors, each row once."""

import contextlib
import dataclasses
import json
import pickle
import subprocess
import sys

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors.bulk import (
    Columns,
    EmbedBatch,
    EmbedJob,
    EmbedProgress,
    EmbedShard,
    Shard,
    ShardDone,
    embed_shards,
    find_shards,
    run_locally,
)
from jclip_connectors.bulk.batch_marker import DIED
from jclip_connectors.bulk.temporary_files import remove_leftovers
from jclip_connectors.bulk.vector_files import VectorFolder, read_vector_files
from jclip_connectors.bulk.vector_rows import to_rows
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreUnavailableError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.testing import HashEmbedder
from tests.bulk.sources import BAD, picture, pictures_parquet, pictures_tar

NANO = EmbeddingConfig(model="nano")


@pytest.fixture(scope="module")
def embedder():
    return LocalEmbedder(NANO, device="cpu")


def rows_of(out):
    folder = VectorFolder(out)
    return [row for name in folder.files() for batch in folder.batches(name) for row in to_rows(batch)]


def test_tars_parquet_files_and_folders_give_the_vectors_of_the_local_embedder(tmp_path, embedder):
    pictures_tar(tmp_path / "a.tar", 3)
    pictures_parquet(tmp_path / "b.parquet", [picture(at) for at in range(3, 6)])
    folder = tmp_path / "folder"
    folder.mkdir()
    for at in range(6, 9):
        (folder / f"{at}.png").write_bytes(picture(at))
    job = EmbedJob(config=NANO, out=str(tmp_path / "out"), device="cpu")
    report = embed_shards(find_shards([tmp_path], out=job.out), job)
    assert (report.shards, report.unchanged, report.rows, report.failed) == (3, 0, 9, 0)
    made = {record.content_hash: record.embedding for batch in read_vector_files(job.out) for record in batch}
    assert len(made) == 9
    for start in (0, 3, 6):
        expected = embedder.embed_images([picture(at) for at in range(start, start + 3)])
        found = [row for row in made.values() if any(np.array_equal(row, each) for each in expected)]
        assert len(found) == 3


def test_what_is_done_is_not_done_again_and_no_engine_is_started(tmp_path, embedder):
    pictures_tar(tmp_path / "a.tar", 2)
    job = EmbedJob(config=NANO, out=str(tmp_path / "out"))
    shards = find_shards([tmp_path / "a.tar"])

    def run(todo, _job):
        return run_locally(todo, job, embedder=embedder)

    assert embed_shards(shards, job, run=run).unchanged == 0

    again = embed_shards(shards, job, run=lambda *_: pytest.fail("the engine was started"))
    assert (again.unchanged, again.rows) == (1, 2)


def test_a_bad_item_is_a_row_with_an_error(tmp_path, embedder):
    images = [picture(0), BAD["truncated"], None, BAD["empty"], picture(1)]
    pictures_parquet(tmp_path / "a.parquet", images)
    job = EmbedJob(config=NANO, out=str(tmp_path / "out"))
    (shard,) = find_shards([tmp_path / "a.parquet"])
    done = EmbedShard(job, embedder=embedder)(shard)
    assert (done.rows, done.failed) == (5, 3)
    rows = rows_of(job.out)
    assert [row.key for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row.error is None for row in rows] == [True, False, False, False, True]


def test_a_job_and_its_shards_can_be_sent_to_another_process(tmp_path):
    pictures_tar(tmp_path / "a.tar", 1)
    job = EmbedJob(config=NANO, out=str(tmp_path / "out"), columns=Columns(key="__key__"))
    (shard,) = find_shards([tmp_path / "a.tar"])
    sent = pickle.loads(pickle.dumps((job, shard)))  # noqa: S301 (our own bytes)
    assert sent == (job, shard)


def test_a_table_gives_a_row_for_each_of_its_rows(embedder):
    table = pa.table({"jpg": pa.array([picture(0), None, picture(1)], pa.binary()), "id": ["a", "b", "c"]})
    made = EmbedBatch(NANO, images="jpg", key="id", embedder=embedder)(table)
    assert made.column("key").to_pylist() == ["a", "b", "c"]
    assert made.column("error").is_null().to_pylist() == [True, False, True]


class Shaky(HashEmbedder):
    """Refuses a whole batch if one of its texts is "bad", and makes a NaN of "nan"."""

    def embed_texts(self, texts):
        if "bad" in texts:
            raise EmbedInputError("the endpoint does not like a text")
        rows = super().embed_texts(texts)
        rows[[text == "nan" for text in texts]] = np.nan
        return rows


def hashed(embedder):
    return lambda todo, job: run_locally(todo, job, embedder=embedder)


def test_a_text_that_cannot_be_embedded_takes_no_other_with_it(tmp_path):
    embedder = Shaky()
    texts = ["good", "bad", "nan", "", None, " \u200b", "x" * (2**20 + 1), "fine"]
    job = EmbedJob(config=embedder.config, out=str(tmp_path / "out"), columns=Columns(texts="t"))
    pq.write_table(pa.table({"t": texts}), tmp_path / "a.parquet")
    report = embed_shards(find_shards([tmp_path / "a.parquet"]), job, run=hashed(embedder), max_failed=1)
    assert (report.rows, report.failed) == (8, 6)
    errors = {row.key: row.error for row in rows_of(job.out)}
    assert errors["0"] is errors["7"] is None
    assert errors["1"] == "the endpoint does not like a text"
    assert "NaN" in errors["2"]
    assert errors["3"] == errors["5"] == "the text is empty"
    assert errors["4"] == "the text is missing"
    assert "larger than 1048576 bytes" in errors["6"]


def failing(rates):
    """An engine whose shards have so many failed rows of ten."""

    def run(todo, _job):
        for shard, rate in zip(todo, rates, strict=True):
            yield ShardDone(
                shard=shard.url,
                name="",
                rows=10,
                failed=rate,
                errors={"wrong column": rate} if rate else {},
                seconds=1.0,
                size_bytes=1,
                worker="here",
                device=None,
            )

    return run


@pytest.mark.parametrize(
    ("rates", "told_after"),
    [
        ([10] * 30, 20),  # judged at the first 20 shards
        ([0] * 29 + [10, 10], 31),  # later, when all of them are over the part
        ([10, 0], 2),  # a run of few shards, at its end
        ([10, *[0] * 29], None),  # the first one alone tells nothing
    ],
)
def test_too_many_failed_rows_end_a_job_with_the_most_frequent_messages(tmp_path, rates, told_after):
    job = EmbedJob(config=HashEmbedder().config, out=str(tmp_path))
    shards = [Shard(kind="parquet", url=f"{at}.parquet", state="", rows=10) for at in range(len(rates))]
    told: list[EmbedProgress] = []
    if told_after is None:
        embed_shards(shards, job, run=failing(rates), progress=told.append)
        return
    with pytest.raises(EmbedInputError, match=r"rows failed, more than 0.05.*(10|20|200) times: wrong column"):
        embed_shards(shards, job, run=failing(rates), progress=told.append)
    assert told[-1].shards == told_after
    assert told[-1].of_rows == 10 * len(rates)


class Placed(HashEmbedder):
    """Says where it runs."""

    device = "cpu"


def test_a_folder_of_vectors_takes_one_configuration_and_one_kind_of_device(tmp_path):
    embedder = Placed()
    pictures_tar(tmp_path / "a.tar", 1)
    pictures_tar(tmp_path / "b.tar", 1)
    job = EmbedJob(config=embedder.config, out=str(tmp_path / "out"))
    embedder.device = "cuda:1"
    embed_shards(find_shards([tmp_path / "a.tar"]), job, run=hashed(embedder))
    embedder.device = "cpu"
    with pytest.raises(EmbedInputError, match="made on 'cuda', and the model runs on 'cpu'"):
        embed_shards(find_shards([tmp_path / "b.tar"]), job, run=hashed(embedder))
    other = dataclasses.replace(job, config=dataclasses.replace(job.config, dimensions=16))
    with pytest.raises(CollectionMismatchError, match="dimensions"):
        embed_shards(find_shards([tmp_path / "b.tar"]), other)
    half = dataclasses.replace(job, vector_type="float16")
    embedder.device = "cuda:0"
    with pytest.raises(EmbedInputError, match="`vector_type` 'float32', not 'float16'"):
        embed_shards(find_shards([tmp_path / "b.tar"]), half, run=hashed(embedder))


def test_tiles_are_written_and_a_tiled_picture_has_its_boxes(tmp_path):
    embedder = HashEmbedder(EmbeddingConfig(model="hash", revision="1", dimensions=8, tiling=Tiling(max_tiles=4)))
    pictures_tar(tmp_path / "a.tar", 2)
    job = EmbedJob(config=embedder.config, out=str(tmp_path / "out"))
    embed_shards(find_shards([tmp_path / "a.tar"]), job, run=hashed(embedder))
    for row, tiles in zip(rows_of(job.out), embedder.embed_image_tiles([picture(0), picture(1)]), strict=True):
        np.testing.assert_array_equal(row.record.tile_embeddings, tiles.vectors)
        np.testing.assert_array_equal(row.record.tile_boxes, tiles.boxes)


def test_files_at_a_url_are_embedded_into_a_folder_at_a_url(tmp_path):
    fs = fsspec.filesystem("memory")
    fs.pipe("/source/a.tar", pictures_tar(tmp_path / "a.tar", 3).read_bytes())
    fs.pipe("/source/deep/b.png", picture(9))
    embedder = HashEmbedder()
    job = EmbedJob(config=embedder.config, out="memory://vectors", columns=Columns())
    try:
        report = embed_shards(find_shards(["memory://source"], out=job.out), job, run=hashed(embedder))
        assert (report.shards, report.rows, report.failed) == (2, 4, 0)
        again = embed_shards(find_shards(["memory://source"], out=job.out), job)
        assert again.unchanged == 2
        assert {row.record.uri for row in rows_of(job.out)} >= {"memory:///source/deep/b.png"}
        assert [name for name in fs.find("/vectors") if "/.tmp/" in name] == []
    finally:
        fs.rm("/source", recursive=True)
        fs.rm("/vectors", recursive=True)


class Unreachable(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A storage that has a file, and does not give it."""

    protocol = "unreachable"

    def info(self, path, **_):
        return {"name": path, "size": 1, "type": "file"}

    def _open(self, *_, **__):
        raise ConnectionResetError("the connection was closed")


def test_a_storage_that_does_not_answer_ends_the_job_and_no_row_is_lost(tmp_path):
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    embedder = HashEmbedder()
    job = EmbedJob(config=embedder.config, out=str(tmp_path / "out"))
    (shard,) = find_shards(["unreachable://a.tar"])
    with pytest.raises(StoreUnavailableError, match=r"unreachable://a.tar cannot be read .* connection was closed"):
        EmbedShard(job, embedder=embedder)(shard)
    assert VectorFolder(job.out).files() == []
    assert VectorFolder(job.out).names(".tmp") == []


@contextlib.contextmanager
def writer(folder, name):
    """Another process that is writing a file; it is killed at the end."""
    program = (
        "import sys; from pathlib import Path; from jclip_connectors.bulk.temporary_files import temporary_file\n"
        f"with temporary_file(Path({str(folder)!r}), {name!r}) as path:\n    print(path, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def test_a_file_that_another_process_is_writing_is_no_leftover(tmp_path):
    (tmp_path / "x.1.dead").touch()
    (tmp_path / "x.at").touch()
    with writer(tmp_path, "x") as name:
        remove_leftovers(tmp_path, kept=".at")
        assert sorted(map(str, tmp_path.iterdir())) == sorted([name, str(tmp_path / "x.at")])
    remove_leftovers(tmp_path, kept=".at")
    assert [path.name for path in tmp_path.iterdir()] == ["x.at"]


def test_the_batch_of_a_process_that_lives_is_not_the_batch_of_one_that_died(tmp_path):
    embedder = HashEmbedder()
    (shard,) = find_shards([pictures_tar(tmp_path / "a.tar", 3)])
    job = EmbedJob(config=embedder.config, out=str(tmp_path / "out"))
    name = shard.name(job.config.fingerprint(), job.columns)
    marker = tmp_path / "out" / ".tmp" / f"{name}.at"
    marker.parent.mkdir(parents=True)
    marker.write_text(json.dumps({"at": "0-3", "deaths": {"0-3": 1}}))
    with writer(marker.parent, name):
        assert EmbedShard(job, embedder=embedder)(shard).failed == 0
        assert marker.exists()
    assert EmbedShard(job, embedder=embedder)(shard).errors == {DIED: 3}
    assert not marker.exists()


def test_importing_the_package_loads_neither_a_runtime_nor_an_engine():
    program = "import sys, jclip_connectors.bulk as b; b.embed_shards, b.EmbedShard; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    assert {"ray", "torch", "onnxruntime"}.isdisjoint(loaded.stdout.split())
