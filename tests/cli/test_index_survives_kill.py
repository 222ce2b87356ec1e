"""`jclip index` is killed again and again; in the end every good file is there once."""

import collections
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from core_encoder.nano.scenes import draw_scene, random_scene
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.sidecar import read_sidecar
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.indexing import find_files
from tests.forked import Program

GOOD = 57
KILLS = 5


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(GOOD):
        path = tmp_path / "photos" / f"album {i % 7}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_scene(random_scene(rng, num_objects=2), seed=i, side_px=216).image.save(path)  # 9 tiles
    (tmp_path / "photos" / "album 0" / "empty.png").touch()
    (tmp_path / "photos" / "album 3" / "text.jpg").write_text("no picture")
    whole = (tmp_path / "photos" / "album 6" / "06.png").read_bytes()
    (tmp_path / "photos" / "album 6" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "photos"


def start(folder, collection):
    options = ["--collection", collection, "--model", "nano", "--tiles", "9", "--batch-size", "2"]
    report = ["--report", f"{collection}.jsonl"]
    return Program("-m", "jclip_connectors.cli.main", "index", folder, *options, *report)


def records(collection):
    """What is in the collection; that it opens shows that the lock of a killed process is gone."""
    sidecar = read_sidecar(collection)
    assert sidecar is not None
    config = EmbeddingConfig.from_fingerprint(sidecar.fingerprint)
    with QdrantEdgeStore.open(collection, config) as store:
        return list(store.scroll())


@pytest.mark.slow
def test_every_good_file_is_there_once_however_often_the_run_was_killed(folder, tmp_path):
    rng = np.random.default_rng(7)
    collection = tmp_path / "photos.jclip"
    counts = []
    for kill in range(KILLS):
        with start(folder, collection) as run:
            # Each run gets somewhat further than the last, then dies at a moment that no line of its code chooses.
            wanted = rng.integers(kill * GOOD // KILLS, (kill + 1) * GOOD // KILLS)
            for line in run.lines_of_stderr():
                count = line.split(" of ")[0]
                if count.isdecimal() and int(count) >= wanted:
                    break
            time.sleep(rng.uniform(0, 0.03))
            run.kill()
            counts.append((run.wait(), len(records(collection))))
    killed = [count for code, count in counts if code == -signal.SIGKILL]
    assert len(killed) >= KILLS // 2, f"the runs were too fast to be killed: {counts}"
    assert any(0 < count < GOOD for count in killed), f"no run was killed half way: {counts}"

    with start(folder, collection) as finished:
        assert finished.wait(timeout_s=120) == 1  # some files are bad
        message = finished.stderr
    assert f"{GOOD - counts[-1][1]} indexed, {counts[-1][1]} unchanged, 3 failed" in message

    found = records(collection)
    bad = {"empty.png", "text.jpg", "truncated.png"}
    good = [path for path in find_files([folder]).files if Path(path).name not in bad]
    assert len(good) == GOOD
    assert collections.Counter(record.record_id for record in found) == collections.Counter(good)
    assert all(record.uri == record.record_id and len(record.tile_embeddings) == 10 for record in found)
    report = [json.loads(line) for line in (tmp_path / "photos.jclip.jsonl").read_text().splitlines()]
    assert {line["path"].rsplit("/", 1)[1] for line in report} == bad
