"""JPEG files that are huge, and files without an end mark."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from core_encoder.errors import ImageLimitError
from core_encoder.image_input import load_image, read_image
from core_encoder.image_limits import ImageLimits
from core_encoder.rendering import Rendering
from tests.pictures import encoded, refusal

NOISE = np.random.default_rng(3).integers(0, 256, (96, 120, 3), dtype=np.uint8)
PHOTO = Image.fromarray(NOISE).filter(ImageFilter.GaussianBlur(3)).resize((300, 200), Image.Resampling.BICUBIC)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grey": {},
    "cmyk": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 7},
    "full colour": {"subsampling": 0},
}


def jpeg(kind, image=PHOTO, **options):
    mode = {"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB")
    return encoded(image.convert(mode), "JPEG", quality=95, **KINDS[kind], **options)


# The end mark


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_without_its_end_mark_is_taken_with_a_note(kind, lost):
    data = jpeg(kind)
    loaded = read_image(data[:-lost], index=0)
    assert [note.kind for note in loaded.notes] == ["end_missing"]
    np.testing.assert_array_equal(np.asarray(loaded.image), np.asarray(load_image(data, index=0)))
    assert read_image(data, index=0).notes == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.98])
def test_a_jpeg_without_some_of_its_pixels_is_refused(kind, part):
    data = jpeg(kind)
    assert "truncated" in refusal(data[: int(len(data) * part)])


def test_a_jpeg_that_ends_at_any_restart_mark_is_refused():
    data = jpeg("restarts")
    marks = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    assert len(marks) > 20
    for mark in marks[:: len(marks) // 10]:
        for end in (mark, mark + 1, mark + 2):
            assert "truncated" in refusal(data[:end])


def test_a_progressive_jpeg_that_lacks_whole_scans_is_refused():
    data = jpeg("progressive")
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 4
    for scan in scans[1:]:
        assert "truncated" in refusal(data[:scan])


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_jpeg_whose_rest_is_zeros_is_refused(part):
    data = jpeg("plain")
    kept = int(len(data) * part)
    refusal(data[:kept] + bytes(len(data) - kept))


def test_a_flat_picture_that_lacks_half_is_refused():
    data = encoded(Image.new("RGB", (640, 480)), "JPEG")
    assert read_image(data[:-2], index=0).notes
    start = data.index(b"\xff\xda") + 14
    assert "truncated" in refusal(data[: (start + len(data)) // 2])


# Shrunk while decoding


@pytest.mark.parametrize("rendering", ["as_seen", "as_stored"])
@pytest.mark.parametrize("kind", ["plain", "grey", "cmyk", "full colour"])
@pytest.mark.parametrize(("most", "scale"), [(300 * 200 - 1, 2), (150 * 100 - 1, 4), (75 * 50 - 1, 8)])
def test_a_huge_jpeg_is_shrunk_while_it_is_decoded(rendering, kind, most, scale):
    loaded = read_image(jpeg(kind), index=0, limits=ImageLimits(max_pixels=most), rendering=rendering)
    assert loaded.image.size == (-(-300 // scale), -(-200 // scale))
    assert loaded.full_size == (300, 200)
    assert [note.kind for note in loaded.notes] == ["shrunk"]
    whole = load_image(jpeg(kind), index=0, rendering=rendering).reduce(scale)
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(loaded.image)).mean() < 3


def test_at_the_limit_a_jpeg_is_decoded_whole():
    loaded = read_image(jpeg("plain"), index=0, limits=ImageLimits(max_pixels=300 * 200))
    assert (loaded.image.size, loaded.notes) == ((300, 200), ())


def test_a_jpeg_of_several_scans_is_shrunk_up_to_twice_the_limit():
    """Its decoder holds the coefficients of the whole picture."""
    assert read_image(jpeg("progressive"), index=0, limits=ImageLimits(max_pixels=30_000)).image.size == (150, 100)
    assert "`max_pixels`" in refusal(jpeg("progressive"), limits=ImageLimits(max_pixels=29_999))
    separate = jpeg("plain").replace(b"\xff\xda\0\x0c\3", b"\xff\xda\0\x08\1", 1)
    assert "`max_pixels`" in refusal(separate, limits=ImageLimits(max_pixels=29_999))


def test_a_jpeg_that_is_too_large_even_for_that_is_refused():
    with pytest.raises(ImageLimitError, match=r"ImageLimits\(max_pixels=\.\.\.\)"):
        load_image(jpeg("plain"), index=0, limits=ImageLimits(max_pixels=38 * 25 - 1))


def test_boxes_of_a_shrunk_picture_are_in_pixels_of_the_whole_rendering():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg("plain", exif=exif)
    cases: tuple[tuple[Rendering, tuple[int, int]], ...] = (("as_seen", (200, 300)), ("as_stored", (300, 200)))
    for rendering, size in cases:
        loaded = read_image(data, index=0, limits=ImageLimits(max_pixels=15_000), rendering=rendering)
        assert loaded.full_size == size
        box = np.array([[0, 0, *loaded.image.size], [10, 20, 30, 40]])
        assert loaded.full_boxes(box).tolist() == [[0, 0, *size], [20, 40, 60, 80]]
