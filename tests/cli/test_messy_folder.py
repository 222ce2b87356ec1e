"""A folder as people have it is indexed with `jclip index`: nothing is lost in silence, and pictures are shown whole.

`python -m tests.cli.messy_folder FOLDER` makes the folder, for a look at it and at its contact sheet.
"""

import base64
import io
import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.messy_folder import BLUE_AT, FAILED, GROUND_AT, IMAGE, LEFT_OUT, RED_AT, TEXT, make_messy_folder
from tests.cli.test_contact_sheet import Page
from tests.cli.test_main import jclip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The fates that are right, what the command said, its report by path, and the contact sheet."""
    place = tmp_path_factory.mktemp("messy")
    fates = make_messy_folder(place / "photos")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("JCLIP_")]:
            patch.delenv(name)
        _, said = jclip(
            "index", place / "photos", "--collection", place / "c", "--model", "nano", "--report", place / "r", code=1
        )
        hits, _ = jclip(
            "search",
            "a red triangle",
            "--collection",
            place / "c",
            "--limit",
            1000,
            "--duplicates",
            "--json",
            "--html",
            place / "sheet.html",
        )
    reported = [json.loads(line) for line in (place / "r").read_text().splitlines()]
    below = len(str(place / "photos")) + 1
    report = {entry["path"][below:]: entry for entry in reported}
    found = {hit["id"][below:]: hit["modality"] for hit in json.loads(hits)}
    return fates, said, report, found, place / "sheet.html"


def of_kind(fates, kind):
    return {name: said for name, (fate, said) in fates.items() if fate == kind}


def test_the_folder_has_what_people_have(run):
    fates = run[0]
    assert len(fates) >= 120
    assert min(len(of_kind(fates, kind)) for kind in (IMAGE, TEXT, FAILED, LEFT_OUT)) >= 5


def test_every_picture_and_text_is_found(run):
    fates, said, _, found, _ = run
    expected = {name: fate for name, (fate, _) in fates.items() if fate in (IMAGE, TEXT)}
    assert found == expected
    counts = re.search(r"(\d+) indexed, (\d+) moved or copied, 0 unchanged, (\d+) failed", said)
    assert counts is not None
    indexed, copied, failed = map(int, counts.groups())  # some files are equal
    assert (indexed + copied, failed) == (len(expected), len(of_kind(fates, FAILED)))


def test_every_file_that_failed_is_named_with_its_reason(run):
    fates, _, report, _, _ = run
    failed = of_kind(fates, FAILED)
    assert {name for name, entry in report.items() if "error" in entry} == set(failed)
    for name, said in failed.items():
        assert said in report[name]["error"], name


def test_everything_that_was_left_out_is_listed_and_counted(run):
    fates, said, report, _, _ = run
    left_out = of_kind(fates, LEFT_OUT)
    listed = {name: entry["left_out"] for name, entry in report.items() if "left_out" in entry}
    for name, kind in left_out.items():
        # A folder that is left out stands for what is in it.
        assert listed.get(name, listed.get(str(Path(name).parent))) == kind, name
    (line,) = [line for line in said.splitlines() if line.startswith("left out: ")]
    for kind in set(left_out.values()):
        assert f"{sum(value == kind for value in listed.values())} {kind}" in line


def test_files_of_which_only_a_part_counts_are_told(run):
    fates, said, report, _, _ = run
    notes = {name: said for name, said in of_kind(fates, IMAGE).items() if said not in ("", "grey")}
    assert {name for name, entry in report.items() if "note" in entry} == set(notes)
    for name, note in notes.items():
        assert note in report[name]["note"], name
        assert note in said


def test_every_picture_is_shown_upright_and_whole_and_nothing_is_black(run):
    fates, _, _, found, sheet = run
    page = Page(sheet)
    pictures = [name for name, modality in found.items() if modality == "image"]
    assert len(page.all("img")) == len(pictures)
    assert b"cannot be read" not in sheet.read_bytes()
    wrong = []
    for name, element in zip(pictures, page.all("img"), strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(element["src"].partition(",")[2]))).convert("RGB")
        problem = what_is_wrong(shown, grey=fates[name][1] == "grey")
        if problem:
            wrong.append((name, problem))
    assert wrong == []


def what_is_wrong(shown, *, grey):
    def colour(at):
        return shown.getpixel((round(at[0] * shown.width), round(at[1] * shown.height)))

    red, blue, ground = map(colour, (RED_AT, BLUE_AT, GROUND_AT))
    problems = []
    if min(ground) < 200:
        problems.append(f"the ground is {ground}")
    if max(sum(red), sum(blue)) > 3 * 160:
        problems.append(f"the figures are {red} and {blue}")
    if not grey and not red[0] > red[2] + 60:
        problems.append(f"red is {red}")
    if not grey and not blue[2] > blue[0] + 60:
        problems.append(f"blue is {blue}")
    return problems
