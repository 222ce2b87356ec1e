"""The recall of stores against the exact ranking of their vectors, and `jclip eval store`."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation import plots
from jclip_connectors.evaluation.exact_ranking import Question, exact_ranking
from jclip_connectors.evaluation.store_recall import measure, own_queries, settings_to_try
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record
from tests.cli.test_main import jclip, refusal
from tests.every_store.live_stores import LIVE_STORES

E = 16
CONFIG = EmbeddingConfig(model="recall", revision="1", dimensions=E)
TILED = EmbeddingConfig(model="recall", revision="1", dimensions=E, tiling=Tiling(max_tiles=4))


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_rows(count, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, E)))


def images(rows):
    return [Record(record_id=f"r{n}", modality="image", embedding=row) for n, row in enumerate(rows)]


def in_memory(records, config=CONFIG):
    store = InMemoryStore(config)
    store.upsert(records)
    return store


def recall(store, question, setting=()):
    return measure(store, question, exact_ranking(store.scroll(modality="image"), question), setting=dict(setting))


def tiled_records():
    tiles = random_rows(60, seed=2).reshape(20, 3, E)
    boxes = np.tile(np.array([0, 0, 1, 1], dtype=np.int64), (3, 1))
    tiled = [
        Record(record_id=f"r{n}", modality="image", embedding=row, tile_embeddings=tiles[n], tile_boxes=boxes)
        for n, row in enumerate(random_rows(20))
    ]
    return [*tiled, Record(record_id="plain", modality="image", embedding=random_rows(1, seed=3)[0])]


IN_PROCESS = ("memory", "edge")


@pytest.mark.parametrize(
    "name", [*IN_PROCESS, *(pytest.param(n, marks=pytest.mark.slow) for n in LIVE_STORES if n not in IN_PROCESS)]
)
def test_every_store_finds_all_neighbours_in_a_small_collection_and_by_the_nearest_tile(name):
    with LIVE_STORES[name]() as open_store:
        store = open_store(CONFIG)
        store.upsert(images(random_rows(30)))
        store.upsert([Record(record_id="t", modality="text", embedding=random_rows(1)[0], content="a text")])
        point = recall(store, Question(rows=random_rows(4, seed=1), k=5, modality="image"))
        tiled = open_store(TILED)
        tiled.upsert(tiled_records())
        by_tiles = recall(tiled, Question(rows=random_rows(6, seed=4), k=4, modality="image", tiles=True))
    assert (point.recall_mean, point.recall_p5, point.recall_min) == (1.0, 1.0, 1.0)
    assert by_tiles.recall_min == 1.0
    assert 0 < point.p50_ms <= point.p95_ms
    assert point.queries_per_second > 0


def test_a_store_that_compares_few_candidates_misses_neighbours(tmp_path):
    with QdrantEdgeStore.open(tmp_path / "c", CONFIG, coarse_dimensions=2) as store:
        store.upsert(images(random_rows(400)))
    question = Question(rows=random_rows(40, seed=1), k=3, modality="image")
    points = []
    for candidates in (60, 4096):
        with QdrantEdgeStore.open(tmp_path / "c", CONFIG, candidates=candidates, read_only=True) as store:
            points.append(recall(store, question, {"candidates": candidates}))
    few, all_of_them = points
    assert few.recall_min <= few.recall_p5 <= few.recall_mean < 1
    assert few.recall_min < few.recall_mean
    assert all_of_them.recall_min == 1.0
    assert [point.setting for point in points] == [{"candidates": 60}, {"candidates": 4096}]


class Fixed(InMemoryStore):
    """Finds the same records for every query."""

    found: tuple[str, ...] = ()

    def search(self, embedding, **_options):
        hits = {hit.record_id: hit for hit in super().search(embedding, limit=100)}
        return [hits[record_id] for record_id in self.found]


def fixed(records, *found):
    store = Fixed(CONFIG)
    store.upsert(records)
    store.found = found
    return store


def test_a_record_as_near_as_the_last_of_the_nearest_is_no_miss():
    rows = random_rows(4)
    rows[1:3] = rows[3]  # three equal vectors
    question = Question(rows=rows[3:], k=1, modality="image")
    for name in ("r1", "r2", "r3"):
        assert recall(fixed(images(rows), name), question).recall_mean == 1.0
    assert recall(fixed(images(rows), "r0"), question).recall_mean == 0.0


def test_a_result_counts_once_and_only_in_its_modality():
    rows = random_rows(3)
    text = Record(record_id="t", modality="text", embedding=rows[0], content="a text")
    question = Question(rows=rows[:1], k=2, modality="image")
    assert recall(fixed(images(rows), "r0", "r0"), question).recall_mean == 0.5
    assert recall(fixed([*images(rows), text], "r0", "t"), question).recall_mean == 0.5


def test_fewer_records_than_k_are_all_that_can_be_found():
    rows = random_rows(3)
    question = Question(rows=rows[:1], k=10, modality="image")
    assert recall(in_memory(images(rows)), question).recall_mean == 1.0
    assert recall(fixed(images(rows), "r0"), question).recall_mean == pytest.approx(1 / 3)


def test_the_collections_own_vectors_leave_out_their_records():
    store = in_memory(images(random_rows(20)))
    question = own_queries(store, k=3, modality="image", tiles=False)
    ranking = exact_ranking(store.scroll(modality="image"), question)
    assert len(question.rows) == 20
    assert all(own not in nearest for own, nearest in zip(question.own_ids, ranking.ids, strict=True))
    assert measure(store, question, ranking, setting={}).recall_min == 1.0


def test_whole_pictures_are_another_ranking_than_tiles():
    store = in_memory(tiled_records(), TILED)
    rows = random_rows(6, seed=4)
    over_tiles = Question(rows=rows, k=4, modality="image", tiles=True)
    wholes = exact_ranking(store.scroll(modality="image"), Question(rows=rows, k=4, modality="image"))
    assert measure(store, over_tiles, wholes, setting={}).recall_mean < 1


def test_the_ranking_is_that_of_one_matrix_whatever_the_blocks(monkeypatch):
    rows, queries = random_rows(50), random_rows(5, seed=1)
    question = Question(rows=queries, k=7, modality="image")
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :7]
    for most in (1, 3, 7, 8, 1000):
        monkeypatch.setattr("jclip_connectors.evaluation.exact_ranking._BLOCK_ROWS", most)
        found = exact_ranking(images(rows), question).ids
        assert found.tolist() == [[f"r{n}" for n in row] for row in expected]


def test_nothing_to_compare_is_refused():
    with pytest.raises(EvaluationError, match="0 records of the modality 'image'"):
        exact_ranking([], Question(rows=random_rows(1), k=1, modality="image"))
    one = in_memory(images(random_rows(1)))
    with pytest.raises(EvaluationError, match="1 records"):  # its own record is left out
        exact_ranking(one.scroll(), own_queries(one, k=1, modality="image", tiles=False))


def test_a_sweep_doubles_the_candidates_up_to_the_default():
    candidates = [s["candidates"] for s in settings_to_try(("candidates",), records=3000, limit=10)]
    assert candidates == [200, 400, 800, 1600, 4096]
    assert settings_to_try(("candidates",), records=100, limit=10) == [{"candidates": 4096}]
    assert settings_to_try((), records=3000, limit=10) == [{}]
    assert settings_to_try(("hnsw_ef",), records=4000, limit=10) == [{}]
    assert settings_to_try(("hnsw_ef",), records=5000, limit=10)[:2] == [{}, {"hnsw_ef": 32}]
    assert settings_to_try(("refine_factor", "nprobes"), records=100, limit=10) == [{"refine_factor": 10}]
    factors = [s["refine_factor"] for s in settings_to_try(("refine_factor",), records=5000, limit=10)]
    assert factors == [1, 2, 5, 20, 10]


def test_the_index_of_a_large_collection_is_searched_in_several_widths():
    options = ("candidates", "hnsw_ef", "oversampling")
    small, large = (settings_to_try(options, records=records, limit=10) for records in (4000, 5000))
    assert not any("hnsw_ef" in setting for setting in small)
    assert {"candidates": 200, "hnsw_ef": 128} in large
    assert large[-1] == {"candidates": 4096}


@pytest.fixture(scope="module")
def nano_collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"{number} red circles and a star")
    collection = folder.parent / "collection"
    jclip("index", folder, "--collection", collection, "--model", "nano")
    return collection


def test_the_command_measures_an_embedded_collection(nano_collection, tmp_path):
    texts = tmp_path / "queries.txt"
    texts.write_text("a red circle\na star\n")
    out, message = jclip(
        "eval", "store", "--collection", nano_collection, "--texts", texts, "--k", 3, "--out", tmp_path
    )
    assert "recall" in out
    assert "candidates 4096" in out
    assert "30 of 30 records have the modality 'text'; 2 queries (given vectors)" in message
    written = json.loads((tmp_path / "store.json").read_text())
    assert ET.fromstring((tmp_path / "store.svg").read_text()).tag.endswith("svg")  # noqa: S314 (our own file)
    assert written["environment"]["packages"]["numpy"]
    (point,) = written.pop("settings")
    assert point["setting"] == {"candidates": 4096}
    assert point["recall_mean"] == point["recall_min"] == 1.0
    assert point["disk_bytes"] > 0
    assert written["fingerprint"]["model"]
    assert (written["k"], written["queries"], written["compared"]) == (3, 2, 30)


def test_without_matplotlib_there_is_no_plot_and_no_earlier_one(nano_collection, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "find_spec", lambda _name: None)
    (tmp_path / "store.svg").write_text("of earlier results")
    _, message = jclip("eval", "store", "--collection", nano_collection, "--k", 1, "--out", tmp_path)
    assert "needs matplotlib" in message
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_the_command_takes_vectors_and_else_those_of_the_collection(nano_collection, tmp_path):
    store = ("eval", "store", "--collection", nano_collection, "--out", tmp_path)
    _, message = jclip(*store)
    assert "30 queries (vectors of the collection, each without its own record)" in message
    rows = np.random.default_rng(0).standard_normal((3, json.loads((tmp_path / "store.json").read_text())["length"]))
    np.save(tmp_path / "rows.npy", rows)
    jclip(*store, "--queries", tmp_path / "rows.npy")
    assert json.loads((tmp_path / "store.json").read_text())["queries"] == 3


def test_the_command_measures_the_settings_that_it_is_given(nano_collection, tmp_path):
    store = ("eval", "store", "--collection", nano_collection, "--out", tmp_path)
    jclip(*store, "--setting", "candidates=7", "--setting", "candidates=9")
    points = json.loads((tmp_path / "store.json").read_text())["settings"]
    assert [point["setting"] for point in points] == [{"candidates": 7}, {"candidates": 9}]
    assert "'hnsw_ef' is no option of this store's search (candidates)" in refusal(*store, "--setting", "hnsw_ef=2")
    assert "write it like candidates=400" in refusal(*store, "--setting", "candidates")
    assert "`candidates` is 0" in jclip(*store, "--setting", "candidates=0", code=2)[1]


def test_bad_queries_are_refused_by_name(nano_collection, tmp_path):
    store = ("eval", "store", "--collection", nano_collection, "--out", tmp_path)
    np.save(tmp_path / "short.npy", np.ones((2, 3)))
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "blank.txt").write_text("a star\n\na circle\n")
    assert "`embeddings`[0] has the shape (3,)" in refusal(*store, "--queries", tmp_path / "short.npy")
    assert "flat.npy' is not an array (Q, E)" in refusal(*store, "--queries", tmp_path / "flat.npy")
    assert "objects.npy' is not an array" in refusal(*store, "--queries", tmp_path / "objects.npy")
    assert "line 2 of" in refusal(*store, "--texts", tmp_path / "blank.txt")
    assert "there is no collection" in refusal("eval", "store", "--collection", tmp_path / "none")
