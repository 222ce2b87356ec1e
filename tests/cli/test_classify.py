"""`jclip classify`: labels and templates from files and options, the forms of its output, and pictures that are bad."""

import csv
import io
import json
import os
import sys

import pytest
from PIL import Image

from core_encoder import JinaClipEncoder, LabelClassifier
from core_encoder.image_limits import DEFAULT_LIMITS
from core_encoder.nano.scenes import Scene, draw_scene
from core_encoder.zero_shot import LabelScore
from jclip_connectors.cli import classified_output, terminal
from jclip_connectors.cli.classification import Classified
from jclip_connectors.cli.classified_output import CsvWriter, JsonWriter, Sheet, TableWriter
from tests.cli.test_contact_sheet import Page
from tests.cli.test_main import CIRCLE, STAR, jclip, refusal

LABELS = ["a red circle", "ein gelber Stern", "一个蓝色的心"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("JCLIP_") and name != "JCLIP_CACHE_DIR"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    draw_scene(Scene(objects=(CIRCLE,)), seed=1).image.save(folder / "circle.png")
    draw_scene(Scene(objects=(STAR,)), seed=2).image.save(folder / "more" / "star.png")
    draw_scene(Scene(), seed=3).image.save(folder / "nothing.png")
    (folder / "note.txt").write_text("a red circle")
    return folder


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    return path


def classified(*arguments, code=0):
    out, message = jclip("classify", *arguments, "--model", "nano", code=code)
    return out, message


def scored(folder, templates=("{}",), **options):
    """What the library says of the pictures in the folder."""
    paths = [folder / "circle.png", folder / "nothing.png", folder / "more" / "star.png"]
    classifier = LabelClassifier(JinaClipEncoder.load("nano"), LABELS, templates, **options)
    return [str(path) for path in paths], classifier.classify(paths, probabilities=True, rendering="as_seen")


def test_the_nearest_labels_of_each_picture_are_printed(photos, labels):
    out, message = classified(photos, "--labels", labels)
    paths, found = scored(photos)
    rows = [line.split("  ") for line in out.splitlines() if ".png" in line]
    assert [row[1].strip() for row in rows] == paths
    for line, scores in zip([line for line in out.splitlines() if ".png" in line], found, strict=True):
        assert line.index(scores[0].label) < line.index(f"{scores[0].score:.4f}") < line.index(scores[1].label)
    assert "cosine" in out
    assert "probability" not in out + message
    assert "confidence" not in out + message
    assert "3 pictures, 3 labels; model nano" in message
    assert "3 classified, 0 failed" in message
    assert "left out: 1 file that is no picture" in message


def test_json_is_one_document_with_the_cosines_of_the_library(photos, labels):
    out, _ = classified(photos, "--labels", labels, "--json", "--top", 2)
    paths, found = scored(photos)
    document = json.loads(out)
    assert [entry["path"] for entry in document] == paths
    for entry, scores in zip(document, found, strict=True):
        assert entry["label"] == scores[0].label
        assert [one["label"] for one in entry["scores"]] == [one.label for one in scores[:2]]
        assert [one["cosine"] for one in entry["scores"]] == pytest.approx([one.score for one in scores[:2]], abs=1e-6)
        assert {tuple(one) for one in entry["scores"]} == {("label", "cosine")}


def test_probabilities_are_shown_on_request_and_say_among_what(photos, labels):
    _, found = scored(photos)
    out, _ = classified(photos, "--labels", labels, "--softmax")
    assert "probability among these labels" in out
    document = json.loads(classified(photos, "--labels", labels, "--softmax", "--json")[0])
    for entry, scores in zip(document, found, strict=True):
        shares = [one["probability_among_these_labels"] for one in entry["scores"]]
        assert shares == pytest.approx([one.probability for one in scores], rel=1e-4)
        assert sum(shares) == pytest.approx(1)


def test_csv_has_a_header_and_a_row_for_each_label_of_a_picture(photos, labels):
    paths, found = scored(photos)
    rows = list(
        csv.DictReader(io.StringIO(classified(photos, "--labels", labels, "--csv", "--top", 2, "--softmax")[0]))
    )
    assert list(rows[0]) == ["path", "result", "rank", "label", "cosine", "probability among these labels"]
    assert [row["path"] for row in rows] == [path for path in paths for _ in range(2)]
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    assert [row["label"] for row in rows] == [one.label for scores in found for one in scores[:2]]
    assert [row["result"] for row in rows] == [scores[0].label for scores in found for _ in range(2)]
    cosines = [one.score for scores in found for one in scores[:2]]
    assert [float(row["cosine"]) for row in rows] == pytest.approx(cosines, abs=1e-5)


def test_no_cell_of_the_csv_is_a_formula(photos):
    evil = ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)"]
    options = [word for label in evil for word in ("--label", label)]
    rows = list(csv.DictReader(io.StringIO(classified(photos / "circle.png", *options, "--csv")[0])))
    assert sorted(row["label"] for row in rows) == sorted(f"'{label}" for label in evil)
    assert rows[0]["result"] == rows[0]["label"]


def test_below_a_cosine_a_picture_is_none_of_these(photos, labels, tmp_path):
    out, _ = classified(photos, "--labels", labels, "--where-none", 0.3, "--html", tmp_path / "sheet.html")
    (line,) = [line for line in out.splitlines() if "nothing.png" in line]
    assert "none of these" in line
    assert all(label in line for label in LABELS)  # with their cosines
    document = json.loads(classified(photos, "--labels", labels, "--where-none", 0.3, "--json")[0])
    assert [entry["label"] for entry in document] == [LABELS[0], None, LABELS[1]]
    assert len(document[1]["scores"]) == 3
    rows = csv.DictReader(io.StringIO(classified(photos, "--labels", labels, "--where-none", 0.3, "--csv")[0]))
    assert [row["result"] for row in rows if row["rank"] == "1"] == [LABELS[0], "none of these", LABELS[1]]
    page = Page(tmp_path / "sheet.html")
    headings = [
        f"{LABELS[0]} (1 picture)",
        f"{LABELS[1]} (1 picture)",
        "none of these: no cosine of 0.3 or more (1 picture)",
    ]
    assert [page.text.index(heading) for heading in headings] == sorted(map(page.text.index, headings))
    assert LABELS[2] not in page.text
    assert [image["alt"] for image in page.all("img")] == [
        "Result 1: circle.png",
        "Result 1: star.png",
        "Result 1: nothing.png",
    ]


def test_where_none_includes_the_cosine_itself(photos):
    alone = ("--label", "a red circle", "--json")
    (entry,) = json.loads(classified(photos / "circle.png", *alone)[0])
    cosine = entry["scores"][0]["cosine"]
    assert (
        json.loads(classified(photos / "circle.png", *alone, "--where-none", repr(cosine))[0])[0]["label"] is not None
    )


def test_templates_come_from_a_file_and_from_options(photos, labels, tmp_path):
    (tmp_path / "templates.txt").write_text("a picture of {}\n{c}, drawn\n")
    templates = ["a picture of {}", "{c}, drawn", "look: {}"]
    _, found = scored(photos, templates)
    document = json.loads(
        classified(
            photos, "--labels", labels, "--json", "--templates", tmp_path / "templates.txt", "--template", templates[2]
        )[0]
    )
    for entry, scores in zip(document, found, strict=True):
        assert [one["label"] for one in entry["scores"]] == [one.label for one in scores]
        assert [one["cosine"] for one in entry["scores"]] == pytest.approx([one.score for one in scores], abs=1e-6)


def test_fewer_dimensions_are_the_beginning_of_each_vector(photos, labels):
    _, found = scored(photos, truncate_dim=16)
    document = json.loads(classified(photos, "--labels", labels, "--json", "--dimensions", 16)[0])
    for entry, scores in zip(document, found, strict=True):
        assert [one["cosine"] for one in entry["scores"]] == pytest.approx([one.score for one in scores], abs=1e-6)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_labels_may_have_a_mark_and_the_line_ends_of_windows(photos, tmp_path, encoding):
    (tmp_path / "labels.txt").write_bytes("\r\n".join([*LABELS, ""]).encode(encoding))
    document = json.loads(classified(photos / "circle.png", "--labels", tmp_path / "labels.txt", "--json")[0])
    assert sorted(one["label"] for one in document[0]["scores"]) == sorted(LABELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "line 2 of '{}' is blank: write a label, or remove it"),
        (b"a\nb\n \n", "line 3 of '{}' is blank"),
        (b"a\nb\n\n", "line 3 of '{}' is blank"),
        (b"a\nb\nc\na\n", "line 4 of '{}' is 'a', which is line 1 of '{}' already: remove one of them"),
        (b"caf\xe9\n", "'{}': it is not text in UTF-8: byte 3 is 0xe9"),
        (b"", "'{}': the text is empty"),
    ],
)
def test_a_file_of_labels_that_cannot_be_meant_is_refused_with_its_line(photos, tmp_path, content, message):
    (tmp_path / "labels.txt").write_bytes(content)
    line = refusal("classify", photos, "--model", "nano", "--labels", tmp_path / "labels.txt")
    assert message.replace("{}", str(tmp_path / "labels.txt")) in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "there are no labels: name a file with --labels FILE, or give each with --label TEXT"),
        (["--label", "a", "--label", " "], "--label number 2 is blank"),
        (["--label", "a", "--label", "a"], "--label number 2 is 'a', which is --label number 1 already"),
        (["--label", "a", "--template", "a photo"], "--template number 1 is 'a photo': it needs {} or {c}"),
        (["--label", "none of these", "--where-none", "0.2"], "'none of these' is a label and what --where-none says"),
        (["--label", "a", "--html", "no/such/sheet.html"], "there is no folder 'no/such'"),
        (["--label", "a", "--dimensions", "129"], "`dimensions` is 129, but nano has only 128"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(photos, options, message):
    out, found = jclip("classify", photos, "--model", "nano", *options, code=2)
    assert out == ""
    assert message in found


def test_two_forms_of_output_exclude_each_other(photos):
    _, message = jclip("classify", photos, "--label", "a", "--json", "--csv", code=2)
    assert "--json and --csv exclude each other" in message


def test_a_bad_picture_is_named_and_the_others_are_classified(photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    out, message = classified(tmp_path, photos / "note.txt", photos / "circle.png", "--label", "a", "--json", code=1)
    assert [entry["path"] for entry in json.loads(out)] == [str(photos / "circle.png")]
    for name, why in (
        ("bad.png", "is not an image in an allowed format"),
        ("pipe.png", "it is not a regular file"),
        ("pointer.png", "it is a pointer of Git LFS"),
    ):
        (line,) = [line for line in message.splitlines() if str(tmp_path / name) in line]
        assert why in line
        assert "item " not in line
    assert "1 classified, 3 failed" in message
    assert "3 of 4 files" in message or "4 of 4 files" in message


def test_every_option_of_reading_pictures_is_used(photos):
    _, message = classified(photos / "circle.png", "--label", "a", "--max-bytes", 10, code=1)
    assert "--max-bytes" in message


def test_pictures_are_read_as_a_person_sees_them_unless_an_option_says_otherwise(photos, tmp_path):
    with Image.open(photos / "more" / "star.png") as star:
        exif = star.getexif()
        exif[0x0112] = 3  # upside down
        star.save(tmp_path / "turned.png", exif=exif)

    def cosine(*options):
        (entry,) = json.loads(classified(tmp_path, "--label", "a yellow star at the top left", "--json", *options)[0])
        return entry["scores"][0]["cosine"]

    assert cosine() == cosine("--rendering", "as_seen")
    assert cosine("--rendering", "as_stored") > cosine() + 0.01


def test_a_long_picture_has_a_note(tmp_path):
    Image.new("RGB", (300, 60), "red").save(tmp_path / "long.png")
    _, message = classified(tmp_path, "--label", "a")
    assert "note: 1 picture: more than twice as long as wide" in message


def test_a_folder_without_pictures_gives_an_empty_result(tmp_path):
    (tmp_path / "empty").mkdir()
    assert json.loads(classified(tmp_path / "empty", "--label", "a", "--json")[0]) == []
    assert classified(tmp_path / "empty", "--label", "a", "--csv")[0] == "path,result,rank,label,cosine\n"
    assert "cosine" in classified(tmp_path / "empty", "--label", "a")[0]


def test_tiles_have_no_effect_and_a_note_says_so(photos, monkeypatch):
    monkeypatch.setenv("JCLIP_TILES", "9")
    _, message = classified(photos / "circle.png", "--label", "a")
    assert "JCLIP_TILES has no effect" in message


def result(path, label="cat", score=0.25):
    return Classified(path=path, label=label, scores=[LabelScore(label="cat", score=score)])


def test_results_of_a_pipe_are_written_as_they_come():
    stream = io.StringIO()
    writer = CsvWriter(stream, probabilities=False)
    writer.add(result("/a.png"))
    assert stream.getvalue() == "path,result,rank,label,cosine\n/a.png,cat,1,cat,0.250000\n"
    stream = io.StringIO()
    document = JsonWriter(stream)
    document.add(result("/a.png"))
    assert '"/a.png"' in stream.getvalue()
    document.add(result("/b.png", label=None))
    document.end()
    assert [entry["label"] for entry in json.loads(stream.getvalue())] == ["cat", None]


def test_a_terminal_gets_the_results_after_the_bar(photos, monkeypatch):
    order = []

    class Writer(CsvWriter):
        def add(self, one):
            order.append("result")
            super().add(one)

    monkeypatch.setattr(terminal, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setattr("jclip_connectors.cli.progress_bar.say", lambda *_, **__: order.append("progress"))
    monkeypatch.setattr("jclip_connectors.cli.classify_command.CsvWriter", Writer)
    classified(photos, "--label", "a", "--csv")
    assert order.index("result") > max(at for at, kind in enumerate(order) if kind == "progress")


def test_a_long_table_comes_in_parts(monkeypatch, capsys):
    monkeypatch.setattr(classified_output, "_TABLE_ROWS", 2)
    writer = TableWriter(probabilities=False)
    for at in range(5):
        writer.add(result(f"/{at}.png"))
    writer.end()
    out = capsys.readouterr().out
    assert [out.count(f"/{at}.png") for at in range(5)] == [1] * 5
    assert out.count("cosine") == 3


def test_a_page_keeps_the_nearest_pictures_of_a_label(monkeypatch, tmp_path, photos):
    monkeypatch.setattr(classified_output, "_SHOWN", 2)
    sheet = Sheet(["cat"], least=None)
    for score in (0.1, 0.3, 0.2, 0.3):
        sheet.add(result(str(photos / "circle.png"), score=score))
    sheet.write(tmp_path / "sheet.html", rendering="as_seen", limits=DEFAULT_LIMITS)
    page = Page(tmp_path / "sheet.html")
    assert "cat (4 pictures, the nearest 2)" in page.text
    assert page.text.count("0.3000") == 2


def test_the_names_of_files_and_labels_move_no_cursor(photos, tmp_path):
    (tmp_path / "a\x1b[2J.png").write_bytes((photos / "circle.png").read_bytes())
    out, _ = classified(tmp_path, "--label", "red\x1b[31m")
    assert "\x1b" not in out
    assert "\x1b" not in classified(tmp_path, "--label", "red\x1b[31m", "--csv")[0]
