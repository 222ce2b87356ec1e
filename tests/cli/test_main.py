"""The command line, run as it is run, with the bundled model."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.core import TyperGroup
from typer.testing import CliRunner

from core_encoder import resampling
from core_encoder.errors import ConfigError
from core_encoder.models import KNOWN_MODELS
from core_encoder.nano.scenes import Scene, SceneObject, draw_canvas, draw_scene
from core_encoder.tiling import Tiling
from jclip_connectors.cli import (
    collection_commands,
    contact_sheet,
    demo,
    options,
    progress_bar,
    reports,
    search_command,
    terminal,
)
from jclip_connectors.cli import commands as cli
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.errors import StoreUnavailableError
from jclip_connectors.indexing import BadFile, LeftOut
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import SearchHit
from tests.checkpoints import write_v2
from tests.forked import Program

CIRCLE = SceneObject(shape="circle", colour="red", size="large", place="centre")
STAR = SceneObject(shape="star", colour="yellow", size="large", place="top left")


def jclip(*arguments, code=0):
    """Run a command; its output, its messages."""
    words = list(map(str, arguments))
    result = CliRunner().invoke(cli.make_app(words), words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def refusal(*arguments):
    """Run a command that must be refused in one line; the line."""
    out, message = jclip(*arguments, code=2)
    assert out == ""
    assert message.count("\n") == 1
    assert message.startswith("error: ")
    return message


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("JCLIP_MODEL", "JCLIP_DIMENSIONS", "JCLIP_TILES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    draw_scene(Scene(objects=(CIRCLE,)), seed=1).image.save(folder / "circle.png")
    draw_scene(Scene(objects=(STAR,)), seed=2).image.save(folder / "more" / "star.png")
    return folder


@pytest.fixture
def collection(tmp_path, photos):
    jclip("index", photos, "--collection", tmp_path / "photos.jclip", "--model", "nano")
    return tmp_path / "photos.jclip"


def test_help_and_models_load_neither_torch_nor_a_store():
    code = (
        "import sys\nfrom jclip_connectors.cli.commands import make_app\n"
        "for command in ('--help', 'models'):\n    make_app([command])([command], standalone_mode=False)\n"
        "print('loaded', [name for name in ('torch', 'transformers', 'qdrant_edge') if name in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout  # noqa: S603 (ourselves)
    assert "--help" in out
    assert out.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("command", ["demo", "index", "search", "models", "verify"])
def test_every_command_explains_itself(command):
    assert "--help" in jclip(command, "--help")[0]


def test_no_command_prints_the_help():
    assert "index" in "".join(jclip(code=2))


def test_what_is_indexed_is_found_without_naming_the_model_again(photos, collection):
    hits = json.loads(jclip("search", "a large yellow star at the top left", "--collection", collection, "--json")[0])
    assert [hit["id"] for hit in hits] == [str(photos / "more" / "star.png"), str(photos / "circle.png")]
    assert hits[0]["score"] > hits[1]["score"]
    names = {"score", "rank_score", "id", "modality", "uri", "box", "metadata", "content", "content_hash", "duplicates"}
    assert hits[0].keys() == names
    assert hits[0]["metadata"]["name"] == "star.png"
    assert (hits[0]["uri"], hits[0]["modality"], hits[0]["box"]) == (hits[0]["id"], "image", None)


def test_the_table_names_files_by_rank(photos, collection):
    out, _ = jclip("search", "ein großer roter Kreis in der Mitte", "--collection", collection, "--limit", 1)
    (row,) = [line.split() for line in out.splitlines() if "circle.png" in line]
    assert row[0] == "1"
    assert re.fullmatch(r"0\.\d{4}", row[1])
    assert row[2] == str(photos / "circle.png")
    assert "star.png" not in out


def test_a_picture_can_be_searched_for(tmp_path, photos, collection):
    draw_scene(Scene(objects=(STAR,)), seed=99).image.save(tmp_path / "query.png")
    out, _ = jclip("search", "--image", tmp_path / "query.png", "--collection", collection, "--json")
    assert json.loads(out)[0]["id"] == str(photos / "more" / "star.png")


def test_a_filter_narrows_the_search(photos, collection):
    where = json.dumps({"folder": str(photos / "more")})
    out, _ = jclip("search", "a red circle", "--collection", collection, "--json", "--where", where)
    assert [hit["metadata"]["name"] for hit in json.loads(out)] == ["star.png"]


def test_tiles_are_remembered_and_the_nearest_one_is_shown(tmp_path):
    item = SceneObject(shape="cross", colour="white", size="small", place="centre")
    drawing = draw_canvas(item, seed=3)
    (tmp_path / "a").mkdir()
    drawing.image.save(tmp_path / "a" / "canvas.png")
    jclip("index", tmp_path / "a", "--collection", tmp_path / "c", "--model", "nano", "--tiles", 16)
    arguments = ("search", "a small white cross", "--collection", tmp_path / "c", "--html", tmp_path / "page.html")
    left, top, right, bottom = json.loads(jclip(*arguments, "--json")[0])[0]["box"]
    rows, columns = np.nonzero(drawing.owner == 0)
    assert left <= columns.min() < columns.max() < right
    assert top <= rows.min() < rows.max() < bottom
    assert f"{left}, {top}, {right}, {bottom}" in jclip(*arguments)[0]
    assert f"left:{100 * left / 288:.2f}%;top:{100 * top / 288:.2f}%" in (tmp_path / "page.html").read_text()


def test_texts_are_indexed_beside_pictures(tmp_path, photos):
    (photos / "note.txt").write_text("ein kleines grünes Herz", encoding="utf-8")
    _, message = jclip("index", photos, "--collection", tmp_path / "c", "--model", "nano")
    assert "3 indexed, 0 unchanged, 0 failed" in message
    search = ("search", "ein kleines grünes Herz", "--collection", tmp_path / "c", "--html", tmp_path / "page.html")
    (hit,) = [hit for hit in json.loads(jclip(*search, "--json")[0]) if hit["modality"] == "text"]
    assert hit["content"] == "ein kleines grünes Herz"
    assert hit["id"] == str(photos / "note.txt")
    assert str(photos / "note.txt") in jclip(*search)[0]
    assert "ein kleines grünes Herz" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_second_run_skips_what_has_not_changed(photos, collection):
    draw_scene(Scene(), seed=3).image.save(photos / "new.png")
    _, message = jclip("index", photos, photos / "more", "--collection", collection)
    assert "3 files; model nano (Apache-2.0)" in message
    assert "3 of 3 files" in message
    assert "1 indexed, 2 unchanged, 0 failed" in message


def test_bad_files_are_named_reported_and_the_rest_is_indexed(tmp_path, photos):
    for i in range(12):
        (photos / f"bad {i:02}.jpg").write_bytes(b"no picture")
    (photos / "circle.png").rename(photos / "\x1b[31mred\n.png")
    index = ("index", photos, "--collection", tmp_path / "c", "--model", "nano", "--report", tmp_path / "bad.jsonl")
    _, message = jclip(*index, code=1)
    assert "2 indexed, 0 unchanged, 12 failed" in message
    assert message.count("is not an image in an allowed format") == 10
    assert f"and 2 more; all of them are in {tmp_path / 'bad.jsonl'}" in message
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(photos / f"bad {i:02}.jpg") for i in range(12)]
    assert all("is not an image" in line["error"] for line in lines)
    assert "\x1b" not in jclip("search", "x", "--collection", tmp_path / "c")[0]
    for bad in photos.glob("bad*"):
        bad.unlink()
    jclip(*index)
    assert (tmp_path / "bad.jsonl").read_text() == ""


@pytest.mark.usefixtures("without_extras")
def test_what_is_left_out_is_counted_and_listed(tmp_path, photos):
    for name in ("IMG_1.HEIC", "IMG_2.HEIC", "IMG_2.MOV"):
        (photos / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (photos / "@eaDir").mkdir()
    index = (
        "index",
        photos,
        "--collection",
        tmp_path / "c",
        "--model",
        "nano",
        "--exclude",
        "more",
        "--exclude",
        "x/*",
    )
    _, message = jclip(*index)
    assert "left out: 2 .heic (needs pip install 'jclip-connectors[heif]'), 1 " in message
    for kind in ("1 .mov", "1 litter of other programs", "1 excluded by 'more'"):
        assert kind in message
    assert "--report FILE.jsonl lists them" in message
    assert "warning: --exclude 'x/*' has excluded nothing" in message
    assert f"they are listed in {tmp_path / 'r'}" in jclip(*index, "--report", tmp_path / "r")[1]
    lines = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert {Path(line["path"]).name: line["left_out"] for line in lines} == {
        "IMG_1.HEIC": ".heic (needs pip install 'jclip-connectors[heif]')",
        "IMG_2.HEIC": ".heic (needs pip install 'jclip-connectors[heif]')",
        "IMG_2.MOV": ".mov",
        "@eaDir": "litter of other programs",
        "more": "excluded by 'more'",
    }


def test_files_of_which_only_a_part_counts_are_told_once_in_a_run(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (400, 100), (number, 0, 0)).save(folder / f"wide{number}.png")
    frames = [Image.new("RGB", (50, 50), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    (folder / "short.txt").write_text("a red circle")
    for name in ("novel.txt", "again.txt"):
        (folder / name).write_text("a red circle " * 4000 + name)
    index = ("index", folder, "--model", "nano", "--batch-size", 2, "--report", tmp_path / "r", "--collection")
    _, message = jclip(*index, tmp_path / "c")
    notes = [line for line in message.splitlines() if line.startswith(("note", "warning"))]
    assert len(notes) == 4
    (wide,) = [line for line in notes if "centre square" in line]
    assert wide.startswith("note: 5 pictures: ")
    assert "--tiles" in wide
    assert f"({folder / 'wide0.png'}, {folder / 'wide1.png'}, {folder / 'wide2.png'} and 2 more)" in wide
    (cut,) = [line for line in notes if "8192 tokens" in line]
    assert cut.startswith("note: 2 texts: ")
    assert cut.endswith(f"({folder / 'again.txt'}, {folder / 'novel.txt'})")
    assert any("first frame" in line and "moving.gif" in line for line in notes)
    assert any("first page" in line and "pages.tif" in line for line in notes)
    told = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert sorted(Path(entry["path"]).name for entry in told if "note" in entry) == sorted(
        [f"wide{number}.png" for number in range(5)] + ["moving.gif", "pages.tif", "novel.txt", "again.txt"]
    )
    assert "note" not in jclip(*index, tmp_path / "c")[1]  # nothing is embedded again
    assert "centre square" not in jclip(*index, tmp_path / "tiled", "--tiles", 4, "--exclude", "*.txt")[1]


def test_many_kinds_of_files_are_summed_up(capsys):
    kinds = [f".{number:02}" for number in range(12) for _ in range(20 - number)]
    terminal.say_left_out([LeftOut(path="a", kind=kind) for kind in kinds], None)
    message = capsys.readouterr().err
    assert message.startswith("left out: 20 .00, 19 .01, ")
    assert "11 .09, 19 of 2 more kinds; --report" in message


def names_in(collection):
    hits = json.loads(jclip("search", "x", "--collection", collection, "--json", "--limit", 10**9)[0])
    return sorted(hit["metadata"]["name"] for hit in hits)


@pytest.fixture
def many(photos):
    (photos / "texts").mkdir()
    for number in range(18):
        (photos / "texts" / f"{number}.txt").write_text(f"note {number}")
    return photos


def test_records_without_a_file_are_removed_when_asked(tmp_path, many):
    index = ("index", many, "--collection", tmp_path / "c", "--model", "nano")
    jclip(*index)
    (many / "circle.png").unlink()
    (many / "texts" / "0.txt").unlink()
    assert "removed" not in jclip(*index)[1]
    assert "circle.png" in names_in(tmp_path / "c")
    assert "2 records removed" in jclip(*index, "--prune")[1]
    assert "records" not in jclip(*index, "--prune")[1]
    assert len(names_in(tmp_path / "c")) == 18


def test_a_folder_that_is_empty_because_a_drive_is_not_mounted_loses_nothing(tmp_path, many):
    index = ("index", many, "--collection", tmp_path / "c", "--model", "nano")
    jclip(*index)
    before = names_in(tmp_path / "c")
    many.rename(tmp_path / "away")
    many.mkdir()
    _, message = jclip(*index, "--prune", code=1)
    assert "nothing was removed" in message
    assert f"{str(many)!r} contains no picture and no text now: 20 records are from there" in message
    assert "20 of the 20 records are more than a tenth of the collection" in message
    assert f"  {many / 'circle.png'}\n" in message
    assert "  and 10 more\n" in message
    assert "--prune --prune-anyway" in message
    assert names_in(tmp_path / "c") == before
    assert "20 records removed" in jclip(*index, "--prune", "--prune-anyway")[1]
    assert names_in(tmp_path / "c") == []


def test_what_was_added_before_a_refused_removal_stays(photos, collection):
    (photos / "circle.png").unlink()
    (photos / "new.txt").write_text("a note")
    _, message = jclip("index", photos, "--collection", collection, "--prune", code=1)
    assert "1 indexed, 1 unchanged, 0 failed" in message
    assert names_in(collection) == ["circle.png", "new.txt", "star.png"]


def test_a_folder_that_is_gone_is_pruned_by_its_name_and_a_second_word(tmp_path, photos, collection):
    index = ("index", photos, "--collection", collection)
    photos.rename(tmp_path / "away")
    assert "does not exist" in refusal(*index)
    assert "does not exist: 2 records" in jclip(*index, "--prune", code=1)[1]
    assert "2 records removed" in jclip(*index, "--prune", "--prune-anyway")[1]
    assert names_in(collection) == []


def test_pruning_needs_a_collection_and_the_second_word_needs_the_first(tmp_path, photos):
    nowhere = ("index", tmp_path / "nowhere", "--collection", tmp_path / "c", "--model", "nano", "--prune")
    assert "there is no collection" in refusal(*nowhere)
    assert not (tmp_path / "c").exists()
    arguments = ("index", photos, "--collection", tmp_path / "c", "--prune-anyway")
    assert "no effect without --prune" in jclip(*arguments, code=2)[1]


def test_a_moved_file_is_told_and_not_embedded_again(photos, collection):
    (photos / "circle.png").rename(photos / "more" / "moved.png")
    _, message = jclip("index", photos, "--collection", collection)
    assert "0 indexed, 1 moved or copied, 1 unchanged, 0 failed" in message
    assert names_in(collection) == ["moved.png", "star.png"]


def test_an_empty_folder_makes_an_empty_collection(tmp_path):
    (tmp_path / "empty").mkdir()
    _, message = jclip("index", tmp_path / "empty", "--collection", tmp_path / "c", "--model", "nano")
    assert "0 indexed, 0 unchanged, 0 failed" in message
    out, _ = jclip("search", "x", "--collection", tmp_path / "c", "--json", "--html", tmp_path / "page.html")
    assert json.loads(out) == []
    assert "Nothing was found" in (tmp_path / "page.html").read_text()


def test_options_beat_the_environment_and_that_beats_defaults(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("JCLIP_MODEL", "nano")
    monkeypatch.setenv("JCLIP_DIMENSIONS", "64")
    monkeypatch.setenv("JCLIP_TILES", "4")
    jclip("index", photos, "--collection", tmp_path / "c", "--dimensions", 32)
    fingerprint = json.loads((tmp_path / "c" / "collection.json").read_text())["fingerprint"]
    assert (fingerprint["model"], fingerprint["dimensions"]) == ("nano", 32)
    assert fingerprint["tiling"] == "max_tiles=4"
    monkeypatch.delenv("JCLIP_MODEL")
    for command in (("index", photos), ("search", "x")):  # the collection knows its model better, and says so
        _, message = jclip(*command, "--collection", tmp_path / "c")
        assert "JCLIP_DIMENSIONS is '64' and has no effect" in message
        assert "JCLIP_TILES" not in message


def test_options_that_contradict_the_collection_are_refused(photos, collection):
    index = ("index", photos, "--collection", collection)
    assert "`dimensions` 128 (now 64)" in jclip(*index, "--dimensions", 64, code=2)[1]
    assert "made with the model 'nano', not 'a/b'" in refusal(*index, "--model", "a/b")


def test_a_model_in_a_folder_is_named_again_to_search(tmp_path, photos):
    write_v2(tmp_path / "checkpoint", seed=1)
    write_v2(tmp_path / "other", seed=2)
    jclip("index", photos, "--collection", tmp_path / "c", "--model", tmp_path / "checkpoint")
    search = ("search", "x", "--collection", tmp_path / "c", "--json")
    assert "in a folder 'checkpoint'" in refusal(*search)
    assert "`model` 'checkpoint' (now 'other')" in refusal(*search, "--model", tmp_path / "other")
    assert len(json.loads(jclip(*search, "--model", tmp_path / "checkpoint")[0])) == 2


@pytest.mark.parametrize(
    "config",
    [
        EmbeddingConfig(),
        EmbeddingConfig(model="nano", resampling="fast", tiling=Tiling(max_tiles=5)),
        EmbeddingConfig(model="jinaai/jina-clip-v1", revision="0" * 40, dimensions=7, max_tokens=9),
        EmbeddingConfig(model="a/b", revision="0" * 40, normalize=False, resize_mode="squash", rendering="as_stored"),
    ],
)
def test_a_fingerprint_gives_a_configuration_with_that_fingerprint(config):
    rebuilt = EmbeddingConfig.from_fingerprint(json.loads(json.dumps(config.fingerprint())))
    assert rebuilt.fingerprint() == config.fingerprint()
    assert rebuilt.tiling == config.tiling
    assert rebuilt.model == config.model


@pytest.mark.parametrize("change", [{"tiling": "max_tiles=?"}, {"tiling": "shape=3"}, {"new": 1}])
def test_a_fingerprint_of_another_version_is_refused(change):
    with pytest.raises(ConfigError):
        EmbeddingConfig.from_fingerprint({**EmbeddingConfig().fingerprint(), **change})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("{", "--where is not JSON"),
        ("[" * 100_000, "--where is not JSON"),
        ("null", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ('{"a": {"like": 1}}', "unknown operator 'like' of 'a'"),
        ('{"a": {"gt": "b"}}', "compares numbers"),
        ('{"a": NaN}', "which metadata cannot contain"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(collection, where, message):
    assert message in refusal("search", "x", "--collection", collection, "--where", where)


def test_what_is_no_collection_is_refused_and_left_alone(tmp_path, photos):
    assert "jclip index FOLDER" in refusal("search", "x", "--collection", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert "other files" in jclip("index", photos, "--collection", photos, "--model", "nano", code=2)[1]
    for command in (("index", photos), ("search", "x")):
        assert "is a file" in jclip(*command, "--collection", photos / "circle.png", code=2)[1]
    assert sorted(path.name for path in photos.iterdir()) == ["circle.png", "more"]


def test_a_damaged_collection_is_refused(collection):
    (collection / "collection.json").write_text("{}")
    assert "format" in refusal("search", "x", "--collection", collection)


def test_a_collection_in_use_is_not_changed_but_searched(photos, collection):
    with QdrantEdgeStore.open(collection, EmbeddingConfig(model="nano")):
        assert "open elsewhere" in jclip("index", photos, "--collection", collection, code=2)[1]
        assert "star.png" in jclip("search", "x", "--collection", collection)[0]  # reading is allowed


def test_a_missing_folder_is_refused_before_a_collection_is_made(tmp_path):
    assert "nowhere" in refusal("index", tmp_path / "nowhere", "--collection", tmp_path / "c", "--model", "nano")
    assert not (tmp_path / "c").exists()


def test_a_model_that_cannot_be_loaded_makes_no_collection(tmp_path, photos):
    index = ("index", photos, "--collection", tmp_path / "c", "--model")
    assert "neither a folder, nor a hub id" in jclip(*index, "nonsense", code=2)[1]
    assert "only 128" in refusal(*index, "nano", "--dimensions", 129)
    assert "torch does not know it" in jclip(*index, "nano", "--device", "abacus", code=2)[1]
    assert not (tmp_path / "c").exists()


def test_a_result_that_could_not_be_written_is_refused_before_the_work(tmp_path, photos, collection):
    nowhere = tmp_path / "nowhere" / "file"
    assert "no folder" in refusal("index", photos, "--collection", collection, "--report", nowhere)
    assert "no folder" in refusal("search", "x", "--collection", collection, "--html", nowhere)


def test_a_query_is_a_text_or_a_picture(tmp_path, photos, collection):
    search = ("search", "--collection", collection)
    for arguments in ((), ("x", "--image", photos / "circle.png")):
        assert "a picture with --image" in jclip(*search, *arguments, code=2)[1]
    (tmp_path / "bad.png").touch()
    assert "cannot be embedded" in refusal(*search, "--image", tmp_path / "bad.png")
    assert "does not exist" in jclip(*search, "--image", tmp_path / "none.png", code=2)[1]


def test_an_unknown_variable_is_refused(collection, monkeypatch):
    monkeypatch.setenv("JCLIP_MODLE", "nano")
    assert "JCLIP_MODLE" in refusal("search", "x", "--collection", collection)


def full(*_, **__):
    raise OSError(28, "No space left on device", "page.html")


def test_results_are_printed_even_if_their_page_cannot_be_written(photos, collection, tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "write_contact_sheet", full)
    out, message = jclip("search", "x", "--collection", collection, "--html", tmp_path / "page.html", code=2)
    assert str(photos / "circle.png") in out
    assert message == "error: page.html: No space left on device\n"


def test_the_result_of_a_run_is_told_even_if_the_report_cannot_be_written(photos, collection, tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "replace_file", full)
    (photos / "note.txt").write_text("a note")
    _, message = jclip("index", photos, "--collection", collection, "--report", tmp_path / "r", code=2)
    assert "1 indexed, 2 unchanged, 0 failed" in message
    assert message.endswith("error: page.html: No space left on device\n")


def test_a_picture_is_not_overwritten_by_a_result(photos, collection):
    picture = photos / "circle.png"
    before = picture.read_bytes()
    for command in (("index", photos, "--report"), ("search", "--image", picture, "--html")):
        assert "it is a picture" in refusal(*command, picture, "--collection", collection)
    assert picture.read_bytes() == before


def test_a_result_that_has_no_place_is_refused_before_the_model_is_loaded(tmp_path, photos, collection, monkeypatch):
    monkeypatch.setattr(options, "open_collection", None)
    monkeypatch.setattr(collection_commands, "open_collection", None)
    monkeypatch.setattr(search_command, "open_collection", None)
    name = "n" * 300
    assert "too long" in refusal("index", photos, "--collection", collection, "--report", tmp_path / name)
    assert "too long" in refusal("search", "x", "--collection", collection, "--html", tmp_path / name)
    assert list(tmp_path.glob("n*")) == []


def test_what_can_be_known_without_the_model_is_checked_before_it_is_fetched(tmp_path, photos, collection, monkeypatch):
    monkeypatch.setattr("jclip_connectors.local.LocalEmbedder.__init__", None)
    assert "`dimensions` 128 (now 64)" in refusal_after("index", photos, "--collection", collection, "--dimensions", 64)
    new = ("index", photos, "--collection", tmp_path / "new", "--model", "owner/name")
    assert "needs a commit of 40 hex digits" in refusal_after(*new)
    monkeypatch.setenv("JCLIP_REVISION", "main")
    assert "`revision` is 'main'" in refusal_after(*new)
    assert not (tmp_path / "new").exists()


def refusal_after(*arguments):
    """Run a command that must be refused after it has told the number of files; its last line."""
    return jclip(*arguments, code=2)[1].splitlines()[-1]


def test_paths_are_printed_for_other_programs(photos, collection):
    search = ("search", "a red circle", "--collection", collection)
    found = [str(photos / "circle.png"), str(photos / "more" / "star.png")]
    assert jclip(*search, "--paths")[0] == "".join(f"{path}\n" for path in found)
    assert jclip(*search, "-0")[0] == jclip(*search, "--print0")[0] == "".join(f"{path}\0" for path in found)
    for pair in (("--paths", "-0"), ("--json", "--paths"), ("--json", "-0")):
        assert "choose one" in jclip(*search, *pair, code=2)[1]


ODD_NAMES = [
    "new\nline", "esc\x1b[31mred", "\u0434\u043e\u043c", "\u05e9\u05dc\u05d5\u05dd", "\u2066rtl\u202e",
    "\U0001f469\u200d\U0001f680", "a\u3000b",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_path_in_a_pipe_is_the_path(tmp_path, name):
    path = tmp_path / "d" / f"{name}.txt"
    path.parent.mkdir()
    path.write_text("a note")
    jclip("index", path.parent, "--collection", tmp_path / "c", "--model", "nano")
    search = ("search", "x", "--collection", tmp_path / "c")
    assert jclip(*search, "-0")[0] == f"{path}\0"
    assert json.loads(jclip(*search, "--json")[0])[0]["id"] == str(path)
    row = jclip(*search)[0].splitlines()[3]
    assert "\x1b" not in row
    if not any(c in name for c in "\n\x1b"):
        assert str(path) in row


@pytest.mark.parametrize(
    ("text", "person", "pipe"),
    [
        ("a\nb\r\x1b[0m\x7f\x85", "a\\nb\\r\\x1b[0m\\x7f\\x85", None),
        ("\u2028\udcff", "\\u2028\\udcff", None),
        ("gpj.\u202ea", "gpj.\\u202ea", "gpj.\u202ea"),
        ("\u05e9\u05dc\u05d5\u05dd \u8d64 \u00a0\u3000 \u0646\u200c\u0645", None, None),
        ("\U0001f469\u200d\U0001f680 e\u0301", None, None),
    ],
)  # fmt: skip
def test_only_characters_that_could_do_harm_are_escaped(text, person, pipe):
    shown = text if person is None else person
    assert terminal.printable(text, terminal=True) == shown
    assert terminal.printable(text, terminal=False) == (shown if pipe is None else pipe)


def test_a_colour_that_is_forced_into_a_pipe_cuts_nothing(tmp_path, monkeypatch):
    folder = tmp_path / ("a folder with a long name " * 3) / ("and one more " * 15)
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a note")
    jclip("index", folder, "--collection", tmp_path / "c", "--model", "nano")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = jclip("search", "x", "--collection", tmp_path / "c")
    assert str(folder / "a.txt") in out
    _, message = jclip("index", folder, "--collection", tmp_path / "c")
    assert "1 of 1 files" in message  # lines, and no bar that moves the cursor
    assert "\x1b[?25l" not in message


@pytest.mark.parametrize("text", ["", " ", "\n", "\u00a0", "\u200b", "\t \u3000", "\ufeff"])
def test_a_blank_query_is_refused(collection, text):
    assert "blank" in jclip("search", text, "--collection", collection, code=2)[1]


def test_a_query_that_is_not_unicode_is_refused(collection):
    assert "surrogate" in refusal("search", "a\udcff", "--collection", collection)


def test_a_tilde_that_the_shell_leaves_is_the_home(tmp_path, photos, monkeypatch):
    assert photos == tmp_path / "photos"
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = (
        "index",
        "~/photos",
        "--collection=~/c",
        "--model",
        "nano",
        "--report=~/r.jsonl",
        "--exclude",
        "~/photos/more",
    )
    assert "1 indexed" in jclip(*arguments)[1]
    assert (tmp_path / "r.jsonl").exists()
    jclip("search", "--image=~/photos/circle.png", "--store=edge:~/c", "--html=~/page.html")
    assert (tmp_path / "page.html").exists()
    assert "does not exist" in jclip("search", "--image=~/none.png", "--collection=~/c", code=2)[1]
    assert "is a folder" in jclip("search", "--image=~/photos", "--collection=~/c", code=2)[1]


def test_an_interrupted_run_says_that_it_can_go_on(photos, collection, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(collection_commands, "index_files", interrupt)
    assert "indexed files are kept" in jclip("index", photos, "--collection", collection, code=130)[1]
    jclip("search", "x", "--collection", collection)  # and the collection is closed


def test_a_run_that_the_store_ends_says_how_much_is_kept(photos, tmp_path, monkeypatch):
    upsert = QdrantEdgeStore.upsert

    def write(store, records):
        if store.count():
            raise StoreUnavailableError("the disk is full")
        upsert(store, records)

    monkeypatch.setattr(QdrantEdgeStore, "upsert", write)
    arguments = ("index", photos, "--collection", tmp_path / "c", "--model", "nano", "--batch-size", 1)
    _, message = jclip(*arguments, code=2)
    assert "stopped after 1 of 2 files, which are kept: the same command continues" in message
    assert "error: the disk is full" in message
    monkeypatch.undo()
    assert "1 indexed, 1 unchanged" in jclip(*arguments)[1]


def test_verify_content_finds_a_change_that_kept_size_and_time(photos, tmp_path):
    path = photos / "a.txt"
    path.write_text("a red cat")
    os.utime(path, (1000, 1000))
    index = ("index", path, "--collection", tmp_path / "c", "--model", "nano")
    jclip(*index)
    path.write_text("a red dog")
    os.utime(path, (1000, 1000))
    assert "0 indexed, 1 unchanged" in jclip(*index)[1]
    assert "1 indexed, 0 unchanged" in jclip(*index, "--verify-content")[1]


def test_an_interrupt_of_another_command_is_one_line(collection, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(search_command, "open_collection", interrupt)
    assert jclip("search", "x", "--collection", collection, code=130) == ("", "stopped\n")
    monkeypatch.setattr(TyperGroup, "make_context", interrupt)  # while options are read
    assert jclip("search", "x", "--collection", collection, code=130) == ("", "stopped\n")


def test_an_interrupt_while_modules_are_imported_is_one_line(tmp_path):
    # A module that is imported in the first moment sends the signal, as a person could.
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    code = "from jclip_connectors.cli.main import main\nmain()"
    run = [sys.executable, "-c", code, "models"]
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=variables)  # noqa: S603 (ourselves)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_the_package_loads_little_before_an_interrupt_is_met():
    code = "import sys\nimport jclip_connectors.cli.main\nprint([n for n in ('numpy', 'typer') if n in sys.modules])"
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"  # noqa: S603 (ourselves)


def test_a_reader_that_stops_early_is_no_error(collection):
    command = f"{sys.executable} -m jclip_connectors.cli.main search x --paths --collection {collection} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 (ourselves)
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["index . --model nano --collection {}", "verify nano", "demo --folder {}"])
def test_a_missing_package_is_named_with_what_installs_it(tmp_path, command):
    without = "import sys; sys.modules['onnxruntime'] = sys.modules['torch'] = None"
    code = f"{without}\nfrom jclip_connectors.cli.main import main\nmain()"
    run = [sys.executable, "-c", code, *command.format(tmp_path / "new").split()]
    done = subprocess.run(run, capture_output=True, text=True, check=False)  # noqa: S603 (ourselves)
    assert done.returncode == 2
    message = done.stderr.splitlines()[-1]
    assert message.startswith(
        "error: onnxruntime is not installed: pip install 'jclip-connectors[onnx]'; the extra 'all'"
    )
    assert "Traceback" not in done.stderr


def test_the_runtime_that_is_asked_for_must_be_installed(photos, tmp_path):
    code = "import sys; sys.modules['torch'] = None\nfrom jclip_connectors.cli.main import main\nmain()"
    command = ["index", str(photos), "--collection", str(tmp_path / "c"), "--model", "nano", "--runtime", "torch"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)  # noqa: S603 (ourselves)
    assert done.returncode == 2
    assert "error: torch is not installed: pip install 'jclip-connectors[local]'" in done.stderr


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_search_by_either_runtime_finds_the_same(photos, collection, runtime):
    query = ("search", "a large yellow star at the top left", "--collection", collection, "--runtime", runtime)
    hits = json.loads(jclip(*query, "--json")[0])
    assert hits[0]["id"] == str(photos / "more" / "star.png")


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_what_the_command_needs_one_line_names_the_extra(package):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom jclip_connectors.cli.main import main\nmain()"
    run = [sys.executable, "-c", code, "models"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)  # noqa: S603 (ourselves)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {package} is not installed: pip install 'jclip-connectors[cli]'\n"


def test_models_are_listed_with_their_licences():
    out, _ = jclip("models")
    for known in KNOWN_MODELS:
        (line,) = [line for line in out.splitlines() if known.name in line]
        assert known.license in line
        assert str(known.embedding_dim) in line


def test_verify_tells_good_from_bad(tmp_path):
    out, _ = jclip("verify", "nano")
    assert all(line.startswith("ok ") for line in out.splitlines())
    write_v2(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"damaged")
    out, _ = jclip("verify", tmp_path / "model", code=1)
    assert "FAILED  tensors" in out


def test_the_demo_asks_only_what_the_model_can_answer(tmp_path):
    out, message = jclip("demo", "--folder", tmp_path / "demo")
    queries = len(demo.QUESTIONS) + 1
    assert f"{queries} of {queries} queries found a right picture first" in message
    assert out.count("✓") >= queries
    page = (tmp_path / "demo" / "contact-sheet.html").read_text(encoding="utf-8")
    assert page.count("✓ right") == out.count("✓")
    assert page.count("<i style=") >= sum(kind == "canvas" for _, _, kind in demo.QUESTIONS)
    assert {language for language, _, _ in demo.QUESTIONS} == {"en", "de", "fr", "es", "zh"}
    assert " 0 of them new" in jclip("demo", "--folder", tmp_path / "demo")[1]


def test_a_long_path_is_cut_in_the_middle_on_a_terminal(monkeypatch):
    hits = [SearchHit(score=1.0, record_id="a", modality="image", metadata={}, uri="/long" * 50 + "/name.png")]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert str(hits[0].uri) in [str(cell) for cell in terminal.hits_table(hits).columns[2].cells]
    monkeypatch.setattr(terminal, "is_terminal", lambda _: True)
    cut = str(next(iter(terminal.hits_table(hits).columns[2].cells)))
    assert len(cut) < 40
    assert cut.startswith("/long")
    assert cut.endswith("/name.png")


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress_bar, "is_terminal", lambda _: True)
    with progress_bar.progress() as show:
        show(0, 200)
        show(50, 200)
    message = capsys.readouterr().err
    assert "50/200" in message
    assert "files/s" in message
    assert re.search(r"\d:\d\d:\d\d left", message)


def test_a_log_gets_a_line_for_a_tenth_of_the_files_or_five_seconds(monkeypatch, capsys):
    clock = iter([0.0, 0.0, 1.0, 2.0, 7.0, 8.0])
    monkeypatch.setattr(progress_bar, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    with progress_bar.progress() as show:
        for done in (0, 100, 104, 105, 1000):
            show(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "0 of 1000 files, -",
        "100 of 1000 files, 100.0 files/s, 0:00:09 left",
        "105 of 1000 files, 15.0 files/s, 0:01:00 left",
        "1000 of 1000 files, 125.0 files/s, 0:00:00 left",
    ]


def test_warnings_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.run(lambda: warnings.warn("3 texts were cut", stacklevel=1))
    assert capsys.readouterr().err == "warning: 3 texts were cut\n"


def test_a_bad_file_is_plain_data():
    assert dataclasses.asdict(BadFile(path="a", error="b")) == {"path": "a", "error": "b"}


def test_markup_in_a_name_is_not_interpreted(tmp_path):
    (tmp_path / "[red]a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "[red]a" / "[bold]b.png")
    jclip("index", tmp_path, "--collection", tmp_path / "c", "--model", "nano")
    assert str(tmp_path / "[red]a" / "[bold]b.png") in jclip("search", "[x]", "--collection", tmp_path / "c")[0]


def test_a_model_is_served_to_those_who_have_a_key(tmp_path):
    (tmp_path / "keys").write_text("one-of-the-keys\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "jclip_connectors.cli.main", "serve", "--model", "nano", "--port", port]
    with Program(*command, "--api-keys", tmp_path / "keys") as server:
        url, give_up = f"http://127.0.0.1:{port}", time.monotonic() + 60
        with httpx.Client(base_url=url) as client:
            while True:
                try:
                    assert client.get("/ready").status_code == 200
                    break
                except httpx.TransportError:
                    assert time.monotonic() < give_up
                    time.sleep(0.1)
            body = {"model": "nano", "input": ["a red circle"], "dimensions": 64}
            assert client.post("/v1/embeddings", json=body).status_code == 401
            answer = client.post("/v1/embeddings", json=body, headers={"Authorization": "Bearer one-of-the-keys"})
        expected = LocalEmbedder(EmbeddingConfig(model="nano", dimensions=64)).embed_texts(["a red circle"])
        np.testing.assert_allclose(answer.json()["data"][0]["embedding"], expected[0], atol=2e-6)
        server.terminate()
        assert server.wait() in (0, -15)
    assert "holds no API key" in refusal("serve", "--api-keys", _empty(tmp_path))


def _empty(folder):
    (folder / "empty").write_text("")
    return folder / "empty"


def test_a_collection_keeps_how_its_pictures_are_resized(tmp_path, monkeypatch):
    folder, collection = tmp_path / "in", tmp_path / "c"
    folder.mkdir()
    Image.effect_noise((700, 600), 99).convert("RGB").save(folder / "a.png")
    common = ("index", folder, "--collection", collection, "--model", "nano")
    jclip(*common, "--resampling", "fast")
    _, said = jclip(*common, "--resampling", "exact", code=2)
    assert "`resampling` 'fast' (now 'exact')" in said
    jclip(*common)
    monkeypatch.setattr(resampling, "cykooz_resizer", None)
    _, said = jclip(*common, code=2)
    assert "needs the package cykooz-resizer" in said


def test_the_limits_on_pictures_can_be_changed_where_the_message_says_so(tmp_path, monkeypatch):
    folder, collection = tmp_path / "in", tmp_path / "c"
    folder.mkdir()
    Image.new("RGB", (100, 80)).save(folder / "a.png")
    common = ("index", folder, "--collection", collection, "--model", "nano")
    _, said = jclip(*common, "--max-pixels", 7999, code=1)
    assert "(--max-pixels of the command)" in said
    _, said = jclip(*common, "--max-bytes", 10, code=1)
    assert "(--max-bytes of the command)" in said
    monkeypatch.setenv("JCLIP_MAX_PIXELS", "7999")
    jclip(*common, code=1)
    _, said = jclip(*common, "--max-pixels", 8000)
    assert "1 indexed" in said
    # A collection has no limits of its own, so a search takes those of the variables too.
    assert "max_pixels" in refusal("search", "--image", folder / "a.png", "--collection", collection)
    jclip("search", "--image", folder / "a.png", "--collection", collection, "--max-pixels", 8000)
