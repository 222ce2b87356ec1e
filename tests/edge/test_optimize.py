"""The index of a local collection, made by a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.optimize import OptimizeReport, optimize_collection
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.port import Record

E = 32
CONFIG = EmbeddingConfig(model="optimize", revision="1", dimensions=E)
TILED = EmbeddingConfig(model="optimize", revision="1", dimensions=E, tiling=Tiling(max_tiles=2))


def records(count, *, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, E)).astype(np.float32)
    return [
        Record(record_id=str(i), modality="image", embedding=row, metadata={"even": i % 2 == 0, "n": i})
        for i, row in enumerate(rows)
    ]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos.jclip"


def fill(folder, count, *, config=CONFIG, **options):
    with QdrantEdgeStore.open(folder, config, **options) as store:
        store.upsert(records(count))


def graph_edges(folder):
    config = json.loads((folder / "shard" / "edge_config.json").read_text())
    return {name: vector["hnsw_config"]["m"] for name, vector in config["vectors"].items()}


def index_bytes(folder, name):
    return sum(path.stat().st_size for path in (folder / "shard").glob(f"segments/*/vector_index-{name}/links*"))


@pytest.mark.parametrize(
    ("config", "coarse", "edges"),
    [
        (CONFIG, None, {"full": 16}),
        (CONFIG, 8, {"full": 0, "coarse": 16}),
        (TILED, None, {"full": 16, "tiles": 0}),
        (TILED, 8, {"full": 0, "coarse": 16, "tiles": 0}),
    ],
)
def test_only_what_is_searched_first_gets_a_graph(folder, config, coarse, edges):
    fill(folder, 500, config=config, coarse_dimensions=coarse)
    assert optimize_collection(folder) == OptimizeReport(records=500, changed=True)
    assert graph_edges(folder) == edges
    sizes = {name: index_bytes(folder, name) for name in edges}
    first = next(name for name, count in edges.items() if count)
    assert all(3 * sizes[name] < sizes[first] for name in edges if name != first), sizes


def test_a_second_run_has_nothing_to_do_until_something_is_added(folder):
    fill(folder, 300)
    assert optimize_collection(folder).changed
    assert not optimize_collection(str(folder)).changed
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(100, seed=1))
    assert optimize_collection(folder) == OptimizeReport(records=300, changed=True)


def test_an_optimised_collection_is_read_and_written_as_before(folder):
    query = records(1, seed=9)[0].embedding
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(300))
        expected = store.search(query, where={"n": {"lt": 200}, "even": True})
    optimize_collection(folder)
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.search(query, where={"n": {"lt": 200}, "even": True}) == expected
        store.upsert([Record(record_id="7", modality="image", embedding=query, metadata={"new": 1})])
        assert [(hit.record_id, hit.metadata) for hit in store.search(query, limit=1)] == [("7", {"new": 1})]
        store.delete(["7"])
        store.delete(where={"even": True})
        assert store.count() == 149
        assert sorted(int(record.record_id) for record in store.scroll()) == [*range(1, 7, 2), *range(9, 300, 2)]


def test_an_empty_collection_has_nothing_to_do(folder):
    QdrantEdgeStore.open(folder, EmbeddingConfig(model="optimize", revision="1")).close()
    assert optimize_collection(folder) == OptimizeReport(records=0, changed=False)


def test_a_collection_that_is_open_is_not_optimised(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(10))
        with pytest.raises(StoreUnavailableError, match="open elsewhere"):
            optimize_collection(folder)
        assert store.count() == 10


def test_what_is_no_collection_is_refused_and_nothing_made(folder, tmp_path):
    with pytest.raises(StoreRequestError, match="is not a collection"):
        optimize_collection(folder)
    assert not folder.exists()
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(StoreRequestError, match="other files"):
        optimize_collection(tmp_path)
    with pytest.raises(StoreRequestError, match="is a file"):
        optimize_collection(tmp_path / "diary.txt")


def test_damaged_files_are_told(folder):
    fill(folder, 10)
    for path in (folder / "shard").rglob("segment.json"):
        path.write_text("{")
    with pytest.raises(StoreRequestError, match="damaged"):
        optimize_collection(folder)


def test_a_path_that_looks_like_an_option_is_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    fill("--help", 10)
    assert optimize_collection("--help").records == 10


def test_an_interpreter_that_cannot_start_is_told_with_what_it_said(folder, monkeypatch):
    fill(folder, 10)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StoreRequestError, match="failed"):
        optimize_collection(folder)


def test_the_caller_goes_on_while_the_index_is_made(folder):
    """The engine holds the interpreter of its own process only."""
    fill(folder, 4000)
    process = start(folder)
    ticks = 0
    while process.poll() is None:
        time.sleep(0.01)
        ticks += 1
    assert process.returncode == 0
    assert ticks > 10


def start(folder):
    arguments = [sys.executable, "-m", "jclip_connectors.edge.optimize", str(folder)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL)  # noqa: S603 (our own code)


@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_a_killed_run_leaves_the_collection_as_it_was(folder, delay_s):
    fill(folder, 4000, config=TILED, coarse_dimensions=8)
    process = start(folder)
    wait_for_lock(folder, process)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with QdrantEdgeStore.open(folder, TILED) as store:
        assert store.count() == 4000
        (hit,) = store.search(records(4000)[1234].embedding, limit=1)
        assert hit.record_id == "1234"
        store.upsert(records(1, seed=1))
        assert sum(1 for _ in store.scroll()) == 4000
    assert optimize_collection(folder).records == 4000


def wait_for_lock(folder, process):
    """Wait until the process has the collection and works on it."""
    config = folder / "shard" / "edge_config.json"
    before = config.stat().st_mtime_ns
    while config.stat().st_mtime_ns == before:
        assert process.poll() is None
        time.sleep(0.002)


def test_a_run_that_is_killed_is_told_by_its_signal(folder, monkeypatch, tmp_path):
    fill(folder, 10)
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(StoreUnavailableError, match="killed by signal 9; the collection is unchanged: try again"):
        optimize_collection(folder)
