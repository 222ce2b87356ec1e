"""Shards of pictures and texts become files of vectors, each row once."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from jclip_connectors.bulk import Columns, EmbedBatch, EmbedJob, EmbedShard, embed_shards, find_shards, run_locally
from jclip_connectors.bulk.vector_files import VectorFolder, read_vector_files
from jclip_connectors.bulk.vector_rows import to_rows
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
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

    def run(todo, job):
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
