"""What is particular to the engine in this process: its folder, its lock, its log, its stages."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import numpy as np
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import store as qdrant_edge_store
from jclip_connectors.edge.optimize import optimize_collection
from jclip_connectors.edge.sidecar import read_sidecar
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.errors import (
    CollectionMismatchError,
    ConnectorError,
    EmbedInputError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.port import Record

E = 16
CONFIG = EmbeddingConfig(model="edge", revision="1", dimensions=E)


def records(start, stop, **fields):
    rng = np.random.default_rng(start)
    return [
        Record(record_id=str(i), modality="image", embedding=rng.normal(size=E).astype(np.float32), **fields)
        for i in range(start, stop)
    ]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos.jclip"


def test_what_was_written_is_there_after_opening_again(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 10, metadata={"a": 1}))
        expected = store.search(records(0, 1)[0].embedding, where={"a": {"gte": 1}})
    with QdrantEdgeStore.open(str(folder), CONFIG) as store:
        assert store.count() == 10
        assert store.search(records(0, 1)[0].embedding, where={"a": {"gte": 1}}) == expected


def test_another_configuration_is_refused_and_every_difference_named(folder):
    QdrantEdgeStore.open(folder, CONFIG).close()
    other = EmbeddingConfig(model="edge", revision="2", dimensions=E, tiling=Tiling(max_tiles=4))
    with pytest.raises(CollectionMismatchError) as caught:
        QdrantEdgeStore.open(folder, other)
    assert "`revision` '1' (now '2')" in str(caught.value)
    assert "`tiling` None (now 'max_tiles=4')" in str(caught.value)
    assert "dimensions" not in str(caught.value)
    assert caught.value.stored == CONFIG.fingerprint()
    assert caught.value.requested == other.fingerprint()
    QdrantEdgeStore.open(folder, CONFIG).close()


def test_a_collection_is_not_opened_twice_in_one_process(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        with pytest.raises(StoreUnavailableError, match="open elsewhere"):
            QdrantEdgeStore.open(folder, CONFIG)
        store.upsert(records(0, 1))
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.count() == 1


def run_python(code, *arguments, **options):
    prelude = (
        "import sys\nfrom tests.edge.test_store import *\nstore = None\n"
        "def attempt(path):\n"
        "    global store\n"
        "    try:\n"
        "        store = QdrantEdgeStore.open(path, CONFIG)\n"
        "        return 'opened'\n"
        "    except ConnectorError as error:\n"
        "        return type(error).__name__\n"
    )
    return subprocess.Popen(  # noqa: S603 (our own code)
        [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def test_a_collection_is_not_opened_by_a_second_process(folder):
    with QdrantEdgeStore.open(folder, CONFIG):
        out, _ = run_python("print(attempt(sys.argv[1]))", folder).communicate(timeout=60)
    assert out.split() == ["StoreUnavailableError"]


def test_of_processes_that_make_one_collection_at_once_one_gets_it(folder):
    code = "print('ready', flush=True)\ninput()\nprint(attempt(sys.argv[1]), flush=True)\ninput()"
    children = [run_python(code, folder) for _ in range(3)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    outcomes = sorted(child.stdout.readline().strip() for child in children)
    for child in children:
        child.communicate("\n", timeout=60)
    assert outcomes == ["StoreUnavailableError", "StoreUnavailableError", "opened"]
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.count() == 0


def test_what_upsert_returned_from_survives_a_killed_process(folder):
    code = """
        store = QdrantEdgeStore.open(sys.argv[1], CONFIG)
        for start in range(0, 10**9, 20):
            store.upsert(records(start, start + 20, metadata={"n": start}))
            print(start + 20, flush=True)
    """
    child = run_python(code, folder)
    for line in child.stdout:
        if int(line) >= 400:
            break
    child.send_signal(signal.SIGKILL)
    acknowledged = int((child.communicate(timeout=60)[0].split() or [line])[-1])
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.count() in (acknowledged, acknowledged + 20)
        assert store.get([str(acknowledged - 1)])[0].metadata == {"n": acknowledged - 20}
        store.upsert(records(0, 1))


def test_a_process_killed_while_making_a_collection_leaves_one_that_opens(folder, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(qdrant_edge_store, "write_sidecar", crash)
    with pytest.raises(KeyboardInterrupt):
        QdrantEdgeStore.open(folder, CONFIG)
    monkeypatch.undo()
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 3))
        assert store.count() == 3


def test_what_a_process_left_that_was_killed_while_it_made_a_collection_is_in_nobodys_way(folder):
    old, new = (f"shard.{digit * 32}" for digit in "0f")
    for name in (old, new):
        (folder / name / "wal").mkdir(parents=True)
    os.utime(folder / old, (0, 0))
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.count() == 0
    # Only what nobody can be working on any more is removed.
    assert sorted(path.name for path in folder.iterdir()) == ["collection.json", "shard", new]


def test_what_a_user_put_beside_a_shard_is_never_removed(folder, tmp_path):
    QdrantEdgeStore.open(folder, CONFIG).close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = ["shard.backup", "shard.old", f"shard.{'0' * 31}", f"shard.{'0' * 33}", f"shard.{'A' * 32}", "shard.0.tar"]
    for name in kept:
        (folder / name).mkdir()
        (folder / name / "mine").touch()
        os.utime(folder / name, (0, 0))
    for name in ("shard.md", f"shard.{'1' * 32}", ".shard"):
        (folder / name).write_text("mine")
        os.utime(folder / name, (0, 0))
    (folder / f"shard.{'2' * 32}").symlink_to(elsewhere)
    before = sorted(path.name for path in folder.iterdir())
    os.utime(elsewhere, (0, 0))
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.count() == 0
    assert sorted(path.name for path in folder.iterdir()) == before
    assert all((folder / name / "mine").exists() for name in kept)
    assert elsewhere.exists()


@pytest.mark.parametrize("name", ["shard.md", "shard.backup", "shard", f"shard.{'0' * 32}", "collection.json.bak"])
def test_a_file_with_a_name_like_a_shard_makes_no_collection(folder, name):
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(StoreRequestError, match="other files"):
        QdrantEdgeStore.open(folder, CONFIG)
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_damaged_shard_is_told_from_one_in_use(folder):
    (folder / "shard" / "wal").mkdir(parents=True)
    with pytest.raises(StoreRequestError, match="damaged"):
        QdrantEdgeStore.open(folder, CONFIG)


def test_the_fingerprint_is_written_before_the_first_record(folder):
    with QdrantEdgeStore.open(folder, CONFIG):
        assert json.loads((folder / "collection.json").read_text())["fingerprint"] == CONFIG.fingerprint()
        assert sorted(path.name for path in folder.iterdir()) == ["collection.json", "shard"]


def test_a_folder_with_other_files_is_left_alone(folder):
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    with pytest.raises(StoreRequestError, match="other files"):
        QdrantEdgeStore.open(folder, CONFIG)
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


def test_a_file_is_no_collection(folder):
    folder.write_text("")
    with pytest.raises(StoreRequestError, match="name a folder"):
        QdrantEdgeStore.open(folder, CONFIG)


def test_an_empty_folder_and_missing_parents_become_a_collection(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "a" / "b"):
        QdrantEdgeStore.open(path, CONFIG).close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read"),
        ("[]", "format"),
        ('{"format": 2}', "another version"),
        ('{"format": 1}', "damaged"),
        ('{"format": 1, "fingerprint": 3, "dimensions": 16, "coarse_dimensions": null}', "no fingerprint"),
        ("\udcff", "cannot read"),
    ],
)
def test_a_damaged_sidecar_is_refused_with_what_to_do(folder, text, message):
    QdrantEdgeStore.open(folder, CONFIG).close()
    (folder / "collection.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreRequestError, match=message) as caught:
        QdrantEdgeStore.open(folder, CONFIG)
    assert "restore it, or delete" in str(caught.value) or "use that version" in str(caught.value)


def test_records_without_a_sidecar_are_not_taken_for_anything(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 1))
    (folder / "collection.json").unlink()
    with pytest.raises(StoreRequestError, match=r"no collection\.json"):
        QdrantEdgeStore.open(folder, CONFIG)


def test_damaged_files_of_the_engine_are_refused_with_what_to_do(folder):
    QdrantEdgeStore.open(folder, CONFIG).close()
    for path in (folder / "shard").rglob("*.json"):
        path.write_text("{")
    with pytest.raises(StoreRequestError, match="restore them, or delete the folder"):
        QdrantEdgeStore.open(folder, CONFIG)


def test_a_closed_store_says_so(folder):
    store = QdrantEdgeStore.open(folder, CONFIG)
    store.close()
    for call in (store.count, lambda: store.upsert(records(0, 1)), lambda: list(store.scroll())):
        with pytest.raises(StoreRequestError, match="closed: open it again"):
            call()


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("IO Error: No space left on device (os error 28)", StoreUnavailableError, "make room"),
        ("[Errno 13] Permission denied: 'x'", StoreRequestError, "permissions"),
        ("Something new", StoreRequestError, "refuses the request: Something new"),
    ],
)
def test_what_the_engine_says_is_translated(folder, monkeypatch, text, kind, message):
    with QdrantEdgeStore.open(folder, CONFIG) as store:

        def fail(**_):
            raise Exception(text)  # noqa: TRY002 (what the engine raises)

        monkeypatch.setattr("qdrant_edge.CountRequest", fail)
        with pytest.raises(kind, match=message) as caught:
            store.count()
        assert str(caught.value.__cause__) == text
        assert str(folder) in str(caught.value)


def test_threads_share_a_store_and_agree_on_the_first_batch(folder):
    config = EmbeddingConfig(model="edge", revision="1")
    errors = []
    with QdrantEdgeStore.open(folder, config) as store:

        def write(start):
            try:
                store.upsert(records(start, start + 50))
                store.search(records(0, 1)[0].embedding, where={"n": {"gt": start}})
            except ConnectorError as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 400, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert store.count() == 400


def test_dimensions_that_the_first_record_settled_are_kept(folder):
    config = EmbeddingConfig(model="edge", revision="1")
    with QdrantEdgeStore.open(folder, config) as store:
        store.upsert(records(0, 2))
    with QdrantEdgeStore.open(folder, config) as store:
        assert store.count() == 2
        with pytest.raises(EmbedInputError, match=r"not \(16,\)"):
            store.search(np.ones(E + 1, np.float32))


@pytest.fixture
def clustered():
    """400 records in 20 clusters, with tiles, whose first 8 values carry most of the distance."""
    rng = np.random.default_rng(0)
    scale = np.r_[np.ones(8), np.full(8, 0.1)]
    centres = rng.normal(size=(20, E)) * scale
    found = []
    for i in range(400):
        vectors = (centres[i % 20] + 0.1 * rng.normal(size=(4, E)) * scale).astype(np.float32)
        boxes = np.array([[0, 0, 9, 9], [0, 0, 3, 3], [3, 3, 6, 6], [6, 6, 9, 9]])
        found.append(
            Record(
                record_id=f"{i:03}",
                modality="image",
                embedding=vectors[0],
                tile_embeddings=vectors,
                tile_boxes=boxes,
                metadata={"even": i % 2 == 0},
            )
        )
    return found


def test_stages_find_what_an_exact_search_finds(folder, tmp_path, clustered):
    config = EmbeddingConfig(model="edge", revision="1", dimensions=E, tiling=Tiling(max_tiles=3))
    with (
        QdrantEdgeStore.open(folder, config, coarse_dimensions=8, candidates=1) as staged,  # 20 * limit = 60 of 400
        QdrantEdgeStore.open(tmp_path / "exact", config) as exact,
    ):
        for store in (staged, exact):
            store.upsert(clustered)
        for tiles in (False, True):
            for query in clustered[:10]:
                arguments: dict[str, Any] = {"limit": 3, "tiles": tiles, "where": {"even": False}}
                assert staged.search(query.embedding, **arguments) == exact.search(query.embedding, **arguments)


def hide(clustered):
    """The records as wholes, one more that the first 8 values of a vector do not show, and a query for that one."""
    hidden = np.r_[np.zeros(8), np.ones(8)].astype(np.float32)
    plain = [Record(record_id=r.record_id, modality="image", embedding=r.embedding) for r in clustered]
    query = hidden + np.r_[clustered[0].embedding[:8], np.zeros(8)].astype(np.float32) * 0.01
    return [*plain, Record(record_id="hidden", modality="image", embedding=hidden)], query


def test_a_prefix_chooses_the_candidates_of_a_large_collection(folder, clustered):
    everything, query = hide(clustered)
    with QdrantEdgeStore.open(folder, CONFIG, coarse_dimensions=8, candidates=1) as store:
        store.upsert(everything)
        assert store.search(query, limit=1)[0].record_id != "hidden"
        assert store.search(query, limit=400)[0].record_id == "hidden"


def test_a_collection_of_no_more_than_the_candidates_is_searched_exactly(folder, clustered):
    everything, query = hide(clustered)
    with QdrantEdgeStore.open(folder, CONFIG, coarse_dimensions=8) as store:
        store.upsert(everything)
    optimize_collection(folder)
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.search(query, limit=1)[0].record_id == "hidden"


def test_the_prefix_is_part_of_the_collection(folder):
    QdrantEdgeStore.open(folder, CONFIG, coarse_dimensions=8).close()
    for other in (4, None):
        with pytest.raises(EmbedInputError, match=rf"`coarse_dimensions` is {other}, but .* was made with 8"):
            QdrantEdgeStore.open(folder, CONFIG, coarse_dimensions=other)
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 5))
        assert len(store.search(records(0, 1)[0].embedding)) == 5


def stored_coarse(folder):
    sidecar = read_sidecar(folder)
    assert sidecar is not None
    return sidecar.coarse_dimensions


def test_a_collection_that_was_made_without_a_prefix_stays_without(folder):
    config = EmbeddingConfig(model="jinaai/jina-clip-v2")
    QdrantEdgeStore.open(folder, config, coarse_dimensions=None).close()
    QdrantEdgeStore.open(folder, config).close()
    assert stored_coarse(folder) is None
    with pytest.raises(EmbedInputError, match=r"`coarse_dimensions` is 64, but .* was made with None"):
        QdrantEdgeStore.open(folder, config, coarse_dimensions=64)


@pytest.mark.parametrize(
    ("model", "dimensions", "coarse"),
    [
        ("jinaai/jina-clip-v2", None, 64),
        ("jinaai/jina-clip-v2", 129, 64),
        ("jinaai/jina-clip-v2", 128, None),
        ("jinaai/jina-clip-v1", None, None),
        ("nano", None, None),
        ("edge", 1024, None),
    ],
)
def test_a_new_collection_gets_a_prefix_where_the_model_was_trained_for_it(folder, model, dimensions, coarse):
    QdrantEdgeStore.open(folder, EmbeddingConfig(model=model, dimensions=dimensions)).close()
    assert stored_coarse(folder) == coarse


@pytest.mark.parametrize("coarse", [0, 16, -1, True, "yes"])
def test_a_prefix_is_shorter_than_the_vectors(folder, coarse):
    with pytest.raises(EmbedInputError, match="less than 16"):
        QdrantEdgeStore.open(folder, CONFIG, coarse_dimensions=coarse)
    QdrantEdgeStore.open(folder, CONFIG).close()


def test_a_prefix_longer_than_the_first_record_is_refused(folder):
    with (
        QdrantEdgeStore.open(folder, EmbeddingConfig(model="edge", revision="1"), coarse_dimensions=E) as store,
        pytest.raises(EmbedInputError, match="`coarse_dimensions` is 16"),
    ):
        store.upsert(records(0, 1))


@pytest.mark.parametrize("candidates", [0, True, 2.5])
def test_candidates_are_counted(folder, candidates):
    with pytest.raises(EmbedInputError, match="`candidates`"):
        QdrantEdgeStore.open(folder, CONFIG, candidates=candidates)
    assert not folder.exists()
