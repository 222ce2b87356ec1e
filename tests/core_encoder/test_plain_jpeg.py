"""An ordinary JPEG comes as an array, with the pixels and the errors that Pillow gives; others come from Pillow."""

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageCms

from core_encoder import jpeg
from core_encoder.errors import ImageDecodeError
from core_encoder.image_input import read_image, read_picture
from core_encoder.image_limits import ImageLimits
from tests.colour_profiles import rgb_profile


def photograph(width=97, height=61, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, **options):
    with io.BytesIO() as file:
        image.save(file, "JPEG", **{"quality": 85, **options})
        return file.getvalue()


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def is_array(loaded):
    return isinstance(loaded.picture, np.ndarray)


def same(data, *, rendering="as_seen", limits=None):
    """Read both ways, compare, and give the faster one."""
    options = {"index": 0, "rendering": rendering, "limits": ImageLimits() if limits is None else limits}
    careful, fast = read_image(data, **options), read_picture(data, **options)
    assert not is_array(careful)
    np.testing.assert_array_equal(np.asarray(fast.picture), np.asarray(careful.image))
    np.testing.assert_array_equal(np.asarray(fast.image), np.asarray(careful.image))
    assert fast.full_size == careful.full_size
    assert fast.notes == careful.notes
    return fast


@pytest.mark.parametrize("rendering", ["as_seen", "as_stored"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(97, 61), (64, 64), (1, 40), (33, 2)])
def test_an_ordinary_jpeg_is_an_array_of_pillows_pixels(size, subsampling, rendering):
    assert is_array(same(encoded(photograph(*size), subsampling=subsampling), rendering=rendering))


def test_colours_that_were_stored_as_rgb_are_read_as_rgb():
    assert is_array(same(encoded(photograph(), keep_rgb=True)))


@pytest.mark.parametrize("value", range(10))
@pytest.mark.parametrize("rendering", ["as_seen", "as_stored"])
def test_it_is_turned_as_pillow_turns_it(value, rendering):
    assert is_array(same(encoded(photograph(), exif=orientation(value)), rendering=rendering))


@pytest.mark.parametrize("rendering", ["as_seen", "as_stored"])
def test_a_profile_changes_its_colours_before_it_is_turned(rendering):
    data = encoded(photograph(), icc_profile=rgb_profile(), exif=orientation(6))
    loaded = same(data, rendering=rendering)
    assert is_array(loaded) == (rendering == "as_stored")


def test_a_profile_of_srgb_leaves_it_an_array():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert is_array(same(encoded(photograph(), icc_profile=profile)))


@pytest.mark.parametrize(
    "data",
    [
        encoded(photograph().convert("L")),
        encoded(photograph().convert("CMYK")),
        encoded(photograph(), progressive=True),
    ],
    ids=["grey", "CMYK", "progressive"],
)
def test_grey_cmyk_and_progressive_ones_come_from_pillow(data):
    assert not is_array(same(data))


@pytest.mark.parametrize(
    "limits",
    [ImageLimits(max_pixels=97 * 61 - 1), ImageLimits(max_decode_s=1)],
    ids=["to be shrunk", "little time"],
)
def test_one_that_could_take_too_long_is_never_decoded_in_one_call(limits, monkeypatch):
    monkeypatch.setattr(jpeg, "_PIXELS_A_SECOND", 97 * 61 - 1)
    calls = []
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *args: calls.append(args))
    assert not is_array(read_picture(encoded(photograph()), index=0, limits=limits))
    assert calls == []


def test_a_side_over_the_limit_is_refused_as_before():
    with pytest.raises(ImageDecodeError, match="max_side_px"):
        read_picture(encoded(photograph()), index=0, limits=ImageLimits(max_side_px=96))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_one_is_refused_with_pillows_words(kept):
    data = encoded(photograph(400, 300))
    data = data[: int(len(data) * kept)]
    with pytest.raises(ImageDecodeError) as careful:
        read_image(data, index=3)
    with pytest.raises(ImageDecodeError, match=re.escape(str(careful.value))):
        read_picture(data, index=3)


def test_one_that_lacks_only_its_end_mark_is_mended_as_before():
    loaded = same(encoded(photograph(400, 300))[:-2])
    assert loaded.notes != ()


def test_bytes_behind_the_end_change_nothing():
    same(encoded(photograph()) + b"\0" * 500 + b"a video, for instance")


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_read_as_pillow_reads_it(seed):
    data = bytearray(encoded(photograph(200, 150)))
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(data) // 2, len(data) - 2, 3):
        data[place] = rng.integers(0, 256)
    try:
        read_image(bytes(data), index=0)
    except ImageDecodeError as error:
        with pytest.raises(ImageDecodeError, match=re.escape(str(error))):
            read_picture(bytes(data), index=0)
    else:
        same(bytes(data))


def test_without_the_library_everything_comes_from_pillow(monkeypatch):
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert not is_array(same(encoded(photograph())))
