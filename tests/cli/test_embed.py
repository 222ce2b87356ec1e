"""`jclip embed`: sources become files of vectors."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jclip_connectors.bulk.vector_files import VectorFolder, read_vector_files
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.server.serve import load_served_model
from tests.bulk.sources import picture, pictures_parquet, pictures_tar
from tests.cli.test_store_urls import jclip
from tests.server.harness import Server


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    for at in range(3):
        pictures_tar(tmp_path / "in" / f"{at:03}.tar", 4, start=4 * at)
    return tmp_path / "in"


def test_a_folder_is_embedded_and_the_same_command_finds_nothing_to_do(source, tmp_path):
    out = tmp_path / "out"
    told = jclip("embed", f"{source}/{{000..002}}.tar", out, "--model", "nano", "--key", "__key__")[1]
    assert "3 shards, 0 of them unchanged; 12 rows, 0 failed" in told
    records = {record.record_id: record for batch in read_vector_files(out) for record in batch}
    assert sorted(records) == [f"{at:05}" for at in range(12)]
    rows = LocalEmbedder(EmbeddingConfig(model="nano")).embed_images([picture(at) for at in range(4)])
    for at, row in enumerate(rows):
        np.testing.assert_array_equal(records[f"{at:05}"].embedding, row)
    told = jclip("embed", source, out, "--key", "__key__")[1]
    assert "3 shards, 3 of them unchanged; 12 rows, 0 failed" in told
    told = jclip("embed", source, out, "--dimensions", 64, code=2)[1]
    assert "was made with `dimensions` 128 (now 64)" in told
    told = jclip("embed", "--status", out, source, "--redo-failed", "--report", "x.jsonl", code=2)[1]
    assert "--report, --redo-failed: no effect with --status" in " ".join(told.replace("│", " ").split())
    table = jclip("embed", "--status", out, source, "--key", "__key__")[0]
    assert "3 of 3" in table
    assert "12" in table


def test_failed_rows_are_told_and_reported_and_can_be_done_again(tmp_path):
    source = pictures_parquet(tmp_path / "a.parquet", [picture(1), b"no picture", None, picture(2)])
    out, report = tmp_path / "out", tmp_path / "failed.jsonl"
    told = jclip("embed", source, out, "--model", "nano", code=2)[1]
    assert "2 of 4 rows failed, more than 0.05 of them (--max-failed): 1 times: the image is " in told
    told = jclip("embed", source, out, "--report", report, code=1)[1]
    assert "1 shards, 1 of them unchanged; 4 rows, 2 failed" in told
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(line["shard"], line["key"]) for line in lines] == [(str(source), "1"), (str(source), "2")]
    assert lines[1]["error"] == "the image is missing"
    told = jclip("embed", source, out, "--redo-failed", "--max-failed", 0.5, code=1)[1]
    assert "1 shards, 0 of them unchanged; 4 rows, 2 failed" in told
    assert f"{source} 2: the image is missing" in told


def test_the_first_rows_only_with_progress_for_programs(source, tmp_path):
    lines, told = jclip("embed", source, tmp_path / "out", "--model", "nano", "--limit", 6, "--progress-json")
    assert "2 shards, 0 of them unchanged; 6 rows" in told
    last = json.loads(lines.splitlines()[-1])
    assert (last["shards"], last["of_shards"], last["rows"], last["failed"], last["left_s"]) == (2, 2, 6, 0, 0)


def test_pictures_and_texts_with_their_metadata(source, tmp_path):
    out = tmp_path / "out"
    options = [
        "--images",
        "png",
        "--texts",
        "txt",
        "--key",
        "__key__",
        "--metadata",
        "json",
        "--vector-type",
        "float16",
    ]
    jclip("embed", source, out, "--model", "nano", "--dimensions", 64, *options)
    records = {record.record_id: record for batch in read_vector_files(out) for record in batch}
    assert len(records) == 24
    assert records["text-00003"].content == "caption 3"
    assert records["image-00003"].metadata == {"number": 3, "width": 24}
    assert records["image-00003"].uri == f"{source}/000.tar#00003.png"
    sidecar = VectorFolder(out).require_sidecar()
    assert (sidecar.dimensions, sidecar.vector_type) == (64, "float16")
    assert "3 of them unchanged" in jclip("embed", source, out, *options[:-2])[1]  # OUT knows the rest


def test_what_is_unsure_ends_before_a_model_is_loaded(tmp_path):
    source = pictures_parquet(tmp_path / "a.parquet", [b"x"], other=[b"y"])
    told = jclip("embed", source, tmp_path / "out", "--model", "jinaai/jina-clip-v2", code=2)[1]
    assert "2 columns of pictures" in told
    assert "image (binary), other (binary)" in told
    assert not (tmp_path / "out").exists()
    told = jclip("embed", source, code=2)[1]
    assert "name one source or more" in told
    told = jclip("embed", source, tmp_path / "out", "--stalled", "soon", code=2)[1]
    assert "write 90s, 30m or 2h" in told


def test_an_engine_that_hangs_is_ended_and_the_same_command_goes_on(source, tmp_path):
    program = f"""
import time, sys
from jclip_connectors.cli import embed_command
from jclip_connectors.cli.main import main
import jclip_connectors.bulk.embedding as embedding
def hanging(todo, job, *, on_rows):
    time.sleep(1000)
    yield
embedding.run_locally = hanging
sys.argv = ["jclip", "embed", {str(source)!r}, {str(tmp_path / "out")!r}, "--model", "nano", "--stalled", "0.2s"]
main()
"""
    ended = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "nothing was done for 0.2 s (--stalled)" in ended.stderr
    assert "the same command goes on" in ended.stderr


def test_an_endpoint_embeds_and_its_key_comes_from_the_environment(source, tmp_path, monkeypatch):
    config = EmbeddingConfig(model="nano")
    with Server(load_served_model(config, device="cpu"), config=config, api_keys=["the-key"]) as server:
        command = ["embed", source, tmp_path / "out", "--model", "nano", "--key", "__key__"]
        told = jclip(*command, "--endpoint", f"{server.url}/v1", code=2)[1]
        assert "key" in told
        monkeypatch.setenv("ENDPOINT_API_KEY", "the-key")
        jclip(*command, "--endpoint", f"{server.url}/v1")
    records = {record.record_id: record for batch in read_vector_files(tmp_path / "out") for record in batch}
    rows = LocalEmbedder(config).embed_images([picture(at) for at in range(12)])
    for at, row in enumerate(rows):
        np.testing.assert_allclose(records[f"{at:05}"].embedding, row, atol=1e-6)


def test_on_ray_a_job_that_is_done_starts_no_engine(source, tmp_path):
    out = tmp_path / "out"
    jclip("embed", source, out, "--model", "nano", "--key", "__key__")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)  # as if it were not installed
        told = jclip("embed", source, out, "--key", "__key__", "--engine", "ray", "--workers", "2:4")[1]
        assert "3 shards, 3 of them unchanged" in told
        told = jclip("embed", source, out, "--engine", "ray", code=2)[1]
        assert "ray is not installed: pip install 'jclip-connectors[ray]'" in " ".join(told.split())


def test_options_of_ray_need_it(source, tmp_path):
    told = jclip("embed", source, tmp_path / "out", "--workers", "2", "--loopback", code=2)[1]
    assert "--workers, --loopback: give --engine ray as well" in " ".join(told.split())
    told = jclip("embed", source, tmp_path / "out", "--engine", "ray", "--workers", "4:2", code=2)[1]
    assert "'4:2' is no number of workers" in " ".join(told.split())


def test_texts_that_are_cut_are_told_once(tmp_path, monkeypatch):
    monkeypatch.setenv("JCLIP_MAX_TOKENS", "8")
    pq.write_table(pa.table({"t": [f"{at} " + "long " * 9 for at in range(3)]}), tmp_path / "a.parquet")
    command = ["embed", tmp_path / "a.parquet", tmp_path / "out", "--model", "nano", "--texts", "t", "--batch-size", 1]
    with pytest.warns(UserWarning, match="texts were cut to 8 tokens; texts of further batches") as told:
        jclip(*command)
    assert len(told) == 1
