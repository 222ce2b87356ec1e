"""`jclip search`: one modality, pages, a smallest score, and files of equal content."""

import json
import shutil

import pytest

from core_encoder.nano.scenes import Scene, draw_scene
from tests.cli.test_main import CIRCLE, STAR, jclip


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    draw_scene(Scene(objects=(CIRCLE,)), seed=1).image.save(folder / "circle.png")
    for at in range(4):
        shutil.copy(folder / "circle.png", folder / f"circle copy {at}.png")
    draw_scene(Scene(objects=(STAR,)), seed=2).image.save(folder / "star.png")
    (folder / "note.txt").write_text("a red circle")
    jclip("index", folder, "--collection", folder / "c.jclip", "--model", "nano")
    return folder / "c.jclip"


def found(indexed, *arguments):
    hits = json.loads(jclip("search", "a red circle", "--collection", indexed, "--json", *arguments)[0])
    return [hit["metadata"]["name"] for hit in hits], hits


def test_files_of_equal_content_are_one_result_that_says_how_many_there_are(indexed):
    names, hits = found(indexed)
    assert names == ["note.txt", "circle copy 0.png", "star.png"]
    assert len(hits[1]["duplicates"]) == 4
    assert hits[1]["content_hash"].startswith("sha256:")
    out, _ = jclip("search", "a red circle", "--collection", indexed)
    (line,) = [line for line in out.splitlines() if "circle" in line and ".png" in line]
    assert line.rstrip().endswith("(+4 equal)")


def test_all_of_them_are_shown_on_request(indexed):
    names, hits = found(indexed, "--duplicates")
    assert len(names) == 7
    assert all(hit["duplicates"] == [] for hit in hits)


def test_one_modality_a_page_and_a_smallest_score_can_be_asked_for(indexed):
    assert found(indexed, "--modality", "text")[0] == ["note.txt"]
    assert found(indexed, "--modality", "image")[0] == ["circle copy 0.png", "star.png"]
    names, hits = found(indexed)
    assert found(indexed, "--offset", 1, "--limit", 1)[0] == names[1:2]
    least = sorted(hit["score"] for hit in hits)[1]
    assert len(found(indexed, "--min-score", least - 1e-6)[0]) == 2
    assert [hit["rank_score"] is None for hit in found(indexed, "--modality", "image")[1]] == [True, True]
    assert [hit["rank_score"] is None for hit in hits] == [False] * 3
