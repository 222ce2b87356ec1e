"""Ids: one id is one UUID in every process, and an id made of an item follows what the item is."""

import hashlib
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import record_uuid
from tests.colour_profiles import rgb_profile


def test_an_id_has_the_same_uuid_in_every_process():
    here = record_uuid("ü/🚲")
    code = "from jclip_connectors.port import record_uuid; print(record_uuid('ü/🚲'))"
    command = [sys.executable, "-X", "utf8", "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 (our own code)
    assert uuid.UUID(there.strip()) == here == uuid.UUID("23798a44-f393-5441-827d-c1dccc8483d9")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, min_size=2, max_size=2))
def test_two_ids_have_two_uuids(pair):
    assert record_uuid(pair[0]) != record_uuid(pair[1])


def images_like(pixels):
    """One array's bytes as another shape, another type, and as images that show something else."""
    half = pixels.shape[0] // 2
    yield pixels
    yield pixels.reshape(half, pixels.shape[1] * 2, 3)
    yield pixels.view(np.int8)
    yield Image.fromarray(pixels)
    yield Image.fromarray(pixels.reshape(half, pixels.shape[1] * 2, 3))


def palette_image(colours):
    image = Image.new("P", (4, 2))
    image.putpalette(colours)
    return image


def test_images_of_the_same_bytes_that_show_something_else_have_ids_of_their_own():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    images = [*images_like(pixels), palette_image([255, 0, 0]), palette_image([0, 0, 255])]
    ids = [describe_image(image)["record_id"] for image in images]
    assert len(set(ids)) == len(ids)
    assert all(record_id.startswith("image-") for record_id in ids)


def test_an_image_has_one_id_however_often_it_is_described():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for image in images_like(pixels):
        assert describe_image(image) == describe_image(image.copy())
    red = palette_image([255, 0, 0])
    assert describe_image(red)["record_id"] == describe_image(red.convert("RGB"))["record_id"]


def variants_of(picture):
    """The same pixels, which a viewer shows in other ways."""
    yield picture
    for orientation in (3, 6):
        turned = picture.copy()
        turned.getexif()[0x0112] = orientation
        yield turned
    for profile in (rgb_profile(), rgb_profile(gamma=2.2)):
        coloured = picture.copy()
        coloured.info["icc_profile"] = profile
        yield coloured
    for opacity in (0, 128):
        clear = picture.copy()
        clear.putalpha(opacity)
        yield clear
    keyed = picture.copy()
    keyed.info["transparency"] = (0, 1, 2)
    yield keyed


def test_pixels_that_a_viewer_shows_in_another_way_have_another_id():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    ids = [describe_image(image)["record_id"] for image in variants_of(Image.fromarray(pixels))]
    assert len(set(ids)) == len(ids)
    scans = [Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (1000, 2000)]
    assert describe_image(scans[0])["record_id"] != describe_image(scans[1])["record_id"]
    palettes = [palette_image([255, 0, 0]) for _ in range(3)]
    for image, transparency in zip(palettes, (0, b"\x80", None), strict=True):
        if transparency is not None:
            image.info["transparency"] = transparency
    assert len({describe_image(image)["record_id"] for image in palettes}) == 3


def test_the_hash_of_a_plain_picture_stays_what_earlier_versions_wrote():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("L"), palette_image([1, 2, 3])):
        expected = hashlib.sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).hexdigest()
        assert describe_image(image)["content_hash"] == f"sha256:{expected}"


@pytest.mark.parametrize("scheme", ["data:", "DATA:"])
def test_an_image_in_a_data_uri_is_hashed_and_the_uri_is_not_kept(scheme):
    uri = f"{scheme}image/png;base64,AAAA"
    described = describe_image(uri)
    assert described["uri"] is None
    assert described["content_hash"] == "sha256:" + hashlib.sha256(uri.encode()).hexdigest()
    assert "AAAA" not in str(described)


def test_a_text_and_an_image_of_the_same_bytes_have_one_hash_and_two_ids():
    text, image = describe_text("abc"), describe_image(b"abc")
    assert text["content_hash"] == image["content_hash"]
    assert text["record_id"] != image["record_id"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        described = reader.submit(describe_image, pipe)
        try:
            with pytest.raises(EmbedInputError, match="there is no file"):
                described.result(timeout=20)
        finally:
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # whoever waits for the pipe reads its end
