"""Which files a second run reads: those whose size or time of modification is not the record's, and no others."""

import dataclasses
import os
import time

import pytest

from jclip_connectors.indexing import planning
from jclip_connectors.testing import HashEmbedder
from tests.shelf import Shelf, picture, settled, watch


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def read(monkeypatch):
    """The paths of the files that are read."""
    return watch(monkeypatch, planning, "_read")


def text(path, content):
    path.write_text(content)
    return settled(path)


def test_a_file_with_its_old_size_and_time_is_not_read(tmp_path, shelf, read, monkeypatch):
    paths = [settled(picture(tmp_path / f"{i}.png", seed=i)) for i in range(5)]
    text(tmp_path / "a.txt", "a text")
    assert shelf.index(tmp_path) == (6, 0, [])
    del read[:]
    for name in ("embed_images", "embed_texts"):
        monkeypatch.setattr(HashEmbedder, name, None)
    monkeypatch.setattr(shelf.store, "upsert", None)
    assert shelf.index(tmp_path) == (0, 6, [])
    assert read == []
    new = settled(picture(paths[0].with_name("new.png"), seed=9))
    monkeypatch.undo()
    assert shelf.index(tmp_path) == (1, 6, [])
    assert shelf.record(new).metadata["modified_ns"] == new.stat().st_mtime_ns


def test_only_the_content_shows_a_change_that_kept_size_and_time(tmp_path, shelf):
    path = text(tmp_path / "a.txt", "a red cat")
    shelf.index(tmp_path)
    status = path.stat()
    path.write_text("a red dog")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert shelf.index(tmp_path) == (0, 1, [])
    assert shelf.index(tmp_path, verify_content=True) == (1, 0, [])
    assert shelf.record(path).content == "a red dog"
    assert shelf.index(tmp_path, verify_content=True) == (0, 1, [])


@pytest.mark.parametrize("age_s", [0, 1, -3600])
def test_a_file_that_was_changed_within_a_moment_of_its_indexing_is_read_again(tmp_path, shelf, age_s):
    path = tmp_path / "a.txt"
    path.write_text("a red cat")
    now = time.time_ns() - age_s * 10**9
    os.utime(path, ns=(now, now))
    shelf.index(tmp_path)
    assert "modified_ns" not in shelf.record(path).metadata
    path.write_text("a red dog")
    os.utime(path, ns=(now, now))  # as on a file system whose clock has not moved
    assert shelf.index(tmp_path) == (1, 0, [])
    assert shelf.record(path).content == "a red dog"


def test_a_file_that_was_read_again_is_trusted_from_then_on(tmp_path, shelf, read, monkeypatch):
    path = picture(tmp_path / "1.png")
    shelf.index(tmp_path)
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_mtime_ns + 10**10)  # ten seconds later
    monkeypatch.setattr(HashEmbedder, "embed_images", None)
    assert shelf.index(tmp_path) == (0, 1, [])
    assert shelf.index(tmp_path) == (0, 1, [])
    assert read == [str(path)] * 2


@pytest.mark.parametrize("moved_s", [-1000, 1000, -1e-9 * 500])
def test_a_touched_file_is_read_once_and_its_record_tells_the_new_time(tmp_path, shelf, read, monkeypatch, moved_s):
    path = settled(picture(tmp_path / "1.png"), age_s=5000)
    shelf.index(tmp_path)
    before = shelf.record(path)
    then = path.stat().st_mtime_ns + int(moved_s * 10**9)
    os.utime(path, ns=(then, then))
    monkeypatch.setattr(HashEmbedder, "embed_images", None)
    assert shelf.index(tmp_path) == (0, 1, [])
    assert shelf.index(tmp_path) == (0, 1, [])
    assert read == [str(path)] * 2
    after = shelf.record(path)
    assert (after.metadata["modified_ns"], after.metadata["modified_s"]) == (then, then // 10**9)
    assert (after.embedding == before.embedding).all()


def test_a_record_of_an_earlier_version_is_read_once_and_keeps_its_vector(tmp_path, shelf, read, monkeypatch):
    path = settled(picture(tmp_path / "1.png"))
    shelf.index(tmp_path)
    record = shelf.record(path)
    old = {name: value for name, value in record.metadata.items() if name != "modified_ns"}
    shelf.store.upsert([dataclasses.replace(record, metadata=old)])
    monkeypatch.setattr(HashEmbedder, "embed_images", None)
    assert shelf.index(tmp_path) == (0, 1, [])
    assert shelf.index(tmp_path) == (0, 1, [])
    assert read == [str(path)] * 2
    assert shelf.record(path).metadata == record.metadata


def test_a_record_of_another_program_with_the_id_of_a_file_is_not_trusted(tmp_path, shelf):
    path = settled(picture(tmp_path / "1.png"))
    shelf.index(tmp_path)
    record = shelf.record(path)
    foreign = {**record.metadata, "path": "elsewhere"}
    shelf.store.upsert([dataclasses.replace(record, metadata=foreign, content_hash="another")])
    assert shelf.index(tmp_path) == (1, 0, [])
    assert shelf.record(path).metadata == record.metadata


def test_files_that_change_places_are_both_read_though_they_are_of_one_size_and_second(tmp_path, shelf):
    second = 1_600_000_000 * 10**9
    for at, name in enumerate(("1.txt", "2.txt")):
        (tmp_path / name).write_text(f"text {at}")
        os.utime(tmp_path / name, ns=(second, second + at))
    shelf.index(tmp_path)
    (tmp_path / "1.txt").rename(tmp_path / "3.txt")
    (tmp_path / "2.txt").rename(tmp_path / "1.txt")
    (tmp_path / "3.txt").rename(tmp_path / "2.txt")
    shelf.index(tmp_path)
    assert [shelf.record(tmp_path / name).content for name in ("1.txt", "2.txt")] == ["text 1", "text 0"]


def test_a_bad_file_is_tried_again_and_a_file_that_went_bad_keeps_its_record(tmp_path, shelf, read):
    good, bad = settled(picture(tmp_path / "1.png")), tmp_path / "2.png"
    bad.write_bytes(b"no picture")
    settled(bad)
    shelf.index(tmp_path)
    good.write_bytes(b"broken")
    settled(good)
    for _ in range(2):
        assert shelf.index(tmp_path) == (0, 0, [str(good), str(bad)])
    assert shelf.ids() == [str(good)]
    assert len(read) == 6


def test_a_pipe_in_the_place_of_a_file_is_not_unchanged(tmp_path, shelf):
    path = text(tmp_path / "a.txt", "a text")
    shelf.index(tmp_path)
    status = path.stat()
    path.unlink()
    os.mkfifo(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    record = shelf.record(path)
    shelf.store.upsert([dataclasses.replace(record, metadata={**record.metadata, "size_bytes": 0})])
    assert shelf.index(tmp_path) == (0, 0, [str(path)])


def test_a_large_folder_is_looked_up_in_parts(tmp_path, shelf, monkeypatch):
    monkeypatch.setattr(planning, "_WINDOW_FILES", 3)
    monkeypatch.setattr(planning, "_WINDOW_TEXT_BYTES", 10)
    for i in range(4):
        picture(tmp_path / f"{i}.png", seed=i)
        (tmp_path / f"{i}.txt").write_text(f"a text of {i} words")
    asked = watch(monkeypatch, shelf.store, "get")
    assert shelf.index(tmp_path) == (8, 0, [])
    assert sum(map(len, asked)) == 8
    assert max(map(len, asked)) <= 3
