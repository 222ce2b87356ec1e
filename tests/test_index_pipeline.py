"""Files are read, embedded and written at the same time: in bounded numbers, in order, and stopped as a whole."""

import threading
import time

import pytest

from jclip_connectors.errors import EmbedInputError, StoreUnavailableError
from jclip_connectors.indexing import planning
from jclip_connectors.testing import HashEmbedder
from tests.shelf import Shelf, picture, watch

SOON_S = 20  # a test that waits so long for another thread has failed


def wait_for(event):
    assert event.wait(SOON_S), "nobody else works meanwhile"


def until(condition):
    """Wait until the other threads have done what they can."""
    give_up = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


@pytest.fixture
def read(monkeypatch):
    """The paths of the files that are read, while they are read."""
    return watch(monkeypatch, planning, "_read")


class Watched(HashEmbedder):
    """Calls `meanwhile` with the number of the call before it embeds; remembers what it has embedded."""

    def __init__(self, meanwhile=lambda _: None):
        super().__init__()
        self.calls, self.meanwhile = [], meanwhile

    def embed_images(self, images):
        self.calls.append([path.name for path in images])
        self.meanwhile(len(self.calls))
        return super().embed_images(images)

    def embed_texts(self, texts):
        self.calls.append(list(texts))
        self.meanwhile(len(self.calls))
        return super().embed_texts(texts)


@pytest.fixture(autouse=True)
def threads_end():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def gallery(folder, count):
    return [str(picture(folder / f"{i:02}.png", seed=i)) for i in range(count)]


def test_files_are_read_while_the_model_computes_and_others_are_written(tmp_path, read, monkeypatch):
    paths = gallery(tmp_path, 8)
    writing, embedding = threading.Event(), threading.Event()

    def meanwhile(call):
        if call == 1:
            until(lambda: len(read) == 6)  # two chunks ahead
        if call == 2:
            wait_for(writing)
            embedding.set()

    shelf = Shelf(Watched(meanwhile))
    upsert = shelf.store.upsert

    def write(records):
        writing.set()
        wait_for(embedding)
        upsert(records)

    monkeypatch.setattr(shelf.store, "upsert", write)
    assert shelf.index(tmp_path, chunk_size=2) == (8, 0, [])
    assert shelf.ids() == paths


def test_only_a_few_chunks_are_in_memory(tmp_path, read):
    gallery(tmp_path, 40)
    most = []

    def meanwhile(call):
        if call == 1:
            until(lambda: len(read) >= 6)
            time.sleep(0.1)  # the threads have time to read too far
            most.append(len(read))

    assert Shelf(Watched(meanwhile)).index(tmp_path, chunk_size=2) == (40, 0, [])
    assert most == [6]


def test_a_slow_store_holds_up_the_model(tmp_path, monkeypatch):
    gallery(tmp_path, 20)
    embedder = Watched()
    shelf = Shelf(embedder)
    upsert = shelf.store.upsert
    calls: list[int] = []

    def write(records):
        if not calls:
            time.sleep(0.1)  # the model has time to run too far
        calls.append(len(embedder.calls))
        upsert(records)

    monkeypatch.setattr(shelf.store, "upsert", write)
    assert shelf.index(tmp_path, chunk_size=2) == (20, 0, [])
    assert calls[0] <= 3


def test_texts_and_pictures_use_the_model_in_turns(tmp_path):
    for i in range(6):
        picture(tmp_path / f"{i}.png", seed=i)
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    embedder = Watched()
    assert Shelf(embedder).index(tmp_path, chunk_size=2) == (12, 0, [])
    pictures = [call for call in embedder.calls if call[0].endswith(".png")]
    assert pictures == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png", "5.png"]]
    assert [call for call in embedder.calls if call not in pictures] == [
        ["text 0", "text 1"],
        ["text 2", "text 3"],
        ["text 4", "text 5"],
    ]
    assert embedder.calls[:2] != pictures[:2]


def test_a_folder_of_texts_alone_is_embedded_in_chunks(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    embedder = Watched()
    assert Shelf(embedder).index(tmp_path, chunk_size=2) == (5, 0, [])
    assert [len(call) for call in embedder.calls] == [2, 2, 1]


@pytest.mark.parametrize("chunk_size", [1, 2, 32])
@pytest.mark.parametrize("kind", ["png", "txt"])
def test_files_of_equal_content_are_embedded_once(tmp_path, chunk_size, kind):
    for i in range(9):
        if kind == "png":
            picture(tmp_path / f"{i}.png", seed=i % 3)
        else:
            (tmp_path / f"{i}.txt").write_text(f"text {i % 3}")
    embedder = Watched()
    shelf = Shelf(embedder)
    assert shelf.index(tmp_path, chunk_size=chunk_size) == (3, 0, [])
    assert shelf.report.reused == 6
    assert sum(map(len, embedder.calls)) == 3
    records = {record.metadata["name"]: record for record in shelf.store.scroll()}
    assert len(records) == 9
    for i in range(9):
        record, first = records[f"{i}.{kind}"], records[f"{i % 3}.{kind}"]
        assert (record.embedding == first.embedding).all()
        assert (record.content, record.content_hash) == (first.content, first.content_hash)
        assert record.metadata["path"] == record.record_id
        assert record.uri == (None if kind == "txt" else record.record_id)


def test_copies_of_a_bad_file_are_all_reported(tmp_path):
    gallery(tmp_path, 4)
    for name in ("00a.png", "02a.png", "03a.png"):
        (tmp_path / name).write_bytes(b"no picture")
    bad = [str(tmp_path / name) for name in ("00a.png", "02a.png", "03a.png")]
    for chunk_size in (1, 3, 32):
        shelf = Shelf()
        assert shelf.index(tmp_path, chunk_size=chunk_size) == (4, 0, bad)
        assert all("cannot be read" in entry.error and entry.path in entry.error for entry in shelf.report.failed)


def test_the_report_and_the_progress_are_the_same_in_every_run(tmp_path):
    for i in range(12):
        if i % 4 == 3:
            (tmp_path / f"{i:02}.png").write_bytes(f"no picture {i}".encode())
        elif i % 4 == 2:
            (tmp_path / f"{i:02}.txt").write_bytes(b"\xff" if i == 6 else f"text {i}".encode())
        else:
            picture(tmp_path / f"{i:02}.png", seed=i)
    bad = [str(tmp_path / name) for name in ("03.png", "06.txt", "07.png", "11.png")]
    for chunk_size in (1, 2, 5, 32):
        told: list[tuple[int, int]] = []
        shelf = Shelf()
        found = shelf.index(tmp_path, chunk_size=chunk_size, progress=lambda *state: told.append(state))  # noqa: B023
        assert found == (8, 0, bad)
        assert told[0] == (0, 12)
        assert told[-1] == (12, 12)
        assert told == sorted(told)
        assert {total for _, total in told} == {12}


def test_what_is_not_yet_written_does_not_count_as_done(tmp_path, monkeypatch):
    gallery(tmp_path, 6)
    shelf = Shelf()
    upsert, written = shelf.store.upsert, [0]
    told: list[int] = []

    def write(records):
        time.sleep(0.02)  # a run that counts too early has time to do so
        assert told[-1] <= written[-1]
        upsert(records)
        written.append(written[-1] + len(records))

    monkeypatch.setattr(shelf.store, "upsert", write)
    shelf.index(tmp_path, chunk_size=1, progress=lambda done, _: told.append(done))
    assert written[-1] == told[-1] == 6


def test_an_error_of_the_store_stops_the_run_and_what_was_written_stays(tmp_path, monkeypatch):
    paths = gallery(tmp_path, 40)
    embedder = Watched()
    shelf = Shelf(embedder)
    upsert = shelf.store.upsert
    told: list[int] = []

    def write(records):
        if shelf.store.count() == 4:
            raise StoreUnavailableError("not now")
        upsert(records)

    monkeypatch.setattr(shelf.store, "upsert", write)
    with pytest.raises(StoreUnavailableError, match="not now"):
        shelf.index(tmp_path, chunk_size=2, progress=lambda done, _: told.append(done))
    assert shelf.ids() == paths[:4]
    assert told[-1] == 4
    assert len(embedder.calls) <= 6
    monkeypatch.undo()
    assert shelf.index(tmp_path, chunk_size=2) == (36, 4, [])


def test_an_error_of_a_look_up_stops_the_run(tmp_path, monkeypatch):
    gallery(tmp_path, 6)
    shelf = Shelf()

    def refuse(**_):
        raise StoreUnavailableError("not now")

    monkeypatch.setattr(shelf.store, "scroll", refuse)
    with pytest.raises(StoreUnavailableError, match="not now"):
        shelf.index(tmp_path, chunk_size=2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, EmbedInputError])
def test_a_run_that_is_stopped_while_the_model_computes_ends_its_threads(tmp_path, error):
    paths = gallery(tmp_path, 20)

    def meanwhile(call):
        if call == 4:
            raise error

    shelf = Shelf(Watched(meanwhile))
    with pytest.raises(error):
        shelf.index(tmp_path, chunk_size=2)
    written = shelf.store.count()
    assert shelf.ids() == paths[:written]
    assert written <= 6
    assert shelf.index(tmp_path, chunk_size=2) == (20 - written, written, [])
