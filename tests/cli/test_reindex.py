"""`jclip reindex`: beside the old collection, and in its place where the store can do that."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pymilvus
import pytest
from qdrant_client import QdrantClient, models

from core_encoder.nano.scenes import draw_scene, random_scene
from jclip_connectors.bulk import reindexing
from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.cli import reindex_command
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.store_urls import connected
from tests.cli.test_store_urls import jclip
from tests.doubles.pinecone_server import KEY, PineconeDouble
from tests.doubles.postgres_server import postgres
from tests.doubles.qdrant_server import QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble
from tests.forked import Program

pytestmark = pytest.mark.filterwarnings("ignore:Failed to obtain server version")  # the double of Qdrant has none


def draw(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        draw_scene(random_scene(rng, num_objects=2), seed=number, side_px=216).image.save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("JCLIP_MODEL", "JCLIP_DIMENSIONS", "JCLIP_TILES", "QDRANT_API_KEY", "WEAVIATE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def photos(tmp_path):
    folder = draw(tmp_path / "photos", 4)
    (folder / "note.txt").write_text("a large red ring")
    return folder


def records(url):
    with connected(str(url), read_only=True) as place:
        fingerprint = place.fingerprint()
        assert fingerprint is not None
        store = place.open(carried_config(fingerprint), None)
        return fingerprint, {record.record_id: record for record in store.scroll()}


def index(photos, *place):
    jclip("index", photos, *place, "--model", "nano")


NEW = ("--dimensions", 64, "--tiles", 4)


def assert_reindexed(url, before):
    fingerprint, now = records(url)
    assert (fingerprint["dimensions"], fingerprint["tiling"]) == (64, "max_tiles=4")
    assert now.keys() == before.keys()
    for record_id, record in now.items():
        assert record.metadata == before[record_id].metadata
        assert (record.uri, record.content) == (before[record_id].uri, before[record_id].content)
        assert record.embedding.shape == (64,)
        # The first values of nano's vectors, at unit length: the model was trained for that.
        wanted = before[record_id].embedding[:64] / np.linalg.norm(before[record_id].embedding[:64])
        np.testing.assert_allclose(record.embedding, wanted, atol=1e-5)
        assert (record.tile_embeddings is None) == (record.modality == "text")


def test_a_folder_gets_new_vectors_and_the_old_ones_are_kept(photos, tmp_path):
    place = tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    _, before = records(f"edge:{place}")
    told = jclip("reindex", place, *NEW)[1]
    assert f"'{place}': dimensions 128 -> 64, tiling None -> max_tiles=4" in told
    assert "5 embedded, 0 unchanged, 0 missing" in told
    assert_reindexed(f"edge:{place}", before)
    [old] = tmp_path.glob("photos.jclip-*")
    assert f"'{place}' is the new collection now; the old one is '{old}' until you remove it" in told
    fingerprint, kept = records(f"edge:{old}")
    assert (fingerprint["dimensions"], kept.keys()) == (128, before.keys())
    assert "there is nothing to do" in jclip("reindex", place, *NEW)[1]
    assert "0 indexed, 5 unchanged" in jclip("index", photos, "--collection", place)[1]
    # And back: the old collection has the vectors still.
    assert "0 embedded, 5 unchanged" in jclip("reindex", place, "--dimensions", 128, "--tiles", 0)[1]
    assert records(f"edge:{place}")[0] == fingerprint


def test_moved_and_lost_pictures_are_found_or_reported_and_nothing_is_swapped_on_weak_evidence(photos, tmp_path):
    place, report = tmp_path / "photos.jclip", tmp_path / "report.jsonl"
    index(photos, "--collection", place)
    (tmp_path / "moved").mkdir()
    shutil.move(photos / "00.png", tmp_path / "moved" / "new name.png")
    (photos / "01.png").unlink()
    told = jclip("reindex", place, *NEW, "--report", report, code=1)[1]
    assert "3 embedded, 0 unchanged, 2 missing" in told
    assert f"{photos / '00.png'}: there is no file" in told
    assert "2 of 5 records are missing, which is more than a tenth" in told
    listed = {json.loads(line)["id"] for line in report.read_text().splitlines()}
    assert listed == {str(photos / "00.png"), str(photos / "01.png")}
    assert records(f"edge:{place}")[0]["dimensions"] == 128
    told = jclip("reindex", place, *NEW, "--look-in", tmp_path / "moved", "--swap-anyway", code=1)[1]
    assert "1 embedded, 1 of them found at another place, 3 unchanged, 1 missing" in told
    fingerprint, now = records(f"edge:{place}")
    assert fingerprint["dimensions"] == 64
    assert len(now) == 4
    assert now[str(photos / "00.png")].uri == str(tmp_path / "moved" / "new name.png")
    [old] = tmp_path.glob("photos.jclip-*")
    assert len(records(f"edge:{old}")[1]) == 5


def test_a_few_missing_records_do_not_stop_a_swap_but_are_told(tmp_path):
    photos, place = draw(tmp_path / "photos", 10), tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    (photos / "03.png").unlink()
    told = jclip("reindex", place, "--dimensions", 64, code=1)[1]
    assert "9 embedded, 0 unchanged, 1 missing" in told
    assert len(records(f"edge:{place}")[1]) == 9


def test_without_a_swap_the_new_collection_keeps_its_own_name(photos, tmp_path):
    place = tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    told = jclip("reindex", place, *NEW, "--no-swap")[1]
    [new] = tmp_path.glob("photos.jclip-*")
    assert f"the new collection is '{new}', and the old one is as it was" in told
    assert records(f"edge:{place}")[0]["dimensions"] == 128
    # A record that is removed in the meantime does not come back.
    with QdrantEdgeStore.open(place, carried_config(records(f"edge:{place}")[0])) as store:
        store.delete([str(photos / "00.png")])
    told = jclip("reindex", place, *NEW, code=1)[1]
    assert "the new collection has 1 records that the old one does not have" in told
    assert records(f"edge:{place}")[0]["dimensions"] == 128


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{0}/nothing", "--dimensions", "64"), "there is no collection in"),
        (("", "--dimensions", "64"), "COLLECTION names no folder"),
        (("mongodb://host/photos", "--dimensions", "64"), "COLLECTION is 'mongodb://host/photos'; write edge:PATH"),
        (("{0}/photos.jclip", "--dimensions", "640"), "`dimensions` is 640, but nano has only 128"),
        (("{0}/photos.jclip", "--model", "{0}/nothing"), "nothing"),
        (("{0}/photos.jclip", "--dimensions", "64", "--look-in", "{0}/nowhere"), "there is no folder"),
        (("{0}/photos.jclip", "--no-swap", "--swap-anyway"), "--swap-anyway has no effect with --no-swap"),
        (("{0}/photos.jclip", "--dimensions", "64", "--report", "{0}/no/report"), "cannot be written"),
    ],
)
def test_a_bad_request_is_named_and_makes_nothing(photos, tmp_path, arguments, message):
    index(photos / "note.txt", "--collection", tmp_path / "photos.jclip")
    assert message in jclip("reindex", *(word.format(tmp_path) for word in arguments), code=2)[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "photos.jclip"]


def test_a_collection_that_is_open_for_writing_is_not_taken_away(photos, tmp_path):
    place = tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    with QdrantEdgeStore.open(place, carried_config(records(f"edge:{place}")[0])):
        assert "it is open elsewhere" in jclip("reindex", place, *NEW, code=2)[1]
    assert "0 embedded, 5 unchanged" in jclip("reindex", place, *NEW)[1]
    assert records(f"edge:{place}")[0]["dimensions"] == 64


def test_what_comes_to_a_folder_while_it_is_read_is_taken_too(photos, tmp_path, monkeypatch):
    place = tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    (tmp_path / "more.txt").write_text("an orange heart")
    real, calls = reindexing.reindex_collection, []

    def meanwhile(*arguments, **options):
        calls.append(real(*arguments, **options))
        if len(calls) == 1:
            index(tmp_path / "more.txt", "--collection", place)
        return calls[-1]

    monkeypatch.setattr(reindex_command, "reindex_collection", meanwhile)
    assert "6 embedded, 0 unchanged, 0 missing" in jclip("reindex", place, *NEW)[1]
    assert [report.embedded for report in calls] == [5, 1, 0]
    assert str(tmp_path / "more.txt") in records(f"edge:{place}")[1]


def test_a_name_that_is_taken_is_told_before_anything_is_embedded(photos, tmp_path):
    place = tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    jclip("reindex", place, *NEW)
    [old] = tmp_path.glob("photos.jclip-*")
    jclip("reindex", place, "--dimensions", 128, "--tiles", 0)
    old.mkdir()
    told = jclip("reindex", place, "--dimensions", 32, code=2)[1]
    assert f"the old collection is to be kept as '{old}', which exists already" in told
    assert "embedded" not in told


@pytest.mark.parametrize("renames", [0, 1])
def test_a_swap_of_folders_that_was_killed_is_finished_by_the_next_run(photos, tmp_path, monkeypatch, renames):
    place = tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    jclip("reindex", place, *NEW, "--no-swap")
    real, left = Path.rename, [renames]

    def killed(path, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        jclip("reindex", place, *NEW, code=130)
    assert place.exists() == (renames == 0)
    assert "there is nothing to do" in jclip("reindex", place, *NEW)[1]
    assert records(f"edge:{place}")[0]["dimensions"] == 64
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_tables_are_renamed_and_renamed_back(photos, monkeypatch):
    server = postgres()
    monkeypatch.setenv("PGUSER", server.user)
    monkeypatch.setenv("PGPASSWORD", server.password)
    with server.database() as name:
        url = f"postgresql://{server.host}:{server.port}/{name}/holiday%20photos"
        index(photos, "--store", url)
        old, before = records(url)
        told = jclip("reindex", url, *NEW)[1]
        assert "is the new collection now; the old one is 'holiday photos_" in told
        assert_reindexed(url, before)
        assert "0 embedded, 5 unchanged" in jclip("reindex", url, "--dimensions", 128, "--tiles", 0)[1]
        assert records(url)[0] == old
        assert "0 embedded, 5 unchanged" in jclip("reindex", url, *NEW)[1]
        hits = json.loads(jclip("search", "a ring", "--store", url, "--json")[0])
        assert len(hits) == 5


def test_an_alias_of_qdrant_passes_to_the_new_collection(photos):
    with QdrantServer() as server:
        url = f"{server.url.replace('http', 'qdrant', 1)}/photos"
        index(photos, "--store", f"{url}-1")
        client = QdrantClient(url=server.url, check_compatibility=False)
        alias = models.CreateAlias(collection_name="photos-1", alias_name="photos")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        _, before = records(url)
        assert "the old one is 'photos-1' until you remove it" in jclip("reindex", url, *NEW)[1]
        assert_reindexed(url, before)
        assert records(f"{url}-1")[0]["dimensions"] == 128
        assert "there is nothing to do" in jclip("reindex", url, *NEW)[1]
        client.close()


def test_an_alias_of_weaviate_passes_to_the_new_collection(photos):
    with WeaviateDouble() as server:
        place = f"weaviate://127.0.0.1:{server.http_port}"
        port = f"?grpc_port={server.grpc_port}"
        index(photos, "--store", f"{place}/PhotosA{port}")
        server.aliases["Photos"] = "PhotosA"
        url = f"{place}/Photos{port}"
        _, before = records(url)
        assert "the old one is 'PhotosA' until you remove it" in jclip("reindex", url, *NEW)[1]
        assert_reindexed(url, before)
        assert records(f"{place}/PhotosA{port}")[0]["dimensions"] == 128
        assert server.surprises == []


@pytest.mark.slow
def test_an_alias_of_milvus_passes_to_the_new_collection(photos, tmp_path):
    path = tmp_path / "milvus.db"
    index(photos, "--store", f"milvus:{path}#photos_1")
    url = f"milvus:{path}#photos"
    client = pymilvus.MilvusClient(str(path), dedicated=True)
    client.create_alias("photos_1", "photos")
    _, before = records(url)
    assert "the old one is 'photos_1' until you remove it" in jclip("reindex", url, *NEW)[1]
    assert_reindexed(url, before)
    assert records(f"milvus:{path}#photos_1")[0]["dimensions"] == 128
    assert "there is nothing to do" in jclip("reindex", url, *NEW)[1]
    client.close()


@pytest.mark.parametrize(
    "kind",
    [
        *("qdrant", "weaviate", "pinecone", "lancedb"),
        pytest.param("milvus", marks=pytest.mark.slow),
        pytest.param("chroma", marks=pytest.mark.slow),
    ],
)
def test_a_store_that_cannot_pass_a_name_on_says_so_and_keeps_both(kind, photos, monkeypatch, tmp_path):
    with QdrantServer() as qdrant, WeaviateDouble() as weaviate, PineconeDouble() as pinecone:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", pinecone.url)
        monkeypatch.setenv("PINECONE_API_KEY", KEY)
        url = {
            "qdrant": f"{qdrant.url.replace('http', 'qdrant', 1)}/Photos",
            "weaviate": f"weaviate://127.0.0.1:{weaviate.http_port}/Photos?grpc_port={weaviate.grpc_port}",
            "pinecone": "pinecone://photos/holiday",
            "lancedb": f"lancedb:{tmp_path / 'lance'}",
            "milvus": f"milvus:{tmp_path / 'milvus.db'}#photos",
            "chroma": f"chroma:{tmp_path / 'data'}#photos",
        }[kind]
        index(photos, "--store", url)
        _, before = records(url)
        told = jclip("reindex", url, *NEW)[1]
        assert "note: the new collection will keep a name of its own" in told
        [line] = [line for line in told.splitlines() if line.startswith("not swapped, as ")]
        new = line.partition("the new collection is '")[2].partition("'")[0]
        new += f"?grpc_port={weaviate.grpc_port}" if kind == "weaviate" else ""
        assert_reindexed(new, before)
        assert records(url)[0]["dimensions"] == 128
        assert weaviate.surprises == pinecone.surprises == []


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_every_record_once(tmp_path):
    photos, place = draw(tmp_path / "photos", 40), tmp_path / "photos.jclip"
    index(photos, "--collection", place)
    _, before = records(f"edge:{place}")
    rng = np.random.default_rng(7)
    codes, command = [], ("reindex", place, *NEW, "--batch-size", 2)
    for kill in range(5):
        with Program("-m", "jclip_connectors.cli.main", *command) as run:
            wanted = rng.integers(kill * 8, (kill + 1) * 8)
            for line in run.lines_of_stderr():
                count = line.split(" of ")[0]
                if count.isdecimal() and int(count) >= wanted:
                    break
            time.sleep(rng.uniform(0, 0.03))
            run.kill()
            codes.append(run.wait())
    assert codes.count(-signal.SIGKILL) >= 2
    jclip(*command)
    assert_reindexed(f"edge:{place}", before)
