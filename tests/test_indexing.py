"""The walk over folders, and the way of files into a collection; without a model."""

import dataclasses
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core_encoder.image_formats import SUFFIXES_OF_FORMATS, readable_suffixes
from jclip_connectors.errors import EmbedInputError, StoreUnavailableError
from jclip_connectors.indexing import (
    IMAGE_SUFFIXES,
    LITTER,
    MAX_TEXT_BYTES,
    find_files,
    index_files,
    pruning,
)
from jclip_connectors.port import Record
from jclip_connectors.store_kit.blank_text import is_blank
from jclip_connectors.testing import HashEmbedder
from tests.shelf import Shelf, picture, settled


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def shelf():
    return Shelf()


def names(found, folder):
    return [str(Path(path).relative_to(folder)) for path in found.files]


def test_a_walk_finds_pictures_and_texts_in_subfolders_in_a_stable_order(folder):
    for name in ("b/2.PNG", "b/1.jpg", "a/c/note.md", "z.txt", "z.py", "README", "b/3.jpeg.bak"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert names(find_files([folder]), folder) == ["z.txt", "a/c/note.md", "b/1.jpg", "b/2.PNG"]


def test_hidden_files_and_folders_are_left_out_unless_named(folder):
    hidden = picture(folder / ".cache" / "a.png")
    picture(folder / ".b.png")
    assert find_files([folder]).files == ()
    assert find_files([folder / ".cache"]).files == (str(hidden),)


def test_a_folder_named_twice_and_one_inside_another_count_once(folder, monkeypatch):
    picture(folder / "a" / "1.png")
    picture(folder / "2.png")
    (folder.parent / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    roots = [folder, folder, folder / "a", "a", "a/../a", folder.parent / "link", folder / "a" / "1.png"]
    assert names(find_files(roots), folder) == ["2.png", "a/1.png"]


def test_links_to_folders_are_not_followed_so_loops_end(folder):
    picture(folder / "a" / "1.png")
    (folder / "a" / "up").symlink_to(folder)
    assert names(find_files([folder]), folder) == ["a/1.png"]


def test_a_link_to_a_file_is_a_file_of_its_own(folder, shelf):
    picture(folder / "1.png")
    (folder / "2.png").symlink_to(folder / "1.png")
    assert shelf.index(folder) == (1, 0, [])
    assert shelf.report.reused == 1
    assert shelf.ids() == [str(folder / "1.png"), str(folder / "2.png")]


def test_a_missing_root_is_refused_before_anything_is_walked(folder):
    with pytest.raises(EmbedInputError, match=r"the file or folder .*nowhere.* does not exist"):
        find_files([folder, folder / "nowhere"])


def test_a_named_file_of_another_kind_is_reported(folder):
    (folder / "a.pdf").touch()
    found = find_files([folder / "a.pdf"])
    assert found.files == ()
    assert [bad.path for bad in found.failed] == [str(folder / "a.pdf")]
    assert ".png" in found.failed[0].error


def test_an_unreadable_folder_is_reported_and_the_rest_found(folder, monkeypatch):
    picture(folder / "a" / "1.png")
    picture(folder / "b" / "2.png")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, who may read everything
    found = find_files([folder])
    assert names(found, folder) == ["b/2.png"]
    assert [(bad.path, bad.error) for bad in found.failed] == [
        (str(folder / "a"), "the folder cannot be read: Permission denied")
    ]


def test_the_suffixes_are_those_of_the_decoder():
    assert readable_suffixes() == IMAGE_SUFFIXES
    assert {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".avif",
        ".tif",
        ".tiff",
        ".bmp",
    } <= IMAGE_SUFFIXES


def test_every_format_that_can_be_decoded_has_a_suffix():
    assert readable_suffixes() >= IMAGE_SUFFIXES
    for suffixes in SUFFIXES_OF_FORMATS.values():
        assert IMAGE_SUFFIXES.intersection(suffixes)


def test_what_cannot_be_read_is_reported_and_everything_else_indexed(folder, shelf):
    good = [str(picture(folder / f"{i}.png", seed=i)) for i in range(5)]
    (folder / "a.jpg").write_bytes(b"not a picture")
    (folder / "b.png").touch()
    (folder / "c.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "d.png")
    os.mkfifo(folder / "d.txt")
    (folder / "e.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "f.txt").write_text(" \n")
    (folder / "g.md").write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
    (folder / "h.txt").write_text("a text", encoding="utf-8-sig")
    bad = [str(folder / name) for name in ("a.jpg", "b.png", "c.png", "d.png", "d.txt", "e.txt", "f.txt", "g.md")]
    for _ in range(2):
        assert sorted(shelf.index(folder, chunk_size=3)[2]) == bad
        assert shelf.ids() == sorted([*good, str(folder / "h.txt")])
    reasons = {Path(entry.path).name: entry.error for entry in shelf.report.failed}
    assert "No such file" in reasons["c.png"]
    assert "pipe" in reasons["d.png"]
    assert "pipe" in reasons["d.txt"]
    assert "UTF-16" in reasons["e.txt"]
    assert "empty" in reasons["f.txt"]
    assert "split it" in reasons["g.md"]


def test_a_name_that_is_not_unicode_is_reported(folder, shelf):
    picture(folder / "1.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    (failed,) = shelf.index(folder)[2]
    assert failed.endswith("\udcff.png")
    assert "rename" in shelf.report.failed[0].error


@pytest.mark.parametrize("name", ["a b.png", "新.png", "line\nbreak.png", "'\"<b>.png", "data:x.png", "100%.png"])
def test_odd_names_are_indexed_as_they_are(folder, shelf, name):
    path = picture(folder / name)
    assert shelf.index(folder) == (1, 0, [])
    (record,) = shelf.store.get([str(path)])
    assert record.uri == record.metadata["path"] == str(path)
    assert record.metadata["name"] == name


def test_a_record_says_what_can_be_asked_for(folder, shelf):
    path = picture(folder / "a" / "1.PNG")
    shelf.index(folder)
    (record,) = shelf.store.get([str(path)])
    assert record.metadata == {
        "path": str(path),
        "name": "1.PNG",
        "folder": str(folder / "a"),
        "suffix": ".png",
        "size_bytes": path.stat().st_size,
        "modified_s": int(path.stat().st_mtime),
        "content_hash": record.content_hash,
    }


def test_a_second_run_changes_nothing_and_embeds_nothing(folder, shelf, monkeypatch):
    for i in range(5):
        picture(folder / f"{i}.png", seed=i)
    (folder / "a.txt").write_text("a text")
    assert shelf.index(folder) == (6, 0, [])
    monkeypatch.setattr(HashEmbedder, "embed_images", None)
    monkeypatch.setattr(HashEmbedder, "embed_texts", None)
    monkeypatch.setattr(shelf.store, "upsert", None)
    monkeypatch.setattr(shelf.store, "scroll", None)
    assert shelf.index(folder) == (0, 6, [])


def test_a_changed_file_takes_the_place_of_its_record(folder, shelf):
    path = picture(folder / "1.png", seed=1)
    shelf.index(folder)
    (before,) = shelf.store.get([str(path)])
    picture(path, seed=2)
    assert shelf.index(folder) == (1, 0, [])
    (after,) = shelf.store.get([str(path)])
    assert after.content_hash != before.content_hash
    assert not np.allclose(after.embedding, before.embedding)
    assert shelf.store.count() == 1


def test_a_touched_file_gets_its_new_metadata_without_being_embedded(folder, shelf):
    path = picture(folder / "1.png")
    shelf.index(folder)
    os.utime(path, (1000, 1000))
    assert shelf.index(folder) == (0, 1, [])
    assert shelf.store.get([str(path)])[0].metadata["modified_s"] == 1000


def test_files_with_equal_content_are_both_found(folder, shelf):
    paths = [str(picture(folder / name, seed=1)) for name in ("1.png", "2.png")]
    shelf.index(folder)
    assert shelf.ids() == paths


@pytest.mark.parametrize("age_s", [3600, 0])
@pytest.mark.parametrize("chunk_size", [1, 32])
def test_a_picture_that_is_replaced_while_it_is_indexed_gives_its_copies_no_wrong_vector(folder, age_s, chunk_size):
    first, copy = (settled(picture(folder / name, seed=1), age_s) for name in ("1.png", "2.png"))
    other = settled(picture(folder / "3.png", seed=3), age_s)
    replaced: list[Path] = []

    class Replacing(HashEmbedder):
        def embed_images(self, images):
            if first in images and not replaced:
                replaced.append(picture(first, seed=2))
            return super().embed_images(images)

    shelf = Shelf(Replacing())
    indexed, unchanged, failed = shelf.index(folder, chunk_size=chunk_size)
    assert str(first) in failed
    assert {bad.error for bad in shelf.report.failed} == {"it changed while it was indexed: run the command again"}
    assert indexed + unchanged + shelf.report.reused + len(failed) == 3
    assert str(other) in shelf.ids()
    calm = Shelf()
    calm.index(folder)
    assert shelf.index(folder)[2] == []
    np.testing.assert_equal(vectors(shelf), vectors(calm))
    assert np.abs(shelf.record(first).embedding - shelf.record(copy).embedding).max() > 0.01


def test_a_picture_that_is_deleted_while_it_is_indexed_is_no_record(folder):
    path = picture(folder / "1.png")

    class Deleting(HashEmbedder):
        def embed_images(self, images):
            rows = super().embed_images(images)
            path.unlink()
            return rows

    shelf = Shelf(Deleting())
    assert shelf.index(folder) == (0, 0, [str(path)])
    assert shelf.ids() == []


def test_a_path_that_is_not_normalised_is_the_same_file(folder, shelf):
    good, bad = picture(folder / "1.png"), folder / "2.png"
    bad.write_bytes(b"not a picture")
    odd = [f"{folder}//{name}" for name in ("1.png", "2.png")] + [f"{folder}/./1.png", f"{folder}/x/../1.png", good]
    report = index_files(shelf.collection, odd)
    assert (report.indexed, [entry.path for entry in report.failed]) == (1, [str(bad)])
    assert shelf.ids() == [str(good)]
    assert index_files(shelf.collection, odd).unchanged == 1


def test_progress_tells_the_start_and_every_chunk(folder, shelf):
    for i in range(5):
        picture(folder / f"{i}.png", seed=i)
    told = []
    shelf.index(folder, chunk_size=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_records_without_a_file_are_missing_only_where_the_walk_has_been(folder, shelf):
    paths = [picture(folder / name / "1.png", seed=i) for i, name in enumerate(("a", "ab", "c"))]
    shelf.index(folder)
    shelf.store.upsert([Record(record_id="mine", modality="image", embedding=np.ones(32, np.float32))])
    for path in paths[:2]:
        path.unlink()
    assert shelf.index(folder / "a") == (0, 0, [])
    assert shelf.missing() == [str(paths[0])]
    shelf.index(folder)
    assert sorted(shelf.missing()) == [str(path) for path in paths[:2]]


def test_a_file_that_is_there_but_not_found_is_not_missing(folder, shelf, monkeypatch):
    path = picture(folder / "a" / "1.png")
    shelf.index(folder)
    path.parent.rename(folder / ".a")
    shelf.index(folder)
    assert shelf.missing() == [str(path)]

    def refuse(name):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(os, "lstat", refuse)
    assert shelf.missing() == []


def test_no_record_is_read_where_none_can_be_missing(folder, shelf, monkeypatch):
    picture(folder / "1.png")
    shelf.index(folder)
    monkeypatch.setattr(shelf.store, "ids", None)
    assert shelf.missing() == []


def forbid_embedding(monkeypatch):
    monkeypatch.setattr(HashEmbedder, "embed_images", None)
    monkeypatch.setattr(HashEmbedder, "embed_texts", None)


def vectors(shelf):
    return {record.metadata["name"]: record.embedding for record in shelf.store.scroll()}


@pytest.mark.parametrize("chunk_size", [1, 2, 32])
def test_a_renamed_folder_keeps_its_vectors_and_leaves_no_dead_record(folder, shelf, monkeypatch, chunk_size):
    for i in range(5):
        picture(folder / "old" / f"{i}.png", seed=i)
    (folder / "old" / "a.txt").write_text("a text")
    shelf.index(folder)
    before = vectors(shelf)
    (folder / "old").rename(folder / "new")
    forbid_embedding(monkeypatch)
    assert shelf.index(folder, chunk_size=chunk_size) == (0, 0, [])
    assert shelf.report.reused == 6
    assert shelf.ids() == sorted(str(path) for path in (folder / "new").iterdir())
    np.testing.assert_equal(vectors(shelf), before)
    for record in shelf.store.scroll():
        assert record.metadata["path"] == record.record_id
        assert record.uri == (None if record.modality == "text" else record.record_id)
    assert shelf.index(folder) == (0, 6, [])


def test_a_moved_file_is_found_at_its_new_place_though_another_root_is_indexed(folder, shelf, monkeypatch):
    shelf.index(picture(folder / "a" / "1.png").parent)
    (folder / "b").mkdir()
    (folder / "a" / "1.png").rename(folder / "b" / "2.png")
    forbid_embedding(monkeypatch)
    assert shelf.index(folder / "b") == (0, 0, [])
    assert shelf.ids() == [str(folder / "b" / "2.png")]


def test_files_that_change_places_keep_their_vectors(folder, shelf, monkeypatch):
    for name, seed in (("1.png", 1), ("2.png", 2)):
        picture(folder / name, seed=seed)
    shelf.index(folder)
    before = vectors(shelf)
    (folder / "1.png").rename(folder / "3.png")
    (folder / "2.png").rename(folder / "1.png")
    (folder / "3.png").rename(folder / "2.png")
    forbid_embedding(monkeypatch)
    shelf.index(folder)
    np.testing.assert_equal(vectors(shelf), {"1.png": before["2.png"], "2.png": before["1.png"]})


def test_a_copy_is_not_embedded_and_the_record_of_the_original_stays(folder, shelf, monkeypatch):
    original = picture(folder / "1.png")
    shelf.index(folder)
    copies = [folder / "0.png", folder / "2.png"]
    for copy in copies:
        copy.write_bytes(original.read_bytes())
    forbid_embedding(monkeypatch)
    assert shelf.index(folder) == (0, 1, [])
    assert shelf.report.reused == 2
    assert shelf.ids() == sorted(map(str, [original, *copies]))


def test_of_many_equal_files_those_that_moved_are_moved_and_the_others_stay(folder, shelf):
    paths = [picture(folder / f"{i}.png", seed=0) for i in range(4)]
    shelf.index(folder)
    paths[1].rename(folder / "a.png")
    paths[2].rename(folder / "b.png")
    assert shelf.index(folder) == (0, 2, [])
    assert shelf.ids() == [str(folder / name) for name in ("0.png", "3.png", "a.png", "b.png")]


def test_an_equal_record_of_another_program_gives_its_vectors_and_stays(folder, shelf, monkeypatch):
    path = picture(folder / "1.png")
    shelf.index(folder)
    (record,) = shelf.store.get([str(path)])
    shelf.store.delete([str(path)])
    shelf.store.upsert([dataclasses.replace(record, record_id="mine")])
    forbid_embedding(monkeypatch)
    assert shelf.index(folder) == (0, 0, [])
    assert shelf.ids() == [str(path), "mine"]


def test_a_moved_file_that_was_changed_as_well_is_embedded(folder, shelf):
    shelf.index(picture(folder / "1.png", seed=1))
    (folder / "1.png").unlink()
    picture(folder / "2.png", seed=2)
    assert shelf.index(folder) == (1, 0, [])
    assert shelf.report.reused == 0


def test_a_moved_file_whose_new_record_cannot_be_written_keeps_its_old_one(folder, shelf, monkeypatch):
    path = picture(folder / "1.png")
    shelf.index(folder)
    path.rename(folder / "2.png")

    def refuse(_):
        raise StoreUnavailableError("not now")

    monkeypatch.setattr(shelf.store, "upsert", refuse)
    with pytest.raises(StoreUnavailableError):
        shelf.index(folder)
    assert shelf.ids() == [str(path)]


def test_one_more_file_does_not_read_the_collection(folder, shelf, monkeypatch):
    for i in range(3):
        picture(folder / f"{i}.png", seed=i)
    shelf.index(folder)
    new = picture(folder / "new.png", seed=9)
    scroll, asked = shelf.store.scroll, []

    def note(**options):
        asked.append(options)
        return scroll(**options)

    monkeypatch.setattr(shelf.store, "scroll", note)
    assert shelf.index(new) == (1, 0, [])
    assert [list(options["where"]["content_hash"]["in"]) for options in asked] == [
        [shelf.store.get([str(new)])[0].content_hash]
    ]


def test_no_vector_is_read_where_nothing_has_moved(folder, shelf, monkeypatch):
    for i in range(3):
        picture(folder / f"{i}.png", seed=i)
    shelf.index(folder)
    (folder / "0.png").unlink()
    get = shelf.store.get

    def without_vectors(ids, *, vectors=True):
        assert not vectors
        return get(ids, vectors=False)

    monkeypatch.setattr(shelf.store, "get", without_vectors)
    assert shelf.index(folder) == (0, 2, [])
    assert shelf.missing() == [str(folder / "0.png")]


def gallery(folder, count=30):
    return [picture(folder / f"{i:02}.png", seed=i) for i in range(count)]


def test_a_few_files_of_many_can_be_removed_without_a_second_word(folder, shelf):
    paths = gallery(folder)
    shelf.index(folder)
    for path in paths[:3]:
        path.unlink()
    shelf.index(folder)
    assert shelf.missing() == [str(path) for path in paths[:3]]
    assert shelf.reasons() == []
    paths[3].unlink()
    shelf.index(folder)
    assert shelf.reasons() == ["4 of the 30 records are more than a tenth of the collection"]


def test_an_empty_root_is_a_reason_to_keep_few_records_of_many(folder, shelf):
    gallery(folder / "many")
    drive = picture(folder / "drive" / "1.png", seed=99).parent
    shelf.index(folder / "many", drive)
    (drive / "1.png").unlink()
    (drive / ".not_mounted").touch()
    shelf.index(folder / "many", drive)
    assert shelf.reasons() == [f"{str(drive)!r} contains no picture and no text now: 1 records are from there"]


def test_an_empty_folder_below_a_root_may_be_a_drive(folder, shelf):
    gallery(folder)
    picture(folder / "drive" / "a" / "1.png", seed=99)
    shelf.index(folder)
    (folder / "drive" / "a" / "1.png").unlink()
    (folder / "drive" / "a").rmdir()
    shelf.index(folder)
    assert shelf.reasons() == [f"{str(folder / 'drive')!r} is empty now: 1 records are from there"]
    (folder / "drive").rmdir()  # a deleted folder is no empty folder
    shelf.index(folder)
    assert (len(shelf.missing()), shelf.reasons()) == (1, [])


def test_a_folder_where_drives_are_mounted_is_a_reason(folder, shelf, monkeypatch):
    gallery(folder / "media" / "me" / "disk")
    shutil.copytree(folder / "media" / "me" / "disk", folder / "media" / "me" / "usb")
    for i in range(3):
        picture(folder / "media" / "me" / "usb" / f"{i:02}.png", seed=1000 + i)
    for path in (folder / "media" / "me" / "usb").glob("[0-2][3-9].png"):
        path.unlink()
    shelf.index(folder)
    monkeypatch.setattr(pruning, "_FOLDERS_OF_DRIVES", (str(folder / "media"),))
    (folder / "media" / "me" / "usb" / "00.png").unlink()
    shelf.index(folder)
    assert shelf.reasons() == []
    shutil.rmtree(folder / "media" / "me" / "usb")
    shelf.index(folder)
    assert any("is where drives are mounted" in reason for reason in shelf.reasons())


def test_a_root_that_is_gone_is_named_as_it_was(folder, shelf, monkeypatch):
    gallery(folder / "many")
    drive = picture(folder / "drive" / "1.png", seed=99).parent
    (folder / "link").symlink_to(drive)
    shelf.index(folder / "many", folder / "link")
    shutil.rmtree(drive)
    monkeypatch.chdir(folder)
    for name in (drive, "drive", "many/../drive", "link", drive / "1.png"):
        with pytest.raises(EmbedInputError, match="does not exist"):
            find_files([name])
        shelf.index(folder / "many", name, allow_gone=True)
        assert shelf.missing() == [str(drive / "1.png")]
        (reason,) = shelf.reasons()
        assert reason.endswith("does not exist: 1 records are from there")


def test_a_root_that_cannot_be_read_is_refused_even_if_it_may_be_gone(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(EmbedInputError, match="Permission denied"):
        find_files([folder / "nowhere"], allow_gone=True)


def test_a_link_to_nothing_keeps_its_record(folder, shelf):
    shelf.index(gallery(folder)[0])
    (folder / "00.png").rename(folder / "there")
    (folder / "00.png").symlink_to(folder / "nowhere")
    shelf.index(folder)
    assert shelf.missing() == []


def encoded(format_name):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, format_name)
    return file.getvalue()


def left_out(found):
    return {Path(item.path).name: item.kind for item in found.left_out}


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(200)


@pytest.mark.usefixtures("without_extras")
def test_every_file_that_is_left_out_is_counted_by_its_kind(folder):
    picture(folder / "1.png")
    picture(folder / "links" / "there" / "1.png")
    for name in (
        "a.MOV",
        "b.mov",
        "c.pdf",
        "README",
        ".hidden.png",
        "Thumbs.db",
        "name. with a long end of many words",
    ):
        (folder / name).write_bytes(b"data")
    for name in ("IMG_1.HEIC", "IMG_2.heif", "DSC1.ARW", "new.jxl"):
        (folder / name).write_bytes(HEIC)
    for name in ("@eaDir", ".thumbnails", "Thumbs", "__MACOSX", ".Trash-1000", "#recycle", "lost+found", "a.lrdata"):
        picture(folder / name / "1.png")
    (folder / "links" / "up").symlink_to(folder)
    found = find_files([folder])
    assert names(found, folder) == ["1.png", "links/there/1.png"]
    heif, raw = "(needs pip install 'jclip-connectors[heif]')", "(needs pip install 'jclip-connectors[raw]')"
    assert left_out(found) == {
        "a.MOV": ".mov",
        "b.mov": ".mov",
        "c.pdf": ".pdf",
        "README": "without a known suffix",
        "name. with a long end of many words": "without a known suffix",
        ".hidden.png": "hidden",
        "IMG_1.HEIC": f".heic {heif}",
        "IMG_2.heif": f".heif {heif}",
        "DSC1.ARW": f".arw {raw}",
        "new.jxl": f".jxl {raw}",
        "up": "links to folders",
        **dict.fromkeys(
            ("Thumbs.db", "@eaDir", ".thumbnails", "Thumbs", "__MACOSX", ".Trash-1000", "#recycle", "lost+found",
             "a.lrdata"), "litter of other programs"
        ),
    }  # fmt: skip


def test_what_is_litter_or_hidden_is_found_if_it_is_named(folder):
    path = picture(folder / "@eaDir" / "1.png")
    found = find_files([folder, folder / "@eaDir"])
    assert found.files == (str(path),)
    hidden = picture(folder / ".a.png")
    found = find_files([folder, hidden])
    assert found.files == (str(hidden),)
    assert left_out(found) == {"@eaDir": "litter of other programs"}


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        ("*.gif", ["a/raw/4.gif"]),
        ("raw", ["a/raw", "raw"]),
        ("raw/", ["a/raw", "raw"]),
        ("a/*", ["a/2.png", "a/raw"]),
        ("./a/raw", ["a/raw"]),
        ("*/raw", ["a/raw"]),
        ("[12].png", ["1.png", "a/2.png"]),
        ("*.PNG", []),
    ],
)
def test_files_and_folders_are_excluded_by_a_pattern(folder, pattern, excluded):
    for name in ("1.png", "a/2.png", "a/raw/3.png", "raw/5.png", "b/6.png"):
        picture(folder / name)
    (folder / "a" / "raw" / "4.gif").write_bytes(encoded("GIF"))
    every = set(find_files([folder]).files)
    found = find_files([folder], exclude=[pattern])
    gone = tuple(str(folder / name) for name in excluded)
    assert sorted(item.path for item in found.left_out) == sorted(gone)
    assert set(found.files) == {path for path in every if not path.startswith(gone)}


def test_an_excluded_file_is_left_out_even_if_it_is_named_and_an_empty_pattern_is_refused(folder):
    path = picture(folder / "1.png")
    assert left_out(find_files([path], exclude=["1.*"])) == {"1.png": "excluded by '1.*'"}
    assert left_out(find_files([path], exclude=[str(path)])) == {"1.png": f"excluded by {str(path)!r}"}
    for empty in ("", "/"):
        with pytest.raises(EmbedInputError, match="empty pattern"):
            find_files([folder], exclude=[empty])


def test_the_usual_patterns_of_litter_are_public():
    assert {"@eaDir", ".thumbnails", "Thumbs"} <= set(LITTER)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP"])
def test_a_picture_is_known_by_its_first_bytes_if_its_suffix_is_wrong(folder, shelf, format_name):
    for name in ("IMG_0001", "a.tmp", "b.heic", "c.txt", "d.png", "e.jpg_large"):
        (folder / name).write_bytes(encoded(format_name) + name.encode())
    assert shelf.index(folder) == (6, 0, [])
    assert {record.modality for record in shelf.store.scroll()} == {"image"}


@pytest.mark.parametrize("text", ["BM is the mark of a bitmap, which this is not", "GIF87 was first", "II*"])
def test_a_text_that_begins_like_a_picture_is_a_text(folder, shelf, text):
    (folder / "a.txt").write_text(text)
    (folder / "README").write_text(text)
    assert shelf.index(folder) == (1, 0, [])
    assert left_out(shelf.found) == {"README": "without a known suffix"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "it is a web page"),
        (b"%PDF-1.7\n", "it is a PDF document"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "it is a video"),
        (bytes(5000), "it is a file of zeros"),
    ],
)
def test_a_named_file_that_is_no_picture_is_told_what_it_is(folder, content, told):
    (folder / "1.bin").write_bytes(content)
    assert told in find_files([folder / "1.bin"]).failed[0].error


@pytest.mark.usefixtures("without_extras")
def test_a_picture_whose_package_is_missing_is_left_out_by_its_suffix_and_fails_under_another(folder, shelf):
    (folder / "a.heic").write_bytes(HEIC)
    (folder / "IMG_0001").write_bytes(HEIC)
    shelf.index(folder)
    assert left_out(shelf.found) == {"a.heic": ".heic (needs pip install 'jclip-connectors[heif]')"}
    assert [bad.path for bad in shelf.report.failed] == [str(folder / "IMG_0001")]


def test_a_pointer_in_the_place_of_a_text_is_not_indexed(folder, shelf):
    (folder / "a.md").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert shelf.index(folder) == (0, 0, [str(folder / "a.md")])
    assert "git lfs pull" in shelf.report.failed[0].error


@pytest.mark.usefixtures("without_extras")
def test_a_named_file_of_another_kind_is_told_what_it_is(folder):
    (folder / "a.heic").write_bytes(HEIC)
    (folder / "a.bin").write_bytes(b"%PDF-1.7")
    os.mkfifo(folder / "pipe")
    errors = [bad.error for bad in find_files([folder / "a.heic", folder / "a.bin", folder / "pipe"]).failed]
    assert errors[0] == "needs pip install 'jclip-connectors[heif]'"
    assert errors[1].endswith("it is a PDF document")
    assert "the type is not one of" in errors[2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["a red triangle", "\u0438\u0434\u0442", "\u8d64\u3044\u4e09\u89d2\u5f62", "a\nb"])
def test_a_text_is_read_in_the_encoding_that_its_mark_tells(folder, shelf, encoding, text):
    (folder / "a.txt").write_bytes(("\ufeff" + text).encode(encoding))
    assert shelf.index(folder) == (1, 0, [])
    assert [record.content for record in shelf.store.scroll()] == [text]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["a red triangle", "\u043f\u0440\u0438\u0432\u0435\u0442", "Gr\u00fc\u00dfe", "hi"])
def test_a_wide_text_without_a_mark_is_refused_with_what_to_do(folder, shelf, encoding, text):
    (folder / "a.txt").write_bytes(text.encode(encoding))
    shelf.index(folder)
    assert [bad.error for bad in shelf.report.failed] == [
        "it looks like UTF-16 or UTF-32 without a byte order mark: save it as UTF-8"
    ]


@pytest.mark.parametrize("content", [b"a red\0\x08\x1b[31m triangle", b"a\n\n\n\n", b"abc\x0c\x0cdef", b"x"])
def test_a_text_with_some_controls_is_a_text(folder, shelf, content):
    (folder / "a.txt").write_bytes(content)
    assert shelf.index(folder) == (1, 0, [])


@pytest.mark.parametrize("content", [b"\xff\xfea", b"\xff\xfe\x00\xd8", b"\xff\xfe\0\0abc"])
def test_a_damaged_wide_text_is_refused(folder, shelf, content):
    (folder / "a.txt").write_bytes(content)
    shelf.index(folder)
    assert "but is not text in UTF-" in shelf.report.failed[0].error


@pytest.mark.parametrize("text", ["", "\n", "\u00a0", "\u3000", "\u200b\u200d", "\ufeff", "\u3164", "\u2800", "\ufe0f"])
def test_a_text_that_shows_nothing_is_empty(folder, shelf, text):
    assert is_blank(text)
    (folder / "a.txt").write_text(text, encoding="utf-8")
    shelf.index(folder)
    assert [bad.error for bad in shelf.report.failed] == ["the text is empty"]


@pytest.mark.parametrize("text", ["a", "\u0301", "\U0001f44d", "\ue000", " x "])
def test_a_text_that_shows_something_is_not_blank(text):
    assert not is_blank(text)
